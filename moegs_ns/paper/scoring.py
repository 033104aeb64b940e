"""Scores of runs in processes of their own, kept beside the runs and found again there."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from nerfstudio.utils.rich_utils import CONSOLE

from moegs_ns.evaluation.perceptual import lpips_weights_path
from moegs_ns.evaluation.tables import Row
from moegs_ns.launch.jobs import check_not_ending, run_module, run_side_by_side
from moegs_ns.runs.checkpoint import TRAINING_RECORD

SCORES = "scores.json"
"""File in a run's folder: what `moegs report` says of it."""
WAYS = "ways"
"""Folder in a run's folder: what `moegs benchmark` says of it."""


def report(folder: Path, index: int) -> Row:
    """What `moegs report` says of a run, in a process of its own on the GPU dealt to `index`.

    Raises:
        RuntimeError: it failed; what it printed is beside its table in the run's folder.
    """
    table = folder / SCORES
    args = ["report", str(folder), "--output-path", str(table)]
    [row] = _measured(folder, index, args, table)
    return row


def measure_ways(folder: Path, index: int) -> list[Row]:
    """Rows of `moegs benchmark` for the frames of a run; see `report`."""
    args = ["benchmark", str(folder), "--steps", "0", "--output", str(folder / WAYS)]
    return _measured(folder, index, args, folder / WAYS / "frames.json")


def _measured(folder: Path, index: int, args: Sequence[str], table: Path) -> list[Row]:
    log = table.with_suffix(".log")
    if run_module(["moegs_ns.scripts.main", *args], index, log) != 0:
        raise RuntimeError(f"Scoring {folder} failed; see {log}.")
    return json.loads(table.read_text())["rows"]


def score_all(folders: Sequence[Path], timed: Sequence[Path]) -> None:
    """Score runs that have no scores yet, one on each GPU at a time, and time all ways to draw some
    of them. A failure is told, and costs no other run its scores."""
    jobs: list[tuple[Path, Callable[[Path, int], object]]] = [
        *((folder, report) for folder in folders if score_of(folder) is None),
        *((folder, measure_ways) for folder in timed if not fps_of_ways(folder)),
    ]

    def run(number: int, folder: Path, measure: Callable[[Path, int], object], slot: int) -> None:
        CONSOLE.print(f"Scoring {folder} ({number} of {len(jobs)})", soft_wrap=True)
        try:
            measure(folder, slot)
        except RuntimeError as error:
            check_not_ending()
            CONSOLE.print(f"Left out of the tables: {error}", soft_wrap=True, markup=False)

    run_side_by_side([partial(run, number, *job) for number, job in enumerate(jobs, start=1)])


def score_of(folder: Path) -> Row | None:
    """The scores of a run, see `Score`; None if it has none (nothing may be held out), was trained
    after them, or LPIPS can be measured by now."""
    rows = _rows(folder, folder / SCORES)
    if not rows or rows[0]["psnr"] is None:
        return None
    return None if rows[0]["lpips"] is None and lpips_weights_path().is_file() else rows[0]


def fps_of_ways(folder: Path) -> dict[str, float]:
    """Frames a second of each way to draw a run that was measured; empty if none was."""
    rows = _rows(folder, folder / WAYS / "frames.json")
    return {row["what"]: row["fps"] for row in rows if row["fps"] is not None}


def _rows(folder: Path, table: Path) -> list[Row]:
    """The rows of a table that is newer than the training of its run."""
    record = folder / TRAINING_RECORD
    if not table.is_file() or not record.is_file():
        return []
    if table.stat().st_mtime < record.stat().st_mtime:
        return []
    return json.loads(table.read_text())["rows"]
