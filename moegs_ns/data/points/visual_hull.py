"""Points on what moves, where cameras stand too far apart to find the same features: the visual
hull (Laurentini 1994) of what differs from each camera's still background.

It is never smaller than the thing itself, and where few cameras look, much larger.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from moegs_ns.cameras import View, opengl_from_viewmats
from moegs_ns.data.points.initial import Frustums
from moegs_ns.data.points.triangulation import Triangulated
from moegs_ns.data.robust import NORMAL

_DIFFERENCE = 20
"""Levels, of 255, by which some channel of what moves differs from the background at least."""
_NOISE_LEVELS = 6.0
"""The same in standard deviations of the image's noise, where that is more."""
_OPENING = 1
"""Pixels of radius below which what differs is noise."""
_CLOSING = 3
"""Pixels of radius below which a hole is one of colours that happen to be alike."""
_PROBES = 50_000
"""Points in the cameras' views that tell where to look."""
_FARTHER = 2.0
"""How much deeper than the cameras' common view something may move."""
_VOXELS = 64
"""Along the longest side of the box."""
_ROUNDS = 3
"""Each looks only where the one before it has found something."""
_MARGIN = 0.1
"""Of the second box, as a fraction of the first one's contents."""
_MISSED = 0.2
"""Fraction of the cameras that see a voxel that may fail to tell it from their background."""


@dataclass(frozen=True, eq=False)
class Box:
    """A box in the world along its axes."""

    lower: Float[np.ndarray, "3"]
    upper: Float[np.ndarray, "3"]

    def voxels(self) -> tuple[Float[np.ndarray, "N 3"], tuple[int, int, int], float]:
        """Centres of cubes that fill the box, in the order of a grid, its shape, and their size."""
        size = float((self.upper - self.lower).max()) / _VOXELS
        counts = np.maximum(np.ceil((self.upper - self.lower) / size), 1).astype(int)
        grid = np.stack(np.meshgrid(*(np.arange(n) for n in counts), indexing="ij"), axis=-1)
        x, y, z = counts.tolist()
        return self.lower + (grid.reshape(-1, 3) + 0.5) * size, (x, y, z), size


def moving_mask(
    image: UInt8[np.ndarray, "H W 3"], background: UInt8[np.ndarray, "H W 3"]
) -> Bool[np.ndarray, "H W"]:
    """Where an image differs from the still background by more than its noise, which most pixels
    tell, since they stand still."""
    difference = cv2.absdiff(image, background)
    noise = NORMAL * float(np.median(difference))
    differs = (difference.max(-1) > max(_DIFFERENCE, _NOISE_LEVELS * noise)).astype(np.uint8)
    for operation, radius in ((cv2.MORPH_OPEN, _OPENING), (cv2.MORPH_CLOSE, _CLOSING)):
        size = (2 * radius + 1, 2 * radius + 1)
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, size)
        differs = cv2.morphologyEx(differs, operation, kernel)
    return differs > 0


def distances_to(
    masks: Sequence[Bool[np.ndarray, "H W"]],
) -> list[Float[np.ndarray, "H W"]]:
    """Of each pixel to the nearest one that moves, in pixels."""
    return [cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3) for mask in masks]


def visual_hull(
    images: Sequence[UInt8[np.ndarray, "H W 3"]],
    backgrounds: Sequence[UInt8[np.ndarray, "H W 3"]],
    view: View,
) -> Triangulated:
    """Surface of all that may move at the time of the images; perhaps nothing.

    Images and backgrounds are those of the C undistorted cameras in `view`.
    """
    masks = [moving_mask(*pair) for pair in zip(images, backgrounds, strict=True)]
    viewmats, Ks = view.viewmats.double().cpu().numpy(), view.Ks.double().cpu().numpy()
    frustums = Frustums(opengl_from_viewmats(viewmats), Ks, view.width, view.height)
    box = common_box(frustums, _fewest(len(Ks)))
    distances = distances_to(masks)
    surface, seen = np.empty((0, 3)), np.zeros((len(images), 0), bool)
    for number in range(_ROUNDS):
        is_last = number == _ROUNDS - 1
        centers, shape, size = box.voxels()
        # What is thinner than a voxel would slip between the centres of large ones.
        reach = 0.0 if is_last else 0.5 * np.sqrt(3.0) * size
        seen, moving = projected(centers, viewmats, Ks, distances, reach)
        chosen = _is_surface(_is_inside(seen, moving), shape)
        surface, seen = centers[chosen], moving[:, chosen]
        if not len(surface):
            break
        margin = np.maximum(_MARGIN * np.ptp(surface, axis=0), size)
        box = Box(surface.min(0) - margin, surface.max(0) + margin)
    rgb = median_colors(surface, seen, images, viewmats, Ks)
    return Triangulated(surface.astype(np.float32), rgb, seen.sum(1))


