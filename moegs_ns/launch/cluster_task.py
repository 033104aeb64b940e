"""What a machine of a cluster does with a training that it is handed.

Runs in a worker of Ray, which needs the package, the scene and the runs' folder as the command has
them. Importing this does not need Ray.
"""

import os
import re
import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from moegs_ns.errors import quiet_imports

with quiet_imports():
    # First: what follows is imported while nerfstudio looks for methods.
    import nerfstudio.configs.method_configs  # noqa: F401
    from nerfstudio.utils.rich_utils import CONSOLE

    from moegs_ns.launch.jobs import LOG, TRAIN, TrainingJob, progress_of
    from moegs_ns.launch.locks import wait_for_training
    from moegs_ns.launch.processes import PARENT, run_process

SECONDS_BETWEEN_LINES = 10.0
LOG_TAIL = 8192
"""Bytes at the end of a log in which the last step is looked for."""
STEP = re.compile(r"^(\d+) \(\d+\.\d+%\)", re.MULTILINE)
"""What nerfstudio begins the line of a step with."""
HANDED_ON = ("MOEGS_", "OMP_")
"""Beginnings of variables of the command's environment that its trainings get everywhere."""


class TrainingKilledError(RuntimeError):
    """A training was killed (-9), as by a machine without memory: it may go on elsewhere."""


@dataclass(frozen=True)
class ClusterTask:
    """A training, and what tells whether a machine sees the same files as the command."""

    training: TrainingJob
    mark: Path
    """A file that the command keeps in the run's folder meanwhile."""
    host: str
    """The machine of the command."""
    directory: Path
    """Where the command was given: relative paths of options are meant from there."""
    variables: Mapping[str, str]
    """Of the environment, for the training."""
    version: str
    """Of this package."""


def task_of(training: TrainingJob, mark: Path) -> ClusterTask:
    """The task of a training of this command."""
    handed_on = {
        name: text
        for name, text in os.environ.items()
        if name.startswith(HANDED_ON) and name != PARENT
    }
    return ClusterTask(
        training, mark, socket.gethostname(), Path.cwd(), handed_on, version("moegs_ns")
    )


def train_here(task: ClusterTask) -> int:
    """Train or resume a run on this machine; the exit status. How far it is, is printed.

    A training of an earlier try that still runs is waited for.

    Raises:
        OSError: this machine does not see the run's folder.
        RuntimeError: this machine has another version of the package.
        TrainingKilledError: the training was killed, not by this.
    """
    check_machine(task)
    if task.directory.is_dir():
        os.chdir(task.directory)
    training = task.training
    wait_for_training(training.folder)
    progress = progress_of(training.folder)
    if progress.is_finished:
        return 0
    lines = ProgressLines(training)
    lines.say(f"goes on from step {progress.steps:,}" if progress.checkpoint else "begins")
    # Ray gives processes one thread for each CPU of a task, which would slow down others beside it.
    own = {name: text for name, text in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment = {**own, **task.variables, "PYTHONUNBUFFERED": "1"}
    log = training.folder / LOG
    status = run_process([TRAIN, *training.args()], environment, log, lines.look)
    if status == -signal.SIGKILL:
        raise TrainingKilledError(
            f"Training {training.label} was killed on {socket.gethostname()}, as if it had no "
            f"memory left; its log is {log}."
        )
    return status


def check_machine(task: ClusterTask) -> None:
    """Raise OSError or RuntimeError unless this machine has what the command has."""
    here, folder = socket.gethostname(), task.mark.parent
    if not task.mark.exists():
        raise OSError(
            f"Expected {folder}, where {task.host} writes, to be the same folder on {here}, but "
            "it is not; put --output-dir onto a file system that all machines of the cluster share."
        )
    own = version("moegs_ns")
    if own != task.version:
        raise RuntimeError(
            f"Expected moegs_ns {task.version}, as on {task.host}, but {here} has {own}; install "
            "the same on all machines of the cluster."
        )


class ProgressLines:
    """Lines on how far a training is, read from its log; Ray prints them where the command runs."""

    def __init__(self, training: TrainingJob) -> None:
        self.training = training
        self.log = training.folder / LOG
        self.start = self.log.stat().st_size if self.log.is_file() else 0
        self.next_look = 0.0
        self.step = 0
        self.total: int | None = None

    def look(self) -> None:
        """Print a line if some seconds have passed and the training has come further."""
        if time.monotonic() < self.next_look:
            return
        self.next_look = time.monotonic() + SECONDS_BETWEEN_LINES
        step = last_step(self.log, self.start)
        if step is None or step == self.step:
            return
        self.step = step
        self.total = self.total or progress_of(self.training.folder).total
        self.say(f"step {step:,}" + (f" of {self.total:,}" if self.total else ""))

    def say(self, what: str) -> None:
        """Print a line about the training."""
        text = f"{self.training.label} on {socket.gethostname()}: {what}"
        CONSOLE.print(text, markup=False, highlight=False, soft_wrap=True)


def last_step(log: Path, start: int = 0) -> int | None:
    """The last step that a log tells after its first `start` bytes; None before any."""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(start, size - LOG_TAIL))
        steps = STEP.findall(file.read().decode("utf8", errors="replace"))
    return int(steps[-1]) if steps else None
