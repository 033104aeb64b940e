"""What all benchmarks share: the table that they write, row by row, beside the command."""

import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nerfstudio.configs.method_configs import all_methods

from benchmarks import ROOT
from moegs_ns.evaluation.tables import Row, write_results

RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True, kw_only=True)
class Table:
    """A benchmark that writes one table."""

    name: str
    """Name of the results file."""
    results_dir: Path = RESULTS
    """Folder of the table."""

    def rows(self) -> Iterator[Row | None]:
        """Measure row by row; None stands for a row that could not be made."""
        raise NotImplementedError

    def main(self) -> None:
        """Write the table anew after every row, so that nothing is lost if the time runs out, and
        print it at the end."""
        known = []
        for row in self.rows():
            if row is not None:
                known.append(row)
                self.write(known)
        if known:
            print((self.results_dir / f"{self.name}.md").read_text(), flush=True)

    def write(self, rows: Sequence[Row], suffix: str = "") -> None:
        """Write the rows as JSON and, beside it, as a Markdown table."""
        rows = [with_recipe(row) for row in rows]
        write_results(self.results_dir / f"{self.name}{suffix}.json", rows, command())


def with_recipe(row: Row) -> Row:
    """A row that also says whose numbers its method has, where it names one: "defaults" of this
    project or "published" (docs/defaults.md)."""
    config = all_methods.get(str(row.get("method")))
    if config is None or row.get("recipe"):
        return row
    return row | {"recipe": getattr(config, "recipe", "defaults")}


def command() -> str:
    """The command line of this process, relative to the root of the checkout."""
    script, args = Path(sys.argv[0]).resolve(), sys.argv
    if script.is_relative_to(ROOT / "benchmarks"):
        module = ".".join(script.relative_to(ROOT).with_suffix("").parts)
        args = ["-m", module, *sys.argv[1:]]
    return shlex.join(["python", *args])