def common_box(frustums: Frustums, fewest: int) -> Box:
    """Where at least `fewest` of the cameras see something."""
    depths = frustums.depth_range() * (1.0 / _FARTHER, _FARTHER)
    probes = frustums.sample(depths, _PROBES, np.random.default_rng(0))
    any_depth = np.tile(np.array([0.0, np.inf]), (len(frustums.Ks), 1))
    probes = probes[frustums.see(probes, any_depth).sum(0) >= fewest]
    # Cameras that share no view find no hull in whatever box.
    return Box(probes.min(0), probes.max(0)) if len(probes) else Box(np.zeros(3), np.ones(3))


def _fewest(num_cameras: int) -> int:
    """Cameras that must see a voxel, two thirds: what two see move may be two things."""
    return max(2, -(-2 * num_cameras // 3))


def pixels_of(
    points: Float[np.ndarray, "N 3"], viewmat: Float[np.ndarray, "4 4"], K: Float[np.ndarray, "3 3"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns, rows and depths of points in one camera."""
    local = points @ viewmat[:3, :3].T + viewmat[:3, 3]
    flat = local @ K.T
    depth = np.where(local[:, 2] > 1e-9, local[:, 2], np.inf)
    column, row = np.floor(flat[:, :2].T / depth).astype(np.int64)
    return column, row, local[:, 2]


def projected(
    points: Float[np.ndarray, "N 3"],
    viewmats: Float[np.ndarray, "C 4 4"],
    Ks: Float[np.ndarray, "C 3 3"],
    distances: Sequence[Float[np.ndarray, "H W"]],
    reach: float,
) -> tuple[Bool[np.ndarray, "C N"], Bool[np.ndarray, "C N"]]:
    """Whether each camera has a point in its image, and whether something moves there, or at most
    `reach` beside it; `distances` are those of pixels to the nearest one where something does."""
    height, width = distances[0].shape
    is_seen = np.zeros((len(distances), len(points)), dtype=bool)
    is_moving = np.zeros_like(is_seen)
    for camera, (viewmat, K, distance) in enumerate(zip(viewmats, Ks, distances, strict=True)):
        column, row, depth = pixels_of(points, viewmat, K)
        within = (depth > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        is_seen[camera] = within
        allowed = reach * K[0, 0] / depth[within]
        is_moving[camera, within] = distance[row[within], column[within]] <= allowed
    return is_seen, is_moving


def _is_inside(
    is_seen: Bool[np.ndarray, "C N"], is_moving: Bool[np.ndarray, "C N"]
) -> Bool[np.ndarray, "N"]:
    """What enough cameras see, and nearly all of these see moving."""
    count = is_seen.sum(0)
    needed = count - np.floor(_MISSED * count)
    enough = count >= _fewest(len(is_seen))
    return enough & (is_moving.sum(0) >= needed)


def _is_surface(
    is_inside: Bool[np.ndarray, "N"], shape: tuple[int, int, int]
) -> Bool[np.ndarray, "N"]:
    """Inner voxels with an outer neighbour."""
    grid = np.pad(is_inside.reshape(shape), 1)
    enclosed = np.ones(shape, dtype=bool)
    for axis in range(3):
        for step in (-1, 1):
            enclosed &= np.roll(grid, step, axis)[1:-1, 1:-1, 1:-1]
    return is_inside & ~enclosed.reshape(-1)


def median_colors(
    points: Float[np.ndarray, "N 3"],
    is_seen: Bool[np.ndarray, "C N"],
    images: Sequence[UInt8[np.ndarray, "H W 3"]],
    viewmats: Float[np.ndarray, "C 4 4"],
    Ks: Float[np.ndarray, "C 3 3"],
) -> UInt8[np.ndarray, "N 3"]:
    """Median colour of each point among the cameras that see it; some may see what is before or
    behind it."""
    colors = np.full((len(images), len(points), 3), np.nan)
    for index, (image, viewmat, K) in enumerate(zip(images, viewmats, Ks, strict=True)):
        column, row, _ = pixels_of(points, viewmat, K)
        shown = is_seen[index]
        colors[index, shown] = image[row[shown], column[shown]]
    if not len(points):
        return np.empty((0, 3), np.uint8)
    return np.nanmedian(colors, axis=0).round().astype(np.uint8)
