"""How long calls take.

Times are wall-clock, synchronised with the device, after warm-up calls; every figure comes with its
spread and the number of repeats.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import TypeVar

import torch

Name = TypeVar("Name")


def synchronize() -> None:
    """Wait for the device; does nothing without CUDA."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


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
    return [timed(function) for _ in range(repeats)]


def timed(function: Callable[[], object]) -> float:
    """Milliseconds of one call, from an idle device until it is idle again."""
    synchronize()
    start = time.perf_counter()
    function()
    synchronize()
    return 1e3 * (time.perf_counter() - start)


def time_in_turns(
    calls: Mapping[Name, Callable[[], object]], repeats: int
) -> dict[Name, list[float]]:
    """Milliseconds of calls made in turns, so that a busy moment of the machine meets all of them;
    the first round does not count.
    """
    times: dict[Name, list[float]] = {name: [] for name in calls}
    for _ in range(1 + repeats):
        for name, call in calls.items():
            times[name].append(timed(call))
    return {name: each[1:] for name, each in times.items()}
