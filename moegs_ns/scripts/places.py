"""Where a command trains: the options that `moegs train` and `moegs paper` share."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

from moegs_ns.launch.executors import Executor, LocalExecutor
from moegs_ns.launch.jobs import visible_devices
from moegs_ns.launch.ray_executor import ray_executor, require_ray


@dataclass(kw_only=True)
class TrainingPlace:
    """Options of a command that trains several runs."""

    at_once: int = 1
    """Trainings at a time on each GPU, or on the CPU. Small scenes leave most of a GPU idle, but
    times are those of a training by itself with 1 only."""
    mps: Literal["auto", "off"] = "auto"
    """Whether trainings that share a GPU of this machine do so through NVIDIA's MPS: auto where it
    is installed, by a daemon of this command unless one runs."""
    ray: str | None = None
    """Train in tasks of Ray: the address of a cluster, auto for that of this machine, local for a
    Ray of this machine alone. --output-dir and --data must be seen by all machines."""

    def check_place(self) -> None:
        """Refuse what no training could follow, before anything else is looked at.

        Raises:
            ImportError: Ray is asked for and not installed.
            ValueError: less than one training at a time.
        """
        if self.at_once < 1:
            raise ValueError(f"--at-once expects at least 1, got {self.at_once}.")
        if self.ray is not None:
            require_ray()

    def executor(self) -> AbstractContextManager[Executor]:
        """What trains, for the time of a block."""
        if self.ray is not None:
            return ray_executor(self.ray, self.at_once)
        return nullcontext(LocalExecutor(self.at_once, self.mps == "auto"))

    @property
    def slots(self) -> int | None:
        """Trainings at a time in all; None where a cluster decides."""
        return None if self.ray is not None else self.at_once * max(1, len(visible_devices()))

    @property
    def where(self) -> str:
        """A sentence on where trainings run."""
        if self.ray is not None:
            each = "each GPU of the cluster, or each machine if none has one"
            return f"Trainings are tasks of Ray, {self.at_once} at a time on {each}."
        devices = visible_devices()
        device = f"{len(devices)} GPU(s)" if devices else "the CPU"
        return f"{self.at_once} at a time on {device}."
