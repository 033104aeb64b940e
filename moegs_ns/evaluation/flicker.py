"""Flicker: how much images and gates change from frame to frame where nothing moves."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from moegs_ns.scene import FrameTable


def consecutive_pairs(table: FrameTable, count: int) -> list[tuple[int, int]]:
    """At most `count` pairs of rows that are one camera at consecutive frames, evenly spaced."""
    order = sorted(
        range(len(table)), key=lambda row: (int(table.camera_ids[row]), int(table.frame_ids[row]))
    )
    pairs = [
        (first, second)
        for first, second in pairwise(order)
        if table.camera_ids[first] == table.camera_ids[second]
        and table.frame_ids[second] == table.frame_ids[first] + 1
    ]
    chosen = torch.linspace(0, len(pairs) - 1, min(count, len(pairs))).round().long().tolist()
    return [pairs[index] for index in chosen]


def color_change(
    first: Float[Tensor, "*s H W 3"], second: Float[Tensor, "*s H W 3"]
) -> Float[Tensor, "*s H W"]:
    """Mean absolute change of the colours of each pixel."""
    return (second - first).abs().mean(-1)


def gate_change(
    first: Float[Tensor, "E H W 1"], second: Float[Tensor, "E H W 1"]
) -> Float[Tensor, "H W"]:
    """Part of each pixel's gates that goes to other experts, 0 to 1: half the sum of changes."""
    return 0.5 * (second - first).abs().sum(0)[..., 0]
