"""One point of a scaling sweep: a random mixture of one size, timed beside the floor of its memory
traffic."""

import gc
import multiprocessing
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from moegs_ns.cameras import View
from moegs_ns.evaluation.tables import Row
from moegs_ns.evaluation.timing import columns, time_calls
from moegs_ns.gaussians import Gaussians
from moegs_ns.reports.benchmark.frames import (
    frames_of,
    megabytes,
    peak_megabytes,
    time_in_turns_of_views,
)
from moegs_ns.reports.benchmark.synthetic import SyntheticModels
from moegs_ns.reports.benchmark.ways import FRAME, OneExpert, Subject, named
from moegs_ns.reports.scores import BYTES_PER_MB

P = ParamSpec("P")
T = TypeVar("T")
COPIED_BYTES = 128 * 2**20
"""Size of the copy that tells the bandwidth: more than caches hold."""
COPIES = 20
FLOAT_BYTES = 4
CHANNELS = 3
"""Of the image that a frame ends in."""
FEWEST = 30
"""Gaussians of the mixture that compiles and loads everything before memory is read."""
STATUS, CLEAR_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")
UNREAD = "the resident memory of a process is read on Linux only"
FIGURES = (
    "gaussians", "mb", "fps", "median_ms", "min_ms", "max_ms", "n", "spread", "peak_mb",
    "bandwidth_gb_s", "floor_ms", "floor_mb",
)  # fmt: skip


@dataclass(frozen=True)
class Point:
    """What is drawn: a mixture of random Gaussians."""

    methods: tuple[str, ...]
    """Methods of the experts; one expert alone has no router."""
    gaussians: int
    """Of each expert."""
    size: tuple[int, int]
    """Width and height of the image in pixels."""
    frames: int
    """Length of the clip."""

    @property
    def pixels(self) -> int:
        """Of the image."""
        return self.size[0] * self.size[1]

    @property
    def columns(self) -> Row:
        """What tells the point from others in a table."""
        return {
            "gaussians_each": self.gaussians, "experts": len(self.methods),
            "width": self.size[0], "height": self.size[1], "frames": self.frames,
            "methods": " ".join(self.methods),
        }  # fmt: skip


@dataclass(frozen=True)
class Effort:
    """How long a point is measured."""

    times: int
    """Times at which each camera draws."""
    seconds: float
    """For all frames at most."""
    seed: int


def row_of(point: Point, effort: Effort) -> Row:
    """The figures of a point, measured in a process of its own: what it holds and how it ends
    touches no other. A point that fails has a row that says why."""
    try:
        return point.columns | apart(measured, point, effort) | {"seed": effort.seed}
    except BrokenProcessPool:
        why = "its process was ended from outside, as is done where memory runs out"
    except (RuntimeError, MemoryError, ValueError) as error:
        why = f"{type(error).__name__}, {' '.join(str(error).split())}".replace(";", ",")
    reason = {"reason": f"{FIGURES[0]} to {FIGURES[-1]}: {why}"}
    return point.columns | dict.fromkeys(FIGURES) | {"seed": effort.seed} | reason


def apart(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What a function returns in a new process.

    Raises:
        BrokenProcessPool: the process ended before it returned.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()


@torch.no_grad()
def measured(point: Point, effort: Effort) -> Row:
    """Frames of a point: time, memory, and the floor of both."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    bytes_per_ms = bandwidth(device)
    subject, views = drawn(replace(point, gaussians=FEWEST), effort, device)
    time_frames(subject, views, 0.0)
    del subject, views
    before = resident_megabytes("VmRSS")
    subject, views = drawn(point, effort, device)
    forget_peak()
    times = time_frames(subject, views, effort.seconds)
    way = named(subject.ways(views[0]), FRAME)
    peak = peak_megabytes(subject, way, views[0])
    if peak is None and before is not None:
        peak = resident_megabytes("VmHWM", less=before)
    low, _, high = quantiles(times, n=4) if len(times) > 1 else times * 3
    least = floor_bytes(subject, views[0])
    return {
        "gaussians": way.module.num_gaussians,
        "mb": megabytes(way.module),
        "fps": 1e3 / median(times),
        **columns(times),
        "spread": (high - low) / median(times),
        "peak_mb": peak,
        "bandwidth_gb_s": bytes_per_ms * 1e3 / 1e9,
        "floor_ms": least / bytes_per_ms,
        "floor_mb": megabytes(way.module) + image_bytes(views[0]) / BYTES_PER_MB,
        "reason": "" if peak is not None else f"peak_mb: {UNREAD}",
    }


def drawn(point: Point, effort: Effort, device: str) -> tuple[Subject, list[View]]:
    """The mixture of a point, and the frames to draw of it."""
    models = SyntheticModels.of(
        point.methods, point.gaussians, point.size, effort.seed, device, num_frames=point.frames
    )
    views = frames_of(models.images.cameras, effort.times)
    subject = models.subject
    del models  # Training images, and the models that the mixture's experts were copied from.
    gc.collect()
    return subject, views


def time_frames(subject: Subject, views: list[View], seconds: float) -> list[float]:
    """Milliseconds of the whole frame at each view, as far as the time goes; at least one."""
    way = named(subject.ways(views[0]), FRAME)
    return time_in_turns_of_views([way], views, seconds)[FRAME]


def bandwidth(device: str) -> float:
    """Bytes a millisecond that a copy reads and writes at best."""
    source = torch.zeros(COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * COPIED_BYTES / min(time_calls(partial(target.copy_, source), COPIES))


def floor_bytes(subject: Subject, view: View) -> int:
    """Bytes that any way to draw a frame has to move, and so the model of the floor: each Gaussian
    as it is at the time of the frame (position, rotation, scale, opacity, colour, channels) and its
    router weights are read once, the image is written once. What deformation reads, sorting,
    and images of single experts come on top."""
    if isinstance(subject, OneExpert):
        experts, weights = [subject.expert], []
    else:
        experts = subject.mixture.experts
        weights = list(subject.mixture.router.parameters())
    sets = [tensor for expert in experts for tensor in tensors_at(expert.at(view.time))]
    return sum(each.numel() * each.element_size() for each in (*sets, *weights)) + image_bytes(view)


def tensors_at(gaussians: Gaussians) -> Iterable[Tensor]:
    """The values of Gaussians at one time, without their indices."""
    values: Iterable[Any] = (getattr(gaussians, each.name) for each in fields(gaussians))
    return (value for value in values if isinstance(value, Tensor) and value.is_floating_point())


def image_bytes(view: View) -> int:
    """Of one image in single precision."""
    return view.width * view.height * CHANNELS * FLOAT_BYTES


def resident_megabytes(name: str, less: float = 0.0) -> float | None:
    """Resident memory of this process (VmRSS) or the most it had (VmHWM), in MB; None where the
    system does not tell."""
    if not STATUS.is_file():
        return None
    lines = (line.split() for line in STATUS.read_text().splitlines())
    found = next(words for words in lines if words[0] == f"{name}:")
    return int(found[1]) * 1024 / BYTES_PER_MB - less


def forget_peak() -> None:
    """Let the most resident memory count from now on, where the system can."""
    if CLEAR_PEAK.exists() and os.access(CLEAR_PEAK, os.W_OK):
        CLEAR_PEAK.write_text("5")
