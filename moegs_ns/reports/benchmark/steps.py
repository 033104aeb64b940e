"""Seconds of training steps, whole and by part."""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from functools import reduce
from statistics import fmean
from time import monotonic, perf_counter
from types import SimpleNamespace
from typing import Any

import torch
from nerfstudio.engine.callbacks import (
    TrainingCallback,
    TrainingCallbackAttributes,
    TrainingCallbackLocation,
)
from nerfstudio.engine.optimizers import Optimizers

from moegs_ns.cameras import View
from moegs_ns.engine.budget import at_budget
from moegs_ns.engine.trainer import MoegsOptimizers, MoegsPipeline
from moegs_ns.evaluation.tables import Row
from moegs_ns.evaluation.timing import columns, synchronize
from moegs_ns.models.base import GaussianModel
from moegs_ns.models.expert_model import ExpertModel
from moegs_ns.models.mixture_model import MixtureModel
from moegs_ns.reports.benchmark.frames import megabytes
from moegs_ns.reports.benchmark.ways import NO_GPU
from moegs_ns.reports.scores import BYTES_PER_MB

WHOLE = "whole step"
PARTS = ("batch", "draw", "loss", "backward", "optimiser", "schedule")
"""In the order of a step, but for what comes before the batch: `schedule` is all that a recipe does
before and after a step."""
BLOCK = 10
"""Steps between two waits for the device where whole steps are timed: the host may run ahead, as in
training."""
WARM_UP_STEPS = 15
"""Steps that do not count; CUDA graphs are captured at the fifth equal call."""
Mark = Callable[[str], None]
"""Called with the name of a part at its end."""


@dataclass(frozen=True)
class Training:
    """A training as it is at its end, when the schedules of most recipes leave the set of
    Gaussians as it is."""

    name: str
    """Of what is trained, for the table."""
    model: GaussianModel
    optimizers: Optimizers
    next_batch: Callable[[int], tuple[View, dict[str, Any]]]
    callbacks: Sequence[TrainingCallback]
    total: int
    """Steps of the whole training; those that are timed come after them."""

    def step(self, number: int, mark: Mark = lambda part: None) -> None:
        """One step as nerfstudio's trainer makes it in single precision."""
        locations = TrainingCallbackLocation
        self._call(number, locations.BEFORE_TRAIN_ITERATION)
        mark("schedule")
        view, batch = self.next_batch(number)
        mark("batch")
        self.optimizers.zero_grad_all()
        outputs = self.model.training_outputs(view)
        mark("draw")
        loss = reduce(torch.add, self.model.get_loss_dict(outputs, batch).values())
        mark("loss")
        loss.backward()
        mark("backward")
        self.optimizers.optimizer_step_all()
        self.optimizers.scheduler_step_all(number)
        mark("optimiser")
        self._call(number, locations.AFTER_TRAIN_ITERATION)
        mark("schedule")

    def _call(self, number: int, location: TrainingCallbackLocation) -> None:
        for callback in self.callbacks:
            callback.run_callback_at_location(number, location)


def training_of(
    name: str,
    config: Any,
    model: ExpertModel | MixtureModel,
    next_batch: Callable[[int], tuple[View, dict[str, Any]]],
    pipeline: Any = None,
) -> Training:
    """The training that a method's configuration describes, of a model on its device.

    Raises:
        ValueError: it cannot be trained on; a teacher may be missing, for example.
    """
    config = at_budget(config)
    model.train()
    optimizers = MoegsOptimizers(copy(config.optimizers), model.get_param_groups())
    # nerfstudio's log is nobody's concern here.
    optimizers.steps_per_log = 10**9
    total = config.max_num_iterations
    callbacks: list[TrainingCallback] = []
    # What happens around the steps of a router over frozen experts happens before its end.
    if isinstance(model, ExpertModel) or model.mixture.is_thawed:
        trainer: Any = SimpleNamespace(total_steps=total)
        attributes = TrainingCallbackAttributes(
            optimizers=optimizers, grad_scaler=None, pipeline=pipeline, trainer=trainer
        )
        callbacks = model.get_training_callbacks(attributes)
    return Training(name, model, optimizers, next_batch, callbacks, total)


