"""Timing, and random scenes.

Times are wall-clock, synchronised with the device, after warm-up calls; every figure comes with its
spread and the number of repeats.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import TypeVar

import torch

from moegs_ns.cameras import UNKNOWN_ID, View
from moegs_ns.gaussians import Gaussians
from moegs_ns.reports.scores import synchronize
from moegs_ns.splatting.projection import num_bases

Name = TypeVar("Name")


def columns(milliseconds: Sequence[float], prefix: str = "") -> dict[str, float | int]:
    """Columns of a row: median, extremes and number of repeated calls."""
    return {
        f"{prefix}median_ms": round(median(milliseconds), 4),
        f"{prefix}min_ms": round(min(milliseconds), 4),
        f"{prefix}max_ms": round(max(milliseconds), 4),
        f"{prefix}n": len(milliseconds),
    }


def time_calls(function: Callable[[], object], repeats: int = 20, warmup: int = 3) -> list[float]:
    """Milliseconds of each call of `function` after the `warmup` first ones."""
    if repeats < 1:
        raise ValueError(f"Timing expected at least one repeat, got {repeats}.")
    for _ in range(warmup):
        function()
    durations = []
    for _ in range(repeats):
        synchronize()
        start = time.perf_counter()
        function()
        synchronize()
        durations.append(1e3 * (time.perf_counter() - start))
    return durations


def time_in_turns(
    calls: Mapping[Name, Callable[[], object]], repeats: int
) -> dict[Name, list[float]]:
    """Milliseconds of calls made in turns, so that a busy moment of the machine meets all of them;
    the first round does not count.
    """
    times: dict[Name, list[float]] = {name: [] for name in calls}
    for _ in range(1 + repeats):
        for name, call in calls.items():
            times[name] += time_calls(call, 1, warmup=0)
    return {name: each[1:] for name, each in times.items()}


def random_gaussians(count: int, view: View, generator: torch.Generator) -> Gaussians:
    """Gaussians that fill the image of the first camera, 2 to 8 units ahead of it, with standard
    deviations of 1 to 3 pixels.
    """
    device, focal = view.viewmats.device, float(view.Ks[0, 0, 0])
    uniform = torch.rand(count, 7, generator=generator)
    depths = 2.0 + 6.0 * uniform[:, 2]
    across = 1.1 * depths / focal
    x = (uniform[:, 0] - 0.5) * view.width * across
    y = (uniform[:, 1] - 0.5) * view.height * across
    means = torch.stack([x, y, depths], dim=-1)
    quats = torch.randn(count, 4, generator=generator)
    sh = 0.3 * torch.randn(count, num_bases(3), 3, generator=generator)
    scales = 2.0 * (0.5 + uniform[:, 3:6]) * (depths / focal)[:, None]
    return Gaussians(
        means=means.to(device),
        quats=torch.nn.functional.normalize(quats, dim=-1).to(device),
        scales=scales.to(device),
        opacities=(0.1 + 0.85 * uniform[:, 6]).to(device),
        sh=sh.to(device),
    )


def forward_view(width: int, height: int, device: str = "cpu") -> View:
    """One camera at the origin that looks along z."""
    focal = 0.9 * width
    K = torch.tensor([[focal, 0, 0.5 * width], [0, focal, 0.5 * height], [0, 0, 1]])
    unknown = torch.full((1,), UNKNOWN_ID)
    return View(
        viewmats=torch.eye(4)[None], Ks=K[None], width=width, height=height, times=torch.zeros(1),
        camera_ids=unknown, frame_ids=unknown,
    ).to(device)  # fmt: skip
