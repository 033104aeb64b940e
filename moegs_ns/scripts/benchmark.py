"""`moegs benchmark`: how fast a run is, beside other ways to compute the same."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from nerfstudio.utils.rich_utils import CONSOLE
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from moegs_ns.evaluation.tables import Row
from moegs_ns.launch.cli_args import output_option
from moegs_ns.launch.option_limits import check_number
from moegs_ns.reports.benchmark.charts import save_frames, save_steps
from moegs_ns.reports.benchmark.frames import frame_rows, frames_of
from moegs_ns.reports.benchmark.steps import measured_steps
from moegs_ns.reports.benchmark.subjects import Measured, of_random_gaussians, of_run
from moegs_ns.reports.benchmark.synthetic import methods_of
from moegs_ns.reports.scores import write_table
from moegs_ns.runs.checkpoint import open_run

FEWEST = 10
"""Gaussians of an expert at least."""
TEXT = ("what", "part", "reason")
FRAME_COLUMNS = ("what", "fps", "median_ms", "min_ms", "max_ms", "n", "times_the_frame", "peak_mb")
STEP_COLUMNS = ("what", "part", "median_ms", "min_ms", "max_ms", "n", "peak_mb")


@dataclass
class Benchmark:
    """Time frames and training steps of a run, beside other ways to compute them."""

    run: Annotated[Path | None, tyro.conf.Positional] = None
    """config.yml or folder of the run; none with --synthetic."""
    synthetic: int | None = None
    """Measure this many random Gaussians of each of --experts instead of a run."""
    experts: tuple[str, ...] = ()
    """Methods of single experts for --synthetic, such as stg or 4dgaussians; several are mixed."""
    size: tuple[int, int] = (1352, 1014)
    """Width and height of the images of --synthetic, in pixels."""
    times: int = 30
    """Times at which every held-out camera is drawn; each frame shows another."""
    steps: int = 100
    """Training steps that are timed, whole and by part; 0 for none."""
    seconds: float = 15.0
    """Time for all frames, and for the steps of each training, at most: fewer are timed where they
    are slow, and the tables tell how many."""
    output_dir: Annotated[Path | None, output_option()] = None
    """Folder for tables (JSON and Markdown) and plots (PNG)."""
    seed: int = 0
    """Seed of the random Gaussians."""

    def main(self) -> None:
        """Measure, print and write.

        Raises:
            FileNotFoundError: there is no such run.
            ValueError: options contradict each other, or one is out of range.
        """
        self._check()
        measured = self._measured()
        views = frames_of(measured.cameras, self.times)
        rows = frame_rows(measured.subject, views, self.seconds)
        self._show("frames", rows, FRAME_COLUMNS, save_frames)
        if self.steps == 0:
            return
        rows = [
            row
            for name, set_up in measured.trainings.items()
            for row in measured_steps(name, set_up, self.steps, self.seconds)
        ]
        self._show("steps", rows, STEP_COLUMNS, save_steps)

    def _check(self) -> None:
        if (self.run is None) == (self.synthetic is None):
            given = "both" if self.run is not None else "neither"
            raise ValueError(
                f"moegs benchmark expects a trained run or --synthetic, got {given}; name a "
                "config.yml, or a number of Gaussians as in --synthetic 150000 --experts stg."
            )
        if self.run is not None and self.experts:
            raise ValueError(
                f"--experts of moegs benchmark belongs to --synthetic, but the run {self.run} is "
                "named, which has its own; leave one out."
            )
        if self.synthetic is not None and self.synthetic < FEWEST:
            raise ValueError(
                f"--synthetic expects at least {FEWEST} Gaussians of each expert, got "
                f"{self.synthetic}; trained experts have some 100000."
            )
        for name, smallest in {"times": 1, "steps": 0}.items():
            if getattr(self, name) < smallest:
                raise ValueError(
                    f"--{name} expects at least {smallest}, got {getattr(self, name)}; leave it "
                    "out for the default."
                )
        if min(self.size) < 1:
            raise ValueError(
                f"--size expects a width and a height of at least 1 pixel, got {self.size[0]} and "
                f"{self.size[1]}; leave it out for 1352 1014."
            )
        check_number("--seconds", "seconds", self.seconds)
        check_number("--seed", "seed", self.seed)

    def _measured(self) -> Measured:
        if self.run is not None:
            return of_run(open_run(self.run))
        assert self.synthetic is not None
        return of_random_gaussians(methods_of(self.experts), self.synthetic, self.size, self.seed)

    def _show(
        self,
        name: str,
        rows: list[Row],
        columns: Sequence[str],
        save: Callable[[Path, Sequence[Row]], None],
    ) -> None:
        """Print a table and write it, with a plot beside it, where a folder is named."""
        print_rows(name.capitalize(), rows, columns)
        if self.output_dir is None:
            return
        path = self.output_dir / f"{name}.json"
        write_table(path, rows)
        picture = path.with_suffix(".png")
        if any(row["median_ms"] is not None for row in rows):
            save(picture, rows)
        CONSOLE.print(f"{path}, .md and .png: {len(rows)} rows", soft_wrap=True)


def print_rows(title: str, rows: Sequence[Row], columns: Sequence[str]) -> None:
    """A table on the terminal, and below it why figures are missing."""
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in columns:
        header = name.replace("_", " ")  # Headers wrap at spaces.
        table.add_column(header, justify="left" if name in TEXT else "right", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row[name]) for name in columns))
    CONSOLE.print(table)
    for row in rows:
        if row["median_ms"] is None:
            CONSOLE.print(f"{row['what']}: {escape(row['reason'])}", soft_wrap=True)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))
