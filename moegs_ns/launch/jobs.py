"""Training in separate processes: how jobs are started, told apart, and recognised as done."""

import hashlib
import os
import queue
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import torch

from moegs_ns.launch.locks import locked_by_command
from moegs_ns.launch.processes import check_not_ending, end_processes, run_process
from moegs_ns.runs.checkpoint import (
    CONFIG_NAME,
    model_dir,
    newest_checkpoint,
    read_config,
    step_of,
    training_record,
)
from moegs_ns.runs.checkpoint_files import saved_steps
from moegs_ns.training.optimizers import scaled_steps

LOG = "log.txt"
"""File in a run's folder with the output of a training that ran in the background."""
TRAIN = "nerfstudio.scripts.train"
"""The module that trains: `ns-train`."""
UNWATCHED = ("--vis", "tensorboard", "--steps-per-eval-image", "0")
"""Options of trainings that nobody watches; they change nothing of the result."""
SHOWN_LOG = 3000
"""Characters of a failed training's log that are shown."""
REASON = re.compile(r"(\w+\.)*(\w*Error|Exception|\w+Interrupt)\b.*: ")
"""Beginning of a line that says why a training failed."""


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
    part: str = ""
    """What of the clip it is trained on, for the terminal; empty for all of it."""
    without_effect: tuple[str, ...] = ()
    """Options that change nothing of the result, such as --vis."""

    @property
    def settings(self) -> tuple[str, ...]:
        """The arguments that decide the result."""
        numbers = ("--budget", str(self.budget), "--machine.seed", str(self.seed))
        return (*self.options, *numbers, "--data", str(self.data), *self.parser)

    @property
    def folder(self) -> Path:
        """Where nerfstudio puts the run."""
        digest = hashlib.sha256("\0".join(self.settings).encode()).hexdigest()[:8]
        name = self.name or f"seed-{self.seed}-{digest}"
        return self.output_dir / self.experiment / self.method / name

    @property
    def label(self) -> str:
        """What it is called on the terminal."""
        part = f" on {self.part}" if self.part else ""
        return f"{self.method}{part} (seed {self.seed})"

    @property
    def config_path(self) -> Path:
        """The run's config."""
        return self.folder / CONFIG_NAME

    def args(self) -> list[str]:
        """The arguments of `ns-train`; an interrupted run goes on."""
        progress = progress_of(self.folder)
        load = ["--load-dir", str(progress.checkpoint.parent)] if progress.checkpoint else []
        folder = [
            *("--output-dir", str(self.output_dir), "--experiment-name", self.experiment),
            *("--timestamp", self.folder.name),
        ]
        return [self.method, *folder, *self.without_effect, *load, *self.settings]


def expert_trainings(
    template: TrainingJob,
    methods: Sequence[str],
    own_options: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> list[TrainingJob | None]:
    """The training of each method, all else as in `template`; None where there is no method.

    A method that comes again gets the next seed. `own_options` are options of single methods.
    """
    jobs: list[TrainingJob | None] = []
    for index, method in enumerate(methods):
        options = (*template.options, *own_options.get(method, ()))
        seed = template.seed + methods[:index].count(method)
        job = replace(template, method=method, options=options, seed=seed)
        jobs.append(job if method else None)
    return jobs


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
    total = scaled_steps(config.max_num_iterations, config.pipeline.model.budget)
    checkpoints = folder / model_dir(config)
    if not saved_steps(checkpoints):
        return Progress(total=total)
    newest = newest_checkpoint(checkpoints)
    steps = step_of(newest) + 1
    recorded = training_record(folder).get("steps", 0)
    return Progress(steps, total, newest, is_finished=min(steps, recorded) >= total)


def environment_of(slot: int) -> dict[str, str]:
    """Environment of the process in a slot of several in parallel: GPUs are dealt out."""
    devices = visible_devices()
    own = {"CUDA_VISIBLE_DEVICES": devices[slot % len(devices)]} if len(devices) > 1 else {}
    return os.environ | own


def visible_devices() -> list[str]:
    """Names of the GPUs that processes may be given; empty without any."""
    count = torch.cuda.device_count()
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named[:count] if named else [str(number) for number in range(count)]


def run_module(
    args: Sequence[str],
    slot: int = 0,
    log: Path | None = None,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Run a Python module in a separate process, which ends with this one; its exit status.

    Its output goes to the terminal, or is appended to a log. `variables` are added to its
    environment.
    """
    return run_process(args, {**environment_of(slot), **variables}, log)


def train(
    training: TrainingJob,
    slot: int = 0,
    log: Path | None = None,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Train in a separate process, or resume, unless the run is finished.

    `variables` are added to its environment.

    Raises:
        RuntimeError: the training failed.
    """

    def run() -> int:
        return run_module([TRAIN, *training.args()], slot, log, variables)

    complete(training, run, log)


def complete(training: TrainingJob, run: Callable[[], int], log: Path | None = None) -> None:
    """Have a run trained by `run`, which returns an exit status, unless the run is finished.

    If two commands want the same run, the second waits for the first and finds it finished.

    Raises:
        RuntimeError: the training failed.
    """
    with locked_by_command(training.folder, check_not_ending):
        if progress_of(training.folder).is_finished:
            return
        logged = log.stat().st_size if log is not None and log.is_file() else 0
        status = run()
        if status == 0 and progress_of(training.folder).is_finished:
            return
    shown = "the message above says why"
    if log is not None:
        shown = f"{reason_in(log, logged)}\n\nIts log {log} ends with\n{ending_of(log, logged)}"
    raise RuntimeError(
        f"Training {training.method} in {training.folder} stopped before its last step (exit "
        f"status {status}); give the same command again to go on from its last checkpoint; {shown}"
    )


def ending_of(log: Path, start: int = 0) -> str:
    """The last lines of a log, of what was written after its first `start` bytes."""
    return log.read_bytes()[start:].decode("utf8", errors="replace")[-SHOWN_LOG:]


def reason_in(log: Path, start: int = 0) -> str:
    """The line of a log that says why a training failed: the last error, else the last line."""
    lines = [line.strip() for line in ending_of(log, start).splitlines() if line.strip()]
    errors = [line for line in lines if REASON.match(line)]
    return (errors or lines or ["it said nothing"])[-1]


def run_side_by_side(jobs: Sequence[Callable[[int], None]], at_once: int = 1) -> None:
    """Run `at_once` jobs at a time for each GPU, or on the CPU; each gets the index of its slot.

    What interrupts this ends their processes, and starts no other job.

    Raises:
        Exception: what the first job that failed raised; the others were run to their end.
    """
    slots: queue.Queue[int] = queue.Queue()
    for slot in range(at_once * max(1, len(visible_devices()))):
        slots.put(slot)

    def do(job: Callable[[int], None]) -> None:
        slot = slots.get()
        try:
            job(slot)
        finally:
            slots.put(slot)

    with interruptible_pool(slots.qsize()) as pool:
        running = [pool.submit(do, job) for job in jobs]
        wait(running)
    for each in running:
        each.result()


@contextmanager
def interruptible_pool(
    count: int, end: Callable[[], object] = lambda: None
) -> Iterator[ThreadPoolExecutor]:
    """Threads for jobs that start processes; what interrupts the block ends the processes, and jobs
    that wait are never started, as the end of a pool by itself would do.

    `end` is called then as well, for what these threads wait for beside processes.
    """
    pool = ThreadPoolExecutor(count)

    def end_threads() -> None:
        end()
        pool.shutdown()

    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        end_processes(end_threads)
        raise
    pool.shutdown()
