"""Where trainings of a command run: in processes of this machine, or elsewhere."""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

from nerfstudio.utils.rich_utils import CONSOLE

from moegs_ns.launch.jobs import LOG, TrainingJob, run_side_by_side, train, visible_devices
from moegs_ns.launch.mps import shared_gpus
from moegs_ns.launch.processes import check_not_ending

OnEnd = Callable[[TrainingJob, float], None]
"""What is called for each training that succeeded, with the seconds that it took."""


def say_nothing(training: TrainingJob, seconds: float) -> None:
    """An `OnEnd` for callers that have nothing to say."""


@runtime_checkable
class Executor(Protocol):
    """What trains the runs of a command."""

    def train_all(self, trainings: Sequence[TrainingJob], on_end: OnEnd = say_nothing) -> None:
        """Train or resume several runs; logs go to their folders, a failure is told at once.

        Raises:
            RuntimeError: trainings failed; the others were trained to their end first.
        """
        ...

    def train_one(self, training: TrainingJob) -> None:
        """Train or resume a run that nothing else is trained beside.

        Raises:
            RuntimeError: the training failed.
        """
        ...


@dataclass(frozen=True)
class LocalExecutor:
    """Trains in processes of this machine."""

    at_once: int = 1
    """Trainings at a time on each GPU, or on the CPU."""
    mps: bool = False
    """Whether trainings that share a GPU do so through NVIDIA's MPS, where that works."""

    def train_all(self, trainings: Sequence[TrainingJob], on_end: OnEnd = say_nothing) -> None:
        """Train `at_once` runs at a time on each GPU, or on the CPU.

        Raises:
            RuntimeError: trainings failed; the others were trained to their end first.
        """
        stage = Stage(on_end)
        is_shared = self.mps and min(self.at_once, len(trainings)) > 1 and visible_devices()
        with shared_gpus() if is_shared else nullcontext({}) as variables:

            def run(training: TrainingJob, slot: int) -> None:
                log = training.folder / LOG
                stage.run(training, partial(train, training, slot, log, variables))

            run_side_by_side([partial(run, training) for training in trainings], self.at_once)
        stage.check()

    def train_one(self, training: TrainingJob) -> None:
        """Train a run, whose output goes to the terminal.

        Raises:
            RuntimeError: the training failed.
        """
        train(training)


class Stage:
    """Trainings of which one that fails stops no other: it is told at once, and again at the end.

    Threads may use it at the same time.
    """

    def __init__(self, on_end: OnEnd) -> None:
        self.on_end = on_end
        self.finished: list[TrainingJob] = []
        self.failed: list[tuple[TrainingJob, RuntimeError]] = []

    def run(self, training: TrainingJob, train: Callable[[], None]) -> None:
        """Call what trains a run, which raises RuntimeError if that fails."""
        started = time.perf_counter()
        try:
            train()
        except RuntimeError as error:
            check_not_ending()
            reason = str(error).partition("\n\n")[0]
            text = f"{training.label} failed, the others go on: {reason}"
            CONSOLE.print(text, style="red", markup=False, soft_wrap=True)
            self.failed.append((training, error))
            return
        self.finished.append(training)
        self.on_end(training, time.perf_counter() - started)

    def check(self) -> None:
        """Raise RuntimeError if trainings failed; it names them and those that are finished."""
        count = len(self.finished) + len(self.failed)
        if not self.failed:
            return
        if count == 1:
            raise self.failed[0][1]
        kept = ", ".join(training.label for training in self.finished) or "none"
        raise RuntimeError(
            f"{len(self.failed)} of {count} trainings failed; finished and kept: {kept}.\n"
            + "\n".join(f"{training.label}: {error}" for training, error in self.failed)
        )
