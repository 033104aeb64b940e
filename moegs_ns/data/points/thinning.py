"""Fewer points that cover the same space."""

import numpy as np
from jaxtyping import Float, Int

_VOXEL_STEPS = 40
_MAX_VOXELS = 2**20
"""Voxels along one axis; three such numbers fit into one integer of 64 bits."""


def evenly_chosen(xyz: Float[np.ndarray, "N 3"], count: int, seed: int) -> Int[np.ndarray, "M"]:
    """Indices of `count` points that cover the space of all, ascending; fixed by the seed.

    One random point of every voxel, in the finest grid with at most `count` occupied voxels, then
    any others. Where something stands still, its points of many frames count as one.
    """
    if len(xyz) <= count:
        return np.arange(len(xyz))
    order = np.random.default_rng(seed).permutation(len(xyz))
    offsets = xyz[order].astype(np.float64) - xyz.min(0)
    largest = max(float(offsets.max()), 1e-12)
    low, high = np.log(largest / (_MAX_VOXELS - 1)), np.log(2.0 * largest)
    # Bisect the logarithm of the voxel size.
    for _ in range(_VOXEL_STEPS):
        middle = 0.5 * (low + high)
        if len(_one_of_each_voxel(offsets, np.exp(middle))) > count:
            low = middle
        else:
            high = middle
    chosen = _one_of_each_voxel(offsets, np.exp(high))
    others = np.setdiff1d(np.arange(len(xyz)), chosen)[: count - len(chosen)]
    return np.sort(order[np.concatenate([chosen, others])])


def _one_of_each_voxel(offsets: Float[np.ndarray, "N 3"], size: float) -> Int[np.ndarray, "M"]:
    """The first point in each occupied voxel."""
    x, y, z = np.floor(offsets / size).astype(np.int64).T
    return np.unique((x * _MAX_VOXELS + y) * _MAX_VOXELS + z, return_index=True)[1]
