"""Stages of a long command: one line each, a bar with the time left, and the rest in a log."""

import io
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from moegs_ns.launch.plan import duration

PERCENT = re.compile(r"^\d+ \((\d+\.\d+)%\)", re.MULTILINE)
"""What nerfstudio begins the line of a step with."""


class Stages:
    """Counts the stages of a command on the terminal."""

    def __init__(self, total: int) -> None:
        self.total, self.number = total, 0

    @contextmanager
    def stage(self, what: str, log: Path | None = None) -> Iterator[None]:
        """One stage; what a training prints meanwhile goes to `log`, and moves a bar."""
        self.number += 1
        console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        label, started = f"{self.number}/{self.total}  {what}", time.perf_counter()
        if log is None:
            console.print(label)
            yield
            return
        log.parent.mkdir(parents=True, exist_ok=True)
        if not console.is_terminal:
            console.print(label)
        with (
            log.open("a", encoding="utf8") as file,
            _bar(console, label) as bar,
            redirect_stdout(TrainingLog(file, bar)),
        ):
            yield
        console.print(f"{label}: {duration(time.perf_counter() - started)}")


@contextmanager
def _bar(console: Console, label: str) -> Iterator[Progress]:
    """A bar that is gone afterwards; nothing in a file."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(compact=True))
    disable = not console.is_terminal
    # Streams are redirected here, and not by the bar.
    with Progress(
        *columns,
        console=console,
        transient=True,
        disable=disable,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as bar:
        bar.add_task(label, total=100.0)
        yield bar


class TrainingLog(io.TextIOBase):
    """A stream for what a training prints, which reads from it how far the training has come."""

    def __init__(self, file: TextIO, bar: Progress) -> None:
        self.file, self.bar = file, bar

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        """Keep the text; move the bar if it is the line of a step."""
        found = PERCENT.findall(text)
        if found:
            # Earlier lines are printed again.
            done = max(float(found[-1]), self.bar.tasks[0].completed)
            self.bar.update(self.bar.task_ids[0], completed=done)
        self.file.write(text)
        return len(text)

    def flush(self) -> None:
        """Hand what was written to the file."""
        self.file.flush()
