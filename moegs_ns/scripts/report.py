"""`moegs report`: scores trained runs on their held-out views and prints one table."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from moegs_ns.evaluation.tables import check_table
from moegs_ns.launch.cli_args import output_option
from moegs_ns.models.expert_sources import expert_run, split_windows, windows_of
from moegs_ns.reports.scores import report_runs
from moegs_ns.runs.checkpoint import Run, open_run


@dataclass
class Report:
    """Score runs on their held-out views; prints a table and can write it."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """config.yml or folder of each run; runs of windows joined by + are scored as one expert."""
    output_path: Annotated[Path | None, output_option("--output-path")] = None
    """JSON file to write the table to; a Markdown table is written beside it."""

    def main(self) -> None:
        """Score every run, print and write."""
        if not self.runs:
            raise ValueError("moegs report expects trained runs, got none; name their config.yml.")
        check_table(self.output_path)
        report_runs([joined_runs(path) for path in self.runs], self.output_path)


def joined_runs(path: Path) -> tuple[Run, ...]:
    """The run at a path, or those of the windows between its +, in order of time.

    Raises:
        FileNotFoundError: there is none.
        ValueError: windows do not follow each other, or are of mixtures.
    """
    paths = split_windows(str(path))
    if len(paths) == 1:
        return (open_run(path),)
    return windows_of([expert_run(one) for one in paths]).runs
