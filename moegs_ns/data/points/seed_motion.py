"""How what moves gets from one instant to another: its surface is laid onto the later one.

Whole parts first, then ever smaller neighbourhoods (as in non-rigid iterative closest points);
nearest means in position and colour. Flow in the images (OpenCV's DIS, triangulated) was tried: on
a synthetic ball that moves by more than its radius a frame it is two times less exact, and on a
rotating bar two times as well.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8
from sklearn.neighbors import NearestNeighbors

from moegs_ns.data.points.moving_hull import MovingSurface
from moegs_ns.data.points.thinning import evenly_chosen

_MOST_TARGETS = 10_000
"""Cells of the later surface that are looked at; more take longer and hardly tell more."""
_LEVELS = 100.0
"""Difference of colours, of 255, that counts as much as the size of the part, or of the
neighbourhood, that is laid."""
_SIZES = 2.0
"""Largest ratio of the cells of two parts that may be the same thing."""
_COLOURS = 40.0
"""Largest distance of the mean colours of two parts that may be the same thing."""
_STEPS = 15
"""Of a whole part; it stops where it lies still."""
_NEIGHBOURHOODS = (200, 50)
"""Seeds that move alike, from coarse to fine."""
_FINE_STEPS = 6
"""Of each neighbourhood."""
_FINE_CELLS = 8.0
"""Size of a neighbourhood, for colours, in cells."""


@dataclass(frozen=True, eq=False)
class _Target:
    """A later surface, in which the nearest cell in position and colour is looked for."""

    xyz: Float[np.ndarray, "M 3"]
    rgb: UInt8[np.ndarray, "M 3"]

    def nearest(
        self, xyz: Float[np.ndarray, "N 3"], rgb: UInt8[np.ndarray, "N 3"], scale: float
    ) -> Float[np.ndarray, "N 3"]:
        """Positions of the nearest cells, if a difference of colours of `_LEVELS` counts as a
        distance of `scale`."""
        tree = NearestNeighbors(n_neighbors=1).fit(_features(self.xyz, self.rgb, scale))
        found = tree.kneighbors(_features(xyz, rgb, scale), return_distance=False)
        return self.xyz[found[:, 0]]


def displacements(
    xyz: Float[np.ndarray, "N 3"],
    rgb: UInt8[np.ndarray, "N 3"],
    parts: Int[np.ndarray, "N"],
    now: MovingSurface,
    later: MovingSurface,
) -> Float[np.ndarray, "N 3"]:
    """How far each seed on the surface `now` goes until the instant of `later`, in world units; 0
    if nothing moves there.

    `parts` are the numbers that the things which the seeds lie on have in `now`.
    """
    moved = np.zeros_like(xyz, dtype=np.float64)
    if not len(later.xyz):
        return moved
    chosen = evenly_chosen(later.xyz, _MOST_TARGETS, 0)
    target = _Target(later.xyz[chosen], later.rgb[chosen])
    # Lay each part as a whole, from where the part that is most like it is.
    for part in np.unique(parts):
        own = parts == part
        start = _first_guess(now, int(part), later)
        moved[own] = _laid(xyz[own], rgb[own], start, target, now.size)
    # Then neighbourhoods, which may turn and bend.
    scale = _FINE_CELLS * now.size
    for count in _NEIGHBOURHOODS:
        neighbours = _neighbours(xyz, parts, count)
        for _ in range(_FINE_STEPS):
            rest = target.nearest(xyz + moved, rgb, scale) - (xyz + moved)
            step = np.concatenate([moved + rest, np.full((1, 3), np.nan)])[neighbours]
            moved = np.nanmean(step, axis=1)
    return moved


def _features(
    xyz: Float[np.ndarray, "N 3"], rgb: UInt8[np.ndarray, "N 3"], scale: float
) -> Float[np.ndarray, "N 6"]:
    return np.concatenate([xyz, rgb * (scale / _LEVELS)], axis=1)


def _first_guess(now: MovingSurface, part: int, later: MovingSurface) -> Float[np.ndarray, "3"]:
    """From the middle of a part to that of the nearest later one of its size and colour; 0 if there
    is none."""
    own = now.parts == part
    middle, color = now.xyz[own].mean(0), now.rgb[own].mean(0)
    counts = np.bincount(later.parts)
    sizes = counts * (later.size / now.size) ** 2 / own.sum()
    middles, colors = (
        np.stack([np.bincount(later.parts, values[:, axis]) for axis in range(3)], 1)
        / counts[:, None]
        for values in (later.xyz, later.rgb)
    )
    is_alike = (sizes > 1.0 / _SIZES) & (sizes < _SIZES)
    is_alike &= np.linalg.norm(colors - color, axis=1) < _COLOURS
    if not is_alike.any():
        return np.zeros(3)
    shifts = middles[is_alike] - middle
    return shifts[np.linalg.norm(shifts, axis=1).argmin()]


def _laid(
    xyz: Float[np.ndarray, "N 3"],
    rgb: UInt8[np.ndarray, "N 3"],
    start: Float[np.ndarray, "3"],
    target: _Target,
    size: float,
) -> Float[np.ndarray, "3"]:
    """The displacement, near `start`, that lays a whole part onto the later surface."""
    moved, scale = start, max(float(np.ptp(xyz, axis=0).max()), 4.0 * size)
    for _ in range(_STEPS):
        step = (target.nearest(xyz + moved, rgb, scale) - (xyz + moved)).mean(0)
        moved = moved + step
        if np.abs(step).max() < 0.05 * size:
            break
    return moved


def _neighbours(
    xyz: Float[np.ndarray, "N 3"], parts: Int[np.ndarray, "N"], count: int
) -> Int[np.ndarray, "N k"]:
    """Indices of the nearest seeds of the same part, itself included; N where there are fewer."""
    found = np.full((len(xyz), min(count, len(xyz))), len(xyz))
    for part in np.unique(parts):
        own = np.flatnonzero(parts == part)
        number = min(count, len(own))
        nearest = NearestNeighbors(n_neighbors=number).fit(xyz[own])
        found[own, :number] = own[nearest.kneighbors(xyz[own], return_distance=False)]
    return found
