"""Features of several instants as those of one image of each camera.

Cameras that stand still have one pose at all instants, so what they see at different ones counts
together, while only features of one instant may match.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

Pair = tuple[int, int]
"""Places of two cameras, the lower one first."""


@dataclass(frozen=True, eq=False)
class Pooled:
    """What C cameras see at all instants."""

    keypoints: tuple[Float[np.ndarray, "_ 2"], ...]
    """Of each camera the pixels of its features, instant after instant."""
    matches: dict[Pair, Int[np.ndarray, "_ 2"]]
    """Of each pair of cameras the indices of features that match."""


def pool(
    features: Sequence[Sequence[Float[np.ndarray, "_ 2"]]],
    matches: Sequence[Mapping[Pair, Int[np.ndarray, "_ 2"]]],
) -> Pooled:
    """Stack the features of all instants, given for each instant and camera, and renumber the
    matches, given for each instant and pair of cameras."""
    counts = np.array([[len(xy) for xy in instant] for instant in features])
    starts = np.cumsum(counts, axis=0) - counts
    keypoints = tuple(np.concatenate(of_camera) for of_camera in zip(*features, strict=True))
    pairs = sorted({pair for instant in matches for pair in instant})
    stacked = {
        pair: np.concatenate(
            [
                instant[pair] + starts[number, list(pair)]
                for number, instant in enumerate(matches)
                if pair in instant
            ]
        )
        for pair in pairs
    }
    return Pooled(keypoints, stacked)
