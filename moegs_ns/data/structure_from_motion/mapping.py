"""Poses and lenses of cameras that stand still, by COLMAP's incremental mapping.

Needs the package pycolmap, the extra `prepare`; importing this module does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from moegs_ns.data.frames.undistortion import Lens
from moegs_ns.data.lens_formats import colmap_lens
from moegs_ns.data.points.triangulation import database_of, quiet, require_pycolmap
from moegs_ns.data.structure_from_motion.pooling import Pooled

LensModel = Literal[
    "SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "OPENCV_FISHEYE"
]
"""COLMAP's names; the first two are for images without distortion."""
_SEED = 0
_FOCAL = 1.2
"""First guess of a focal length, as a fraction of the image's longer side; COLMAP's own."""
_FATAL_ONLY = 3
"""COLMAP's log level; that no camera can be placed is said in a sentence."""
_SMALLEST_MODEL = 2
"""Cameras; COLMAP's own 10 would refuse small rigs."""


@dataclass(frozen=True, eq=False)
class Placed:
    """A camera whose pose was found, and how well it explains its features."""

    lens: Lens
    world_to_camera: Float[np.ndarray, "3 4"]
    errors: Float[np.ndarray, "P"]
    """Of each point that it sees the distance in pixels from the feature to its projection."""
    track_lengths: Float[np.ndarray, "P"]
    """Of each point the number of cameras that see it."""


def place_cameras(
    pooled: Pooled,
    sizes: Sequence[tuple[int, int]],
    model: LensModel,
    *,
    is_shared: bool,
) -> list[Placed | None]:
    """Lens and pose of every camera, None where none was found, in a world of unknown scale.

    `sizes` are widths and heights of the images. `is_shared` says that all have one lens. The same
    features give the same cameras.

    Raises:
        ImportError: pycolmap is not installed.
    """
    pycolmap = require_pycolmap("Calibrating cameras")
    with quiet(pycolmap, _FATAL_ONLY), TemporaryDirectory(prefix="moegs-calibration-") as temporary:
        folder = Path(temporary)
        database = folder / "database.db"
        _write_database(pycolmap, database, pooled, sizes, model, is_shared)
        pycolmap.set_random_seed(_SEED)
        _verify(pycolmap, database, pooled, folder / "pairs.txt")
        found = pycolmap.incremental_mapping(
            database, folder, folder, options=_mapping_options(pycolmap)
        )
        best = max(found.values(), key=_quality, default=None)
        if best is None:
            return [None] * len(sizes)
        images = {image.name: image for image in best.images.values() if image.has_pose}
        names = [_name(number) for number in range(len(sizes))]
        return [_placed(best, images[name]) if name in images else None for name in names]


def _quality(model: Any) -> tuple[int, int]:
    return model.num_reg_images(), model.num_points3D()


def _name(number: int) -> str:
    return f"{number:04d}"


def _write_database(
    pycolmap: Any,
    path: Path,
    pooled: Pooled,
    sizes: Sequence[tuple[int, int]],
    model: LensModel,
    is_shared: bool,
) -> None:
    cameras = pycolmap.Reconstruction()
    for number, (width, height) in enumerate(sizes, start=1):
        lens = 1 if is_shared else number
        if lens == number:
            camera = pycolmap.Camera.create_from_model_name(
                lens, model, _FOCAL * max(width, height), width, height
            )
            cameras.add_camera_with_trivial_rig(camera)
        image = pycolmap.Image(name=_name(number - 1), camera_id=lens, image_id=number)
        cameras.add_image_with_trivial_frame(image)
    with database_of(pycolmap, cameras, path) as database:
        for number, xy in enumerate(pooled.keypoints, start=1):
            database.write_keypoints(number, xy.astype(np.float32))
        for (one, two), matches in pooled.matches.items():
            database.write_matches(one + 1, two + 1, matches.astype(np.uint32))


def _verify(pycolmap: Any, database: Path, pooled: Pooled, pairs: Path) -> None:
    """Keep the matches of each pair that one relative pose explains."""
    lines = [f"{_name(one)} {_name(two)}\n" for one, two in pooled.matches]
    pairs.write_text("".join(lines), encoding="utf-8")
    options = pycolmap.TwoViewGeometryOptions()
    options.ransac.random_seed = _SEED
    # Matches at one place in both images are none of a watermark: cameras may stand near.
    options.detect_watermark = False
    pycolmap.verify_matches(database, pairs, options=options)


def _mapping_options(pycolmap: Any) -> Any:
    options = pycolmap.IncrementalPipelineOptions()
    options.random_seed = _SEED
    options.mapper.random_seed = _SEED
    options.triangulation.random_seed = _SEED
    # Colours would need the images.
    options.extract_colors = False
    options.min_model_size = _SMALLEST_MODEL
    return options


def _placed(model: Any, image: Any) -> Placed:
    camera, pose = image.camera, image.cam_from_world()
    seen = [point for point in image.points2D if point.has_point3D()]
    points = [model.points3D[point.point3D_id] for point in seen]
    lens = colmap_lens(camera.model.name, np.asarray(camera.params))
    matrix = np.asarray(pose.matrix(), dtype=np.float64)
    xyz = np.array([point.xyz for point in points]).reshape(-1, 3)
    projected = lens.project(xyz @ matrix[:, :3].T + matrix[:, 3])
    errors = np.linalg.norm(projected - np.array([p.xy for p in seen]).reshape(-1, 2), axis=1)
    return Placed(lens, matrix, errors, np.array([float(p.track.length()) for p in points]))
