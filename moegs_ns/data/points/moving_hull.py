"""Where something moves at one instant, cell by cell, and what colour it has there.

The visual hull (Laurentini 1994) of what differs from each camera's still background. Cells are
halved only where something may move, so that a ball is found in a hall.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from sklearn.cluster import DBSCAN

from moegs_ns.cameras import View, opengl_from_viewmats
from moegs_ns.data.points.initial import Frustums
from moegs_ns.data.points.visual_hull import (
    common_box,
    distances_to,
    median_colors,
    pixels_of,
    projected,
)

_FINEST = 1.25
"""Pixels that the smallest cells measure in a typical camera."""
_MOST_CELLS = 500_000
"""Cells beyond which they are not halved any more, since that takes too long."""
_NEIGHBOUR = 1.8
"""Distance below which two cells of size 1 touch, if only at a corner."""
_MISSED = 0.2
"""Fraction of the cameras that see a cell that may fail to tell it from their background, for
example because something stands before it."""
_OCTANTS = np.stack(np.meshgrid(*[[0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)


@dataclass(frozen=True, eq=False)
class Rig:
    """C undistorted cameras that stand still."""

    viewmats: Float[np.ndarray, "C 4 4"]
    Ks: Float[np.ndarray, "C 3 3"]
    width: int
    height: int

    @staticmethod
    def of(view: View) -> "Rig":
        """The cameras of a view."""
        viewmats, Ks = view.viewmats.double().cpu().numpy(), view.Ks.double().cpu().numpy()
        return Rig(viewmats, Ks, view.width, view.height)

    @property
    def fewest(self) -> int:
        """Cameras that must see a point, half of them: what two see move may be two things."""
        return max(2, -(-len(self.Ks) // 2))

    def pixel_size(self, point: Float[np.ndarray, "3"]) -> float:
        """Size of a pixel in the world, at a point, in the middle one of the cameras."""
        depths = self.viewmats[:, 2, :3] @ point + self.viewmats[:, 2, 3]
        sizes = (depths / self.Ks[:, 0, 0])[depths > 0]
        return float(np.median(sizes)) if len(sizes) else 0.0


@dataclass(frozen=True, eq=False)
class MovingSurface:
    """Cells at the surface of what moves at one instant."""

    xyz: Float[np.ndarray, "N 3"]
    rgb: UInt8[np.ndarray, "N 3"]
    parts: Int[np.ndarray, "N"]
    """Number of the connected thing that each cell belongs to, from 0."""
    size: float
    """Edge of a cell, in world units."""
    shown: Bool[np.ndarray, "C N"]
    """Which cameras show each cell."""


def moving_surface(
    images: Sequence[UInt8[np.ndarray, "H W 3"]],
    masks: Sequence[Bool[np.ndarray, "H W"]],
    rig: Rig,
) -> MovingSurface:
    """Surface of all that moves at the time of the images; perhaps nothing."""
    distances = distances_to(masks)
    frustums = Frustums(opengl_from_viewmats(rig.viewmats), rig.Ks, rig.width, rig.height)
    box = common_box(frustums, rig.fewest)
    centers, shape, size = box.voxels()
    cells = np.stack(np.unravel_index(np.arange(len(centers)), shape), axis=-1)
    finest = _FINEST * rig.pixel_size(0.5 * (box.lower + box.upper))
    # Halve the cells in which something may move, while they are coarse and few.
    while True:
        reach = 0.5 * np.sqrt(3.0) * size
        cells = cells[_inside(box.lower + (cells + 0.5) * size, distances, reach, rig)[0]]
        if not len(cells) or size < 2.0 * finest or len(_OCTANTS) * len(cells) > _MOST_CELLS:
            break
        cells = (2 * cells[:, None] + _OCTANTS).reshape(-1, 3)
        size *= 0.5
    # Keep those whose centres move, and of them the surface.
    is_inside, moving = _inside(box.lower + (cells + 0.5) * size, distances, 0.0, rig)
    chosen = np.flatnonzero(is_inside)[_is_surface(cells[is_inside])]
    xyz, moving = box.lower + (cells[chosen] + 0.5) * size, moving[:, chosen]
    shown = moving & _is_in_front(xyz, size, rig)
    shown = np.where(shown.any(0), shown, moving)
    colors = median_colors(xyz, shown, images, rig.viewmats, rig.Ks)
    return MovingSurface(xyz, colors, _parts(cells[chosen]), size, shown)


def _inside(
    centers: Float[np.ndarray, "N 3"],
    distances: Sequence[Float[np.ndarray, "H W"]],
    reach: float,
    rig: Rig,
) -> tuple[Bool[np.ndarray, "N"], Bool[np.ndarray, "C N"]]:
    """Which cells enough cameras see, and nearly all of these see moving at most `reach` beside the
    centre; and which cameras do."""
    is_seen, is_moving = projected(centers, rig.viewmats, rig.Ks, distances, reach)
    count = is_seen.sum(0)
    needed = count - np.floor(_MISSED * count)
    return (count >= rig.fewest) & (is_moving.sum(0) >= needed), is_moving


def _is_surface(cells: Int[np.ndarray, "N 3"]) -> Bool[np.ndarray, "N"]:
    """Cells some of whose six neighbours are not among them."""
    if not len(cells):
        return np.zeros(0, dtype=bool)
    base = int(cells.max()) + 3
    weights = np.array([base * base, base, 1])
    keys = (cells + 1) @ weights
    is_enclosed = np.ones(len(cells), dtype=bool)
    for step in (*weights, *-weights):
        is_enclosed &= np.isin(keys + step, keys)
    return ~is_enclosed


def _parts(cells: Int[np.ndarray, "N 3"]) -> Int[np.ndarray, "N"]:
    """Number of the connected part that each cell belongs to."""
    if not len(cells):
        return np.zeros(0, dtype=np.int64)
    # Cells twice as large are fewer, and bridge gaps of one.
    coarse, inverse = np.unique(cells // 2, axis=0, return_inverse=True)
    labels = DBSCAN(eps=_NEIGHBOUR, min_samples=1).fit(coarse).labels_
    return labels[inverse.reshape(-1)]


def _is_in_front(xyz: Float[np.ndarray, "N 3"], size: float, rig: Rig) -> Bool[np.ndarray, "C N"]:
    """Whether no other cell hides a cell from a camera."""
    is_front = np.zeros((len(rig.Ks), len(xyz)), dtype=bool)
    for index, (viewmat, K) in enumerate(zip(rig.viewmats, rig.Ks, strict=True)):
        column, row, depth = pixels_of(xyz, viewmat, K)
        before = np.flatnonzero(depth > 0)
        if not len(before):
            continue
        # Blocks of pixels as large as a cell, so that no ray slips between cells.
        block = max(1, int(np.ceil(1.5 * size * K[0, 0] / np.median(depth[before]))))
        row_length = column[before].max() // block + 1
        pixels = row[before] // block * row_length + column[before] // block
        numbers = np.unique(pixels, return_inverse=True)[1]
        nearest = np.full(numbers.max() + 1, np.inf)
        np.minimum.at(nearest, numbers, depth[before])
        is_front[index, before] = depth[before] <= nearest[numbers] + 2.0 * size
    return is_front
