"""Initial points from depth maps of a camera that stands still.

Such a camera gives nothing to triangulate. Each of its pixels becomes a point, from the first image
in which nothing is in front: what tools hide in one image is filled in from others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from moegs_ns.data.frames.images import decode_image, decode_mask, read_values
from moegs_ns.data.frames.undistortion import Lens
from moegs_ns.data.points.files import PointCloud
from moegs_ns.data.points.initial import OUTLIER_FRACTION

MOST_IMAGES = 20
"""Images that are looked at, evenly over the clip."""


@dataclass(frozen=True)
class DepthImage:
    """An image with its depth map."""

    image: Path
    depth: Path
    """Image file of one channel; 0 where the depth is unknown."""
    mask: Path | None = None
    """Image file, above 0 on what is not wanted; None if all is."""


def points_of_depth_maps(
    images: Sequence[DepthImage],
    lens: Lens,
    size: tuple[int, int],
    viewmat: Float[np.ndarray, "4 4"],
    *,
    depth_scale: float,
    count: int,
    seed: int,
) -> PointCloud:
    """At most `count` points, chosen at random, that one still camera saw.

    Args:
        images: in order of time.
        lens: the pinhole at the size of the images.
        size: width and height of the images, and of what belongs to them.
        viewmat: world to camera in OpenCV axes.
        depth_scale: units of the maps in a unit of the world.
        count: most points.
        seed: of the choice.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is broken or has another size, or no depth is known.
    """
    chosen = np.unique(np.linspace(0, len(images) - 1, MOST_IMAGES).round().astype(int))
    depths = np.zeros(size[::-1])
    colors = np.zeros((*size[::-1], 3), np.uint8)
    for each in (images[place] for place in chosen):
        depth, is_known = _read_depth(each, size)
        is_new = is_known & (depths == 0.0)
        depths[is_new] = depth[is_new] / depth_scale
        colors[is_new] = decode_image(each.image, None, size)[is_new]
    rows, columns = np.nonzero(depths)
    if not len(rows):
        raise ValueError(
            f"Expected depths above 0 in {images[0].depth.parent}, but all of the images that "
            "training uses are unknown or masked; remove the folder, or correct the masks."
        )
    if len(rows) > count:
        picked = np.sort(np.random.default_rng(seed).choice(len(rows), count, replace=False))
        rows, columns = rows[picked], columns[picked]
    z = depths[rows, columns]
    x = (columns + 0.5 - lens.cx) / lens.fx * z
    y = (rows + 0.5 - lens.cy) / lens.fy * z
    xyz = (np.stack([x, y, z], axis=1) - viewmat[:3, 3]) @ viewmat[:3, :3]
    origin = f"Initial points: {len(rows)} from the depth maps in {images[0].depth.parent}."
    return PointCloud(xyz.astype(np.float32), colors[rows, columns], None, origin)


def _read_depth(
    image: DepthImage, size: tuple[int, int]
) -> tuple[Float[np.ndarray, "H W"], Bool[np.ndarray, "H W"]]:
    """Depths in units of the map, and where they can be trusted."""
    depth = read_values(image.depth, size, "a depth map").astype(np.float64)
    is_known = np.isfinite(depth) & (depth > 0.0)
    if image.mask is not None:
        is_known &= ~decode_mask(image.mask, size)
    if is_known.any():
        # Matching two images gives some depths that are far off.
        ends = [OUTLIER_FRACTION, 1.0 - OUTLIER_FRACTION]
        near, far = np.quantile(depth[is_known], ends)
        is_known &= (depth >= near) & (depth <= far)
    return depth, is_known
