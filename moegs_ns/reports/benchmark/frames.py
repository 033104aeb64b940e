"""Frames a second of everything that draws them, in turns."""

import gc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from statistics import median
from time import monotonic

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor, nn

from moegs_ns.cameras import UNKNOWN_ID, View, view_from_cameras
from moegs_ns.evaluation.tables import Row
from moegs_ns.evaluation.timing import columns, timed
from moegs_ns.progress import track
from moegs_ns.reports.benchmark.ways import (
    FRAME,
    NO_GPU,
    Subject,
    Way,
    environment,
    tensors_of,
)
from moegs_ns.reports.scores import BYTES_PER_MB

WARM_UP_FRAMES = 8
"""Frames of each way that do not count; CUDA graphs are captured at the fifth equal call."""


def cameras_apart(cameras: Cameras, device: torch.device | str) -> list[View]:
    """One view of each physical camera; all views where these are unknown."""
    found: dict[int, View] = {}
    for row in range(cameras.shape[0]):
        view = view_from_cameras(cameras[row : row + 1])
        number = int(view.camera_ids[0])
        found.setdefault(-1 - row if number == UNKNOWN_ID else number, view)
    return [view.to(device) for view in found.values()]


def frames_of(cameras: Sequence[View], times: int) -> list[View]:
    """`times` frames of every camera, each frame at a time of its own, in random order: the first
    ones stand for all."""
    count = len(cameras) * times
    stamps = torch.linspace(0.0, 1.0, count, device=cameras[0].times.device).split(1)
    unknown = torch.full((1,), UNKNOWN_ID)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0)).tolist()
    return [
        replace(cameras[k % len(cameras)], times=stamps[k], camera_ids=unknown, frame_ids=unknown)
        for k in order
    ]


@torch.no_grad()
def frame_rows(subject: Subject, views: Sequence[View], seconds: float) -> list[Row]:
    """A row for each way to draw a subject's frames, also for those that cannot be measured. No
    frame is begun after so many seconds; `n` tells how many were timed."""
    ways = subject.ways(views[0])
    there = [way for way in ways if not way.missing]
    times = time_in_turns_of_views(there, views, seconds)
    middle = views[len(views) // 2]
    # Copied: a later way may overwrite what a captured graph has drawn.
    reference = there[0].render(middle).clone()
    rows = []
    for way in ways:
        row = size_of(way) | {"width": middle.width, "height": middle.height}
        reasons = [way.missing] if way.missing else []
        if way.missing:
            row |= dict.fromkeys(("fps", *columns([0.0]), "times_the_frame", "peak_mb"))
        else:
            own = times[way.name]
            row |= {"fps": 1e3 / median(own), **columns(own)}
            row["times_the_frame"] = median(own) / median(times[FRAME])
            row["peak_mb"] = peak_megabytes(subject, way, middle)
            reasons += [] if row["peak_mb"] is not None else [f"peak_mb: {NO_GPU}"]
        row["largest_difference"] = None
        if way.is_whole and not way.missing:
            row["largest_difference"] = largest_difference(reference, way.render(middle))
        elif not way.missing:
            reasons.append("largest_difference: this is not the image of the whole frame")
        rows.append(row | {"reason": "; ".join(reasons)})
    return rows


def time_in_turns_of_views(
    ways: Sequence[Way], views: Sequence[View], seconds: float
) -> dict[str, list[float]]:
    """Milliseconds of each way by its name: every view is drawn by all ways, one after the other,
    so that a busy moment of the machine meets all of them. What a way prepares does not count."""
    for view in warm_up_views(views):
        for way in ways:
            way.render(view)
    times: dict[str, list[float]] = {way.name: [] for way in ways}
    end = monotonic() + seconds
    for view in track(views, "Drawing frames"):
        if times[ways[0].name] and monotonic() > end:
            break
        for way in ways:
            with environment(way.switches):
                call = partial(way.draw, way.prepare(view))
                times[way.name].append(timed(call))
    return times


def warm_up_views(views: Sequence[View]) -> Iterator[View]:
    """Views that are spread over all cameras and times; some come again where there are few."""
    for k in range(WARM_UP_FRAMES):
        yield views[(k * len(views)) // WARM_UP_FRAMES]


def size_of(way: Way) -> Row:
    """What a way is called, and how large that is which it draws."""
    return {
        "what": way.name,
        "gaussians": getattr(way.module, "num_gaussians", None),
        "mb": megabytes(way.module),
    }


def megabytes(module: nn.Module) -> float:
    """Parameters and buffers."""
    return sum(each.numel() * each.element_size() for each in tensors_of(module)) / BYTES_PER_MB


def largest_difference(one: Float[Tensor, "H W 3"], other: Float[Tensor, "H W 3"]) -> float:
    """Of any colour of any pixel."""
    return float((one - other).abs().max())


def peak_megabytes(subject: Subject, way: Way, view: View) -> float | None:
    """GPU memory that torch holds while a copy of a subject draws a frame, with its weights and
    what its CUDA graphs keep; None without a GPU."""
    if not view.viewmats.is_cuda:
        return None
    # Experts and their graphs name each other, so only the collector frees earlier copies.
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    own = subject.copied(way, view)
    for _ in range(WARM_UP_FRAMES):
        own.render(view)
    torch.cuda.synchronize()
    # What only the capture needed is given back.
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    own.render(view)
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_reserved() - before) / BYTES_PER_MB
