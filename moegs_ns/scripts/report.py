"""`moegs report`: scores trained runs on their held-out views: a table, files, a page."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from moegs_ns.launch.cli_args import output_option
from moegs_ns.models.expert_sources import expert_run, split_windows, windows_of
from moegs_ns.reports.report import report_paths, report_runs
from moegs_ns.runs.checkpoint import Run, open_run


@dataclass
class Report:
    """Score runs on their held-out views; prints a table and can write it, or a whole page."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """config.yml or folder of each run; runs of windows joined by + are scored as one expert."""
    output_path: Annotated[Path | None, output_option("--output-path")] = None
    """What to write, by its ending: report.html, one page with plots, pictures and videos, which
    needs no network; table.json or table.md. The table is written as JSON and Markdown beside a
    page. A name without an ending is a folder for all three."""

    def main(self) -> None:
        """Score every run, print and write."""
        if not self.runs:
            raise ValueError("moegs report expects trained runs, got none; name their config.yml.")
        report_paths(self.output_path)
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
