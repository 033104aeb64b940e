"""Trainings as tasks of Ray, on a cluster or in a Ray of this machine.

Ray chooses machines, repeats what was lost with one, and hands on what is printed there. Runs lie
on a file system that all machines share. The command locks the run's folder; the training, wherever
it runs, locks it with the other lock (see locks.py).
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from nerfstudio.utils.rich_utils import CONSOLE

from moegs_ns.launch.cluster_task import TrainingKilledError, task_of, train_here
from moegs_ns.launch.executors import OnEnd, Stage, say_nothing
from moegs_ns.launch.jobs import LOG, TrainingJob, complete, interruptible_pool, progress_of
from moegs_ns.launch.processes import PATIENCE, SIGNALS, check_not_ending

TRIES = 4
"""How often a training is begun or resumed in all if machines or its processes are lost."""
LOCAL = "local"
"""The address that stands for a Ray of this machine alone."""
STARTS = 3
"""Tries to start one: it gives up by itself where a busy machine takes too long."""
SECONDS_UNTIL_SEEN = 60
"""In which this machine sees what another one has written: network file systems remember lists of
files for so long."""


def require_ray() -> None:
    """Raise ImportError unless Ray is installed."""
    if find_spec("ray") is None:
        raise ImportError(
            "--ray expects Ray, which is not installed; run `pip install moegs_ns[cluster]`."
        )


@contextmanager
def ray_executor(address: str, at_once: int) -> Iterator["RayExecutor"]:
    """Connect to the cluster at an address, `auto` for that which this machine belongs to, or
    start a Ray of this machine for the time of the block if it is `local`.

    Raises:
        ImportError: Ray is not installed.
        RuntimeError: a Ray of this machine does not start.
        ValueError: there is no cluster at the address.
    """
    require_ray()
    import ray

    options: dict[str, Any] = {}
    if address == LOCAL:
        options["include_dashboard"] = False
        # A Ray of this command's own does not report its use to Ray's makers.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Workers that wait for tasks would take the processors from Ray's own start.
        os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
        os.environ.setdefault("RAY_enable_worker_prestart", "0")
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        _connect(address, **options)
    except Exception as error:
        # What Ray raises when it takes too long to start is an Exception itself.
        reason = " ".join(str(error).split())
        if address == LOCAL:
            raise RuntimeError(
                f"--ray local expects Ray to start on this machine, but it did not ({reason}); try "
                "again when the machine is less busy, or train without --ray."
            ) from error
        raise ValueError(
            f"--ray expects local, auto or the address of a running cluster, got '{address}' "
            f"({reason}); start one by `ray start --head`, or use --ray local."
        ) from error
    finally:
        # Ray ends its process at SIGTERM without telling anybody.
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)
    try:
        gpus = round(ray.cluster_resources().get("GPU", 0))
        machines = len([node for node in ray.nodes() if node["Alive"]])
        CONSOLE.print(f"Ray at {address}: {machines} machine(s), {gpus} GPU(s).")
        yield RayExecutor(at_once)
    finally:
        ray.shutdown()


def _connect(address: str, **options: Any) -> None:
    """Connect to a Ray; one of this machine, which may start too slowly where others compute, is
    started anew a few times."""
    import ray

    for left in reversed(range(STARTS if address == LOCAL else 1)):
        try:
            ray.init(address=address, logging_level=logging.ERROR, **options)
            return
        except Exception:
            ray.shutdown()
            if not left:
                raise


@dataclass(frozen=True)
class RayExecutor:
    """Trains in tasks of the Ray that this process is connected to."""

    at_once: int = 1
    """Trainings at a time on each GPU, or on each machine if none has one."""

    def train_all(self, trainings: Sequence[TrainingJob], on_end: OnEnd = say_nothing) -> None:
        """Train or resume each run in a task, as many at once as there is room for.

        Raises:
            RuntimeError: trainings failed; the others were trained to their end first.
        """
        stage, tasks = Stage(on_end), Tasks(self.at_once)

        def run(training: TrainingJob) -> None:
            log = training.folder / LOG
            stage.run(training, lambda: complete(training, lambda: tasks.run(training), log))

        with interruptible_pool(max(1, len(trainings)), tasks.cancel) as pool:
            running = [pool.submit(run, training) for training in trainings]
            wait(running)
        for each in running:
            each.result()
        stage.check()

    def train_one(self, training: TrainingJob) -> None:
        """Train or resume a run in a task that has a GPU, or a machine without any, to itself.

        Raises:
            RuntimeError: the training failed.
        """
        replace(self, at_once=1).train_all([training])


class Tasks:
    """Tasks of trainings, which can be cancelled together."""

    def __init__(self, at_once: int) -> None:
        import ray

        options: dict[str, Any] = {
            "max_calls": 1,
            "max_retries": TRIES - 1,
            "retry_exceptions": [TrainingKilledError],
        }
        self._remote = ray.remote(**options, **share(at_once))(train_here)
        self._lock = threading.Lock()
        self._running: set[Any] = set()

    def run(self, training: TrainingJob) -> int:
        """Train or resume a run in a task; the exit status, and then its files are seen here.

        Raises:
            RuntimeError: no machine could do it.
        """
        import ray
        from ray.exceptions import RayError

        with NamedTemporaryFile(dir=training.folder, prefix=".shared-") as mark:
            with self._lock:
                check_not_ending()
                task = self._remote.remote(task_of(training, Path(mark.name)))
                self._running.add(task)
            try:
                status = int(ray.get(task))
            except RayError as error:
                check_not_ending()
                raise RuntimeError(_sentence(error, training)) from error
            finally:
                self._running.discard(task)
        if status == 0:
            _wait_until_seen(training)
        return status

    def cancel(self) -> None:
        """End all tasks and their processes."""
        import ray

        with self._lock:
            running = list(self._running)
        for task in running:
            ray.cancel(task)
        if not running:
            return
        _, left = ray.wait(running, num_returns=len(running), timeout=2 * PATIENCE)
        for task in left:
            ray.cancel(task, force=True)


def share(at_once: int) -> dict[str, Any]:
    """What Ray sets aside for a training: a part of a GPU or, if the cluster has none, of the CPUs
    of the smallest machine."""
    import ray

    if ray.cluster_resources().get("GPU", 0):
        return {"num_gpus": 1 / at_once, "num_cpus": 0}
    cpus = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
    return {"num_cpus": max(1, min(filter(None, cpus), default=1) // at_once)}


def _sentence(error: Exception, training: TrainingJob) -> str:
    """What became of a task, without the lines of Ray's own code."""
    from ray.exceptions import RayTaskError, TaskCancelledError

    again = "give the same command again to go on from its last checkpoint"
    if isinstance(error, TaskCancelledError):
        return f"Its task was cancelled by somebody else; {again}."
    if not isinstance(error, RayTaskError):
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return f"Ray lost it {TRIES} times ({reason}); {again}."
    cause = error.cause
    if isinstance(cause, OSError | RuntimeError | ValueError):
        return str(cause)
    return (
        f"The machine that was to train {training.label} cannot ({cause}); every machine of the "
        "cluster needs moegs_ns and what it depends on."
    )


def _wait_until_seen(training: TrainingJob) -> None:
    """Wait until this machine sees that a run is finished."""
    for _ in range(SECONDS_UNTIL_SEEN):
        if progress_of(training.folder).is_finished:
            return
        check_not_ending()
        time.sleep(1.0)