def training_of_run(name: str, config: Any, pipeline: MoegsPipeline) -> Training:
    """A run's training, over its own images, chosen by its own recipe."""
    model, data = pipeline.model, pipeline.datamanager
    data.sampler = model.make_sampler(data.frame_table)
    if isinstance(model, ExpertModel):
        model.begin_training()
    return training_of(name, config, model, data.next_train_view, pipeline)


def step_rows(training: Training, steps: int, seconds: float) -> list[Row]:
    """A row for the whole step and one for each of its parts, timed in turns: the parts, with a
    wait for the device after each, are slower together than the whole. No block of steps is begun
    after so many seconds."""
    number = iter(range(training.total + 1, training.total + 10**9))
    on_gpu = any(tensor.is_cuda for tensor in training.model.parameters())
    with peak_memory(is_measured=on_gpu) as peak:
        for _ in range(WARM_UP_STEPS):
            training.step(next(number))
        whole: list[float] = []
        parts: dict[str, list[float]] = {name: [] for name in PARTS}
        end = monotonic() + seconds
        for _ in range(max(1, steps // BLOCK)):
            if whole and monotonic() > end:
                break
            whole.append(block_milliseconds(training, number))
            for _ in range(min(BLOCK, steps)):
                for name, value in part_milliseconds(training, next(number)).items():
                    parts[name].append(value)
    grown = peak.megabytes
    megabytes_at_peak = None if grown is None else megabytes(training.model) + grown
    missing = f"peak_mb: {'that of the whole step counts' if on_gpu else NO_GPU}"
    rows = [row_of(training.name, WHOLE, whole, megabytes_at_peak, missing)]
    for name, values in parts.items():
        rows.append(row_of(training.name, name, values, None, missing))
    return rows


def block_milliseconds(training: Training, numbers: Iterator[int]) -> float:
    """Of a step, the mean over a block in which the host never waits for the device."""
    synchronize()
    started = perf_counter()
    for _ in range(BLOCK):
        training.step(next(numbers))
    synchronize()
    return 1e3 * (perf_counter() - started) / BLOCK


def part_milliseconds(training: Training, number: int) -> dict[str, float]:
    """Of each part of one step, which ends once the device is idle."""
    found: dict[str, float] = {part: 0.0 for part in PARTS}
    synchronize()
    last = perf_counter()

    def mark(part: str) -> None:
        nonlocal last
        synchronize()
        now = perf_counter()
        found[part] += 1e3 * (now - last)
        last = now

    training.step(number, mark)
    return found


def row_of(name: str, part: str, values: Sequence[float], peak: float | None, missing: str) -> Row:
    """A row of the table; a step's mean milliseconds are the seconds of 1000 of them."""
    return {
        "what": name, "part": part, **columns(values), "seconds_per_1000_steps": fmean(values),
        "peak_mb": peak, "reason": missing if peak is None else "",
    }  # fmt: skip


@dataclass
class Peak:
    """GPU memory that a block needed beside what was there before; None without a GPU."""

    megabytes: float | None = None


@contextmanager
def peak_memory(*, is_measured: bool) -> Iterator[Peak]:
    """Measure the memory that torch holds at most during a block, as it has it from the driver."""
    peak, before = Peak(), 0
    if is_measured:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_reserved()
    yield peak
    if is_measured:
        peak.megabytes = (torch.cuda.max_memory_reserved() - before) / BYTES_PER_MB


def measured_steps(
    name: str, set_up: Callable[[], Training], steps: int, seconds: float
) -> list[Row]:
    """The rows of a training, or one that says why it cannot be trained here."""
    try:
        training = set_up()
    except (OSError, ValueError) as error:
        figures = dict.fromkeys((*columns([0.0]), "seconds_per_1000_steps", "peak_mb"))
        reason = " ".join(str(error).split())
        return [{"what": name, "part": WHOLE, **figures, "reason": reason}]
    return step_rows(training, steps, seconds)
