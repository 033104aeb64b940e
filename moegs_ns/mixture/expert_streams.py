"""What experts compute by themselves, side by side on a GPU."""

import os
from collections.abc import Callable, Sequence
from functools import cache
from typing import TypeVar

import torch

from moegs_ns.cuda_graphs.graphed import is_capturing

SWITCH = "MOEGS_EXPERT_STREAMS"
"""Environment variable that keeps all experts on one stream where it is 0, to look for errors."""
T = TypeVar("T")


def side_by_side(calls: Sequence[Callable[[], T]]) -> list[T]:
    """What calls return that do not depend on each other, in order.

    Each is launched on a stream of its own of the current GPU, as the kernels that deform a hundred
    thousand Gaussians are too small to fill it. They begin after all that the current stream was
    given before, which waits for them. Gradients must not be needed: their backward passes would be
    on these streams too.
    """
    if len(calls) < 2 or is_capturing() or os.environ.get(SWITCH) == "0":
        return [call() for call in calls]
    current = torch.cuda.current_stream()
    others = streams(current.device, len(calls) - 1)
    for other in others:
        # So memory that an earlier call has left is not written before its readers are done.
        other.wait_stream(current)
    results = []
    try:
        for stream, call in zip((current, *others), calls, strict=True):
            with torch.cuda.stream(stream):
                results.append(call())
    finally:
        for other in others:
            current.wait_stream(other)
    return results


@cache
def streams(device: torch.device, count: int) -> tuple[torch.cuda.Stream, ...]:
    """The same ones each time: torch keeps the memory of each stream apart."""
    return tuple(torch.cuda.Stream(device) for _ in range(count))
