"""All inputs by their kinds, and their table: `make inputs` writes docs/inputs.md."""

import sys
import tempfile
from pathlib import Path

from inputs import calibrations, captures, options, photos, points, recordings, rendering, runs
from inputs.case import Case
from inputs.checking import tried
from inputs.running import STARTS

OF_SCENES: dict[str, list[Case]] = {
    "Recordings and clocks": recordings.CASES,
    "Photos and masks": photos.CASES,
    "Calibrations": calibrations.CASES,
    "Captures with masks": captures.CASES,
    "Points": points.CASES,
}
OF_COMMANDS: dict[str, list[Case]] = {
    "Options": options.CASES,
    "Runs, checkpoints and configs": runs.CASES,
    "Camera paths, exports, disks and places": rendering.CASES,
}
ALL = OF_SCENES | OF_COMMANDS
PAGE = Path(__file__).parents[3] / "docs" / "inputs.md"
INTRODUCTION = """\
# Bad and odd inputs

What was tried, how the command ends and what it says: exit status 0 where the input is accepted (a
warning may say something), 1 where it is refused, 2 where the command line cannot be read. Commands
are typed in a folder with small scenes (`photos`, `videos`, `dome`, `dnerf`, `stills`, `iphone`, `zju`,
`endo`) and runs (`expert`, `other`, `router`); trainings of accepted inputs are stopped where they would begin.
[Tests](../tests/inputs) try all of them, and that nothing is left half-written, none takes longer
than 20 seconds and none shows a traceback. `make inputs` writes this page.
"""


LONGEST = 300
"""Characters of a sentence on the page."""


def row(case: Case, sentence: str) -> str:
    """A line of the table."""
    said = sentence if case.status == 1 else "" if case.says == STARTS else case.says
    cells = (case.name, f"`{case.command}`", str(case.status), shortened(said) or "-")
    return "| " + " | ".join(map(escaped, cells)) + " |"


def shortened(text: str) -> str:
    """On one line, cut where it is very long."""
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def escaped(cell: str) -> str:
    """As a cell of a table in Markdown, whose characters mean nothing else."""
    for character in ("|", "<", "["):
        cell = cell if cell.startswith("`") else cell.replace(character, f"\\{character}")
    return cell.replace("|", "\\|") if cell.startswith("`") else cell


def unescaped(cell: str) -> str:
    """The inverse of `escaped`."""
    return cell.replace("\\", "")


def read_page() -> dict[tuple[str, str], tuple[str, str]]:
    """Status and sentence of every input on the page, by its name and command."""
    found = {}
    for line in PAGE.read_text().splitlines():
        if line.startswith("| ") and not line.startswith(("| input", "| ---")):
            name, command, status, said = map(unescaped, line[2:-2].split(" | "))
            found[name, command.strip("`")] = status, said
    return found


def write_page() -> None:
    """Try every input, and write what was said."""
    from inputs.folders import make_base

    parts = [INTRODUCTION, f"{sum(map(len, ALL.values()))} inputs.\n"]
    with tempfile.TemporaryDirectory() as folder:
        base = make_base(Path(folder))
        for kind, cases in ALL.items():
            parts.append(
                f"## {kind}\n\n| input | command | status | said |\n| --- | --- | --- | --- |"
            )
            parts += [row(case, tried(case, base)) for case in cases]
            parts.append("")
    PAGE.write_text("\n".join(parts))
    sys.stdout.write(f"{PAGE}\n")


if __name__ == "__main__":
    write_page()
