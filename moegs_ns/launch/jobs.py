"""Trainings in processes of their own: how they are started, told apart, and recognised as done."""

import hashlib
import json
import os
import queue
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from nerfstudio.utils.rich_utils import CONSOLE

from moegs_ns.runs.checkpoint import (
    CONFIG_NAME,
    TRAINING_RECORD,
    model_dir,
    newest_checkpoint,
    read_config,
)
from moegs_ns.training.schedules import scaled_steps

LOG = "log.txt"
"""File in a run's folder that holds what a training printed that nobody watched."""
LOCK = ".lock"
"""File in a run's folder that the command which trains it holds."""
SHOWN_LOG = 3000
"""Characters of a failed training's log that are shown."""


@dataclass(frozen=True)
class TrainingJob:
    """A run of `ns-train` with everything that decides its result."""

    method: str
    options: tuple[str, ...]
    """Further options, before those below."""
    data: Path
    parser: tuple[str, ...]
    """Name of the parser and its options."""
    budget: float
    seed: int
    output_dir: Path
    experiment: str
    name: str = ""
    """Name of the run's folder; by default one that other settings do not share."""
    without_effect: tuple[str, ...] = ()
    """Options that change nothing of the result, such as --vis."""

    @property
    def settings(self) -> tuple[str, ...]:
        """The words that decide the result."""
        numbers = ("--budget", str(self.budget), "--machine.seed", str(self.seed))
        return (*self.options, *numbers, "--data", str(self.data), *self.parser)

    @property
    def folder(self) -> Path:
        """Where nerfstudio puts the run."""
        digest = hashlib.sha256("\0".join(self.settings).encode()).hexdigest()[:8]
        name = self.name or f"seed-{self.seed}-{digest}"
        return self.output_dir / self.experiment / self.method / name

    @property
    def config_path(self) -> Path:
        """The run's config."""
        return self.folder / CONFIG_NAME

    def words(self) -> list[str]:
        """The words after `ns-train`; an interrupted run goes on."""
        progress = progress_of(self.folder)
        load = ["--load-dir", str(progress.checkpoint.parent)] if progress.checkpoint else []
        place = ["--output-dir", str(self.output_dir), "--experiment-name", self.experiment]
        name = ["--timestamp", self.folder.name]
        return [self.method, *place, *name, *self.without_effect, *load, *self.settings]


def expert_trainings(
    template: TrainingJob,
    methods: Sequence[str],
    own_options: Mapping[str, Sequence[str]] | None = None,
) -> list[TrainingJob | None]:
    """The training of each method, all else as in `template`; None where there is no method.

    A method that comes again gets the next seed. `own_options` are options of single methods.
    """
    own = own_options or {}
    return [
        replace(
            template,
            method=method,
            options=(*template.options, *own.get(method, ())),
            seed=template.seed + methods[:place].count(method),
        )
        if method
        else None
        for place, method in enumerate(methods)
    ]


@dataclass(frozen=True)
class Progress:
    """How far a run on disk has come."""

    steps: int = 0
    """Steps of the newest checkpoint."""
    total: int | None = None
    """Steps of the whole run; None before it has begun."""
    checkpoint: Path | None = None
    is_finished: bool = False


def progress_of(folder: Path) -> Progress:
    """How far the run in a folder has come.

    It is finished if its record says that all steps were trained and their checkpoint is there.

    Raises:
        ValueError: its config or newest checkpoint is damaged.
    """
    if not (folder / CONFIG_NAME).is_file():
        return Progress()
    config = read_config(folder / CONFIG_NAME)
    total = scaled_steps(config.max_num_iterations, config.pipeline.budget)
    checkpoints = folder / model_dir(config)
    if not any(checkpoints.glob("step-*.ckpt")):
        return Progress(total=total)
    newest = newest_checkpoint(checkpoints)
    steps, record = int(newest.stem.removeprefix("step-")) + 1, folder / TRAINING_RECORD
    recorded = json.loads(record.read_text())["steps"] if record.is_file() else 0
    return Progress(steps, total, newest, is_finished=min(steps, recorded) >= total)


def environment_of(place: int) -> dict[str, str]:
    """Environment of the process number `place` of several side by side: GPUs are dealt out."""
    environment = dict(os.environ)
    devices = visible_devices()
    if len(devices) > 1:
        environment["CUDA_VISIBLE_DEVICES"] = devices[place % len(devices)]
    return environment


def visible_devices() -> list[str]:
    """Names of the GPUs that processes may be given; empty without any."""
    count = torch.cuda.device_count()
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named[:count] if named else [str(number) for number in range(count)]


def run_module(words: Sequence[str], place: int = 0, log: Path | None = None) -> int:
    """Run a Python module in a process of its own; its exit status.

    What it prints goes to the terminal, or is added to a log.
    """
    command = [sys.executable, "-W", "ignore", "-m", *words]
    if log is None:
        return subprocess.run(command, env=environment_of(place), check=False).returncode
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as output:
        done = subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment_of(place), check=False
        )
    return done.returncode


def train(training: TrainingJob, place: int = 0, log: Path | None = None) -> None:
    """Train in a process of its own, or go on with it, unless it is finished.

    Of two commands that want the same run, the second waits for the first and finds it finished.

    Raises:
        RuntimeError: the training failed.
    """
    with _alone_in(training.folder):
        if progress_of(training.folder).is_finished:
            return
        status = run_module(["nerfstudio.scripts.train", *training.words()], place, log)
        if status == 0 and progress_of(training.folder).is_finished:
            return
    shown = "the message above says why"
    if log is not None:
        shown = f"its log {log} ends with\n{log.read_text()[-SHOWN_LOG:]}"
    raise RuntimeError(
        f"TrainingJob {training.method} in {training.folder} stopped before its last step (exit "
        f"status {status}); give the same command again to go on from its last checkpoint; {shown}"
    )


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other commands out of a run's folder; the lock ends with the process at the latest."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        CONSOLE.print(f"Waiting for another command, which trains {folder}.", soft_wrap=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def train_side_by_side(
    trainings: Sequence[TrainingJob],
    at_once: int = 1,
    on_end: Callable[[TrainingJob, float], None] = lambda training, seconds: None,
) -> None:
    """Train `at_once` runs on each GPU at a time, or on the CPU; logs go to the runs' folders.

    `on_end` is told of each training that ended well and the seconds that it took.

    Raises:
        RuntimeError: a training failed; the others were trained to their end first.
    """

    def run(training: TrainingJob, place: int) -> None:
        started = time.perf_counter()
        train(training, place, training.folder / LOG)
        on_end(training, time.perf_counter() - started)

    run_side_by_side([partial(run, training) for training in trainings], at_once)


def run_side_by_side(jobs: Sequence[Callable[[int], None]], at_once: int = 1) -> None:
    """Do `at_once` jobs for each GPU at a time, or on the CPU; each is told its place.

    Raises:
        Exception: what the first job that failed raised; the others came to their end first.
    """
    places: queue.Queue[int] = queue.Queue()
    for place in range(at_once * max(1, len(visible_devices()))):
        places.put(place)

    def do(job: Callable[[int], None]) -> None:
        place = places.get()
        try:
            job(place)
        finally:
            places.put(place)

    with ThreadPoolExecutor(places.qsize()) as pool:
        running = [pool.submit(do, job) for job in jobs]
    failures = [error for each in running if (error := each.exception()) is not None]
    if failures:
        raise failures[0]
