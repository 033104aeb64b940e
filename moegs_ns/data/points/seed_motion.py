"""How what moves gets from one instant to another: its surface is laid onto the later one.

Whole parts first, then ever smaller neighbourhoods (as in non-rigid iterative closest points);
nearest means in position and colour. Flow in the images (OpenCV's DIS), triangulated between
cameras, was tried: on a drawn ball that moves by most of its radius a frame, and on a turning bar,
its errors are about twice as large.
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
_FARTHEST = 3.0
"""How far a part gets at most, in its own sizes."""
_STEPS = 15
"""Of a whole part; it stops where it lies still."""
_NEIGHBOURHOODS = (200, 50)
"""Seeds that move alike, from coarse to fine."""
_FINE_STEPS = 6
"""Of each neighbourhood."""
_FINE_CELLS = 8.0
"""How far a neighbourhood is off at most, in cells; also its size, as far as colours go."""


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
    guesses = _first_guesses(now, later)
    for part in np.unique(parts):
        own = parts == part
        moved[own] = _laid(xyz[own], rgb[own], guesses[part], target, now.size)
    # Then neighbourhoods, which may turn and bend.
    reach = _FINE_CELLS * now.size
    for count in _NEIGHBOURHOODS:
        neighbours = _neighbours(xyz, parts, count)
        for _ in range(_FINE_STEPS):
            rest = target.nearest(xyz + moved, rgb, reach) - (xyz + moved)
            rest[np.linalg.norm(rest, axis=1) > reach] = 0.0
            step = np.concatenate([moved + rest, np.full((1, 3), np.nan)])[neighbours]
            moved = np.nanmean(step, axis=1)
    return moved


def _features(
    xyz: Float[np.ndarray, "N 3"], rgb: UInt8[np.ndarray, "N 3"], scale: float
) -> Float[np.ndarray, "N 6"]:
    return np.concatenate([xyz, rgb * (scale / _LEVELS)], axis=1)


@dataclass(frozen=True, eq=False)
class _Parts:
    """What tells the P things of a surface apart."""

    middles: Float[np.ndarray, "P 3"]
    colors: Float[np.ndarray, "P 3"]
    areas: Float[np.ndarray, "P"]
    extents: Float[np.ndarray, "P"]

    @staticmethod
    def of(surface: MovingSurface) -> "_Parts":
        """Those of a surface."""
        counts = np.bincount(surface.parts).astype(float)

        def mean(values: np.ndarray) -> np.ndarray:
            sums = [np.bincount(surface.parts, values[:, axis]) for axis in range(3)]
            return np.stack(sums, axis=1) / counts[:, None]

        middles = mean(surface.xyz)
        away = np.linalg.norm(surface.xyz - middles[surface.parts], axis=1)
        extents = np.full(len(counts), surface.size)
        np.maximum.at(extents, surface.parts, 2.0 * away)
        return _Parts(middles, mean(surface.rgb), counts * surface.size**2, extents)


def _first_guesses(now: MovingSurface, later: MovingSurface) -> Float[np.ndarray, "P 3"]:
    """From the middle of each part to that of the nearest later one that is like it, if it is also
    the nearest for that one; else 0."""
    ours, theirs = _Parts.of(now), _Parts.of(later)
    shifts = theirs.middles[None] - ours.middles[:, None]
    lengths = np.linalg.norm(shifts, axis=-1)
    ratios = theirs.areas[None] / ours.areas[:, None]
    colors = np.linalg.norm(theirs.colors[None] - ours.colors[:, None], axis=-1)
    is_alike = (ratios > 1.0 / _SIZES) & (ratios < _SIZES) & (colors < _COLOURS)
    is_alike &= lengths < _FARTHEST * ours.extents[:, None]
    lengths = np.where(is_alike, lengths, np.inf)
    best, back = lengths.argmin(1), lengths.argmin(0)
    rows = np.arange(len(best))
    is_mutual = np.isfinite(lengths[rows, best]) & (back[best] == rows)
    return np.where(is_mutual[:, None], shifts[rows, best], 0.0)


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
        rest = target.nearest(xyz + moved, rgb, scale) - (xyz + moved)
        # What lies farther away is something else.
        near = np.linalg.norm(rest, axis=1) < scale
        step = rest[near].mean(0) if near.any() else np.zeros(3)
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
