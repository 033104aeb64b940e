"""Camera poses for `n3v-data` from a COLMAP model with one image of each camera.

Needs the package pycolmap, the extra `prepare`; importing this module does not.
"""

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float

from moegs_ns.cameras import llff_from_opengl, opengl_from_viewmats
from moegs_ns.data.damaged_files import COLMAP_LISTS, damage_as_value_error
from moegs_ns.data.dataparsers.recordings import Recording
from moegs_ns.data.points.triangulation import require_pycolmap

_LARGEST_SHIFT = 0.002
"""Fraction of the image's longer side by which a pixel may be off because LLFF rows store one focal
length and no principal point."""
_LARGEST_STRETCH = 0.005
"""Fraction by which aspect ratios of the model and of the videos may differ through rounding."""
_DEPTHS = (0.1, 99.9)
"""Percentiles of the depths of a camera's points that are its near and far bounds, as in LLFF."""


def poses_bounds_from_colmap(
    folder: Path, recordings: list[Recording]
) -> Float[np.ndarray, "C 17"]:
    """LLFF rows of the cameras, in the model's world.

    A row holds 3x5 numbers, row by row: the camera's down, right and back axes and its centre as
    columns, and a last column of height, width and focal length; then the nearest and farthest
    depth of the points that the camera sees. Rows are in the order of the recordings.

    Raises:
        FileNotFoundError: there is no model in the folder.
        ImportError: pycolmap is not installed.
        ValueError: a camera is missing or appears twice, or LLFF rows cannot hold it.
    """
    # Find the image of each camera in the model.
    model = read_colmap_model(folder)
    images = images_by_camera(model, folder)
    missing = [recording.name for recording in recordings if recording.name not in images]
    if missing:
        found = ", ".join(sorted(images)) or "none"
        raise ValueError(
            f"Expected an image of every camera in {folder}, called like {missing[0]}.png or "
            f"{missing[0]}/0000.png, but {', '.join(missing)} cannot be found among those that "
            f"COLMAP placed ({found}); rename the images, or add some that overlap, and run COLMAP "
            "again."
        )
    chosen = [images[recording.name] for recording in recordings]
    for image, recording in zip(chosen, recordings, strict=True):
        _check_lens(image.camera, recording)
    # Convert poses, sizes and focal lengths, and measure the depths of the points.
    viewmats = np.tile(np.eye(4), (len(chosen), 1, 1))
    viewmats[:, :3] = [image.cam_from_world().matrix() for image in chosen]
    sizes = [(i.camera.height, i.camera.width, i.camera.mean_focal_length()) for i in chosen]
    poses = np.zeros((len(chosen), 3, 5))
    poses[:, :, :4] = llff_from_opengl(opengl_from_viewmats(viewmats))
    poses[:, :, 4] = sizes
    bounds = [_bounds(model, *each) for each in zip(chosen, viewmats, strict=True)]
    return np.concatenate([poses.reshape(-1, 15), np.array(bounds)], axis=1)


def read_colmap_model(folder: Path, option: str = "--colmap") -> Any:
    """A COLMAP model; `option` is the one that named its folder.

    Raises:
        FileNotFoundError: there is no model in the folder.
        ImportError: pycolmap is not installed.
        ValueError: the model is broken.
    """
    pycolmap = require_pycolmap("Reading a COLMAP model")
    # COLMAP's own message names neither the option nor an example.
    if not any((folder / f"images{suffix}").is_file() for suffix in (".bin", ".txt")):
        raise FileNotFoundError(
            f"Expected a COLMAP model (cameras, images and points3D as .bin or .txt) in {folder}, "
            f"but there is none; set {option} to a folder such as DATA/sparse/0."
        )
    try:
        with damage_as_value_error():
            for name, lists in COLMAP_LISTS.items():
                if (folder / name).is_file():
                    lists.check(folder / name)
            return pycolmap.Reconstruction(str(folder))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"Expected a COLMAP model in {folder}, but it cannot be read "
            f"({str(error).splitlines()[0]}); run COLMAP again."
        ) from error


def images_by_camera(model: Any, folder: Path) -> dict[str, Any]:
    """Images that COLMAP placed, by the name of the camera that they belong to.

    Raises:
        ValueError: two belong to one camera.
    """
    found: dict[str, Any] = {}
    for _, image in sorted(model.images.items()):
        if not image.has_pose:
            continue
        path = PurePosixPath(image.name)
        name = path.parts[0] if len(path.parts) > 1 else path.stem
        if name in found:
            raise ValueError(
                f"Expected one image of each camera in {folder}, but {found[name].name} and "
                f"{image.name} both belong to {name}; run COLMAP on the first frames alone."
            )
        found[name] = image
    return found


def _check_lens(camera: Any, recording: Recording) -> None:
    """Raise unless one focal length and a central principal point describe the camera."""
    if not camera.is_undistorted():
        raise ValueError(
            f"Expected a model of undistorted images, but the camera of {recording.name} is "
            f"{camera.model.name} with the parameters {camera.params_to_string()}; undistort the "
            "images (for example with COLMAP's image_undistorter), use the undistorted set and its "
            "model."
        )
    width, height = camera.width, camera.height
    recording = recording.as_calibrated(width, height)
    stretch = width * recording.height / (height * recording.width) - 1.0
    if abs(stretch) > _LARGEST_STRETCH:
        raise ValueError(
            f"Expected images of the shape of {recording.path} ({recording.width}x"
            f"{recording.height}), but its image in the model is {width}x{height}; run COLMAP on "
            "frames of the same, undistorted videos."
        )
    focal = camera.mean_focal_length()
    shift = max(
        abs(camera.principal_point_x - width / 2) + abs(camera.focal_length_x / focal - 1) * width,
        abs(camera.principal_point_y - height / 2)
        + abs(camera.focal_length_y / focal - 1) * height,
    )
    if shift > _LARGEST_SHIFT * max(width, height):
        raise ValueError(
            f"Expected one focal length and a principal point in the middle of the image, as LLFF "
            f"poses know no other, but the camera of {recording.name} is {camera.model.name} with "
            f"the parameters {camera.params_to_string()} at {width}x{height}; run COLMAP on the "
            "undistorted images with the camera model SIMPLE_PINHOLE and a fixed principal point."
        )


def _bounds(model: Any, image: Any, viewmat: Float[np.ndarray, "4 4"]) -> tuple[float, float]:
    """Nearest and farthest depth of the points that an image sees."""
    ids = [point.point3D_id for point in image.points2D if point.has_point3D()]
    xyz = np.array([model.points3D[number].xyz for number in ids]).reshape(-1, 3)
    depths = xyz @ viewmat[2, :3] + viewmat[2, 3]
    depths = depths[depths > 0.0]
    if not len(depths):
        raise ValueError(
            f"Expected points in front of {image.name}, which tell the depth of the scene, but the "
            "model has none there; triangulate the points of the model first."
        )
    near, far = np.percentile(depths, _DEPTHS)
    return float(near), float(far)
