"""nerfstudio's `transforms.json`, of fixed cameras."""

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from moegs_ns.cameras import viewmats_from_opengl
from moegs_ns.data.calibrations.reading import read_json, reading
from moegs_ns.data.lens_formats import transforms_lens
from moegs_ns.data.rig_files import Rig, RigCamera

_SAME = 1e-6
"""Poses of one camera's images, and intrinsics, differ by at most this part."""


def read_transforms(path: Path) -> Rig:
    """The cameras of a file with one image of each, or several images of cameras that stand still.

    A camera is called by its frames' `camera_label` or `camera_id`, by the folder of its images, or
    by the image. Values may stand in a frame or, for all, in the file. The world is the file's own.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such file, or a camera moves.
    """
    with reading(path, "transforms.json of nerfstudio"):
        content = read_json(path)
        common = {key: value for key, value in content.items() if key != "frames"}
        frames = [{**common, **frame} for frame in content["frames"]]
        if not frames:
            raise ValueError("it lists no frames")
        names = _names(frames)
        cameras: dict[str, RigCamera] = {}
        for name, frame in zip(names, frames, strict=True):
            camera = _camera(name, frame)
            known = cameras.setdefault(name, camera)
            if known is not camera:
                _check_still(known, camera)
        return Rig(tuple(cameras[name] for name in sorted(cameras)))


def _names(frames: list[dict[str, Any]]) -> list[str]:
    for key in ("camera_label", "camera_id"):
        if all(key in frame for frame in frames):
            return [str(frame[key]) for frame in frames]
    paths = [PurePosixPath(str(frame["file_path"]).replace("\\", "/")) for frame in frames]
    folders = [_folder(path) for path in paths]
    # A folder of its own for each camera, or one for all.
    if len(set(folders)) > 1:
        return folders
    return [path.stem if path.suffix else path.name for path in paths]


def _folder(path: PurePosixPath) -> str:
    parent = path.parent
    return parent.parent.name if parent.name == "images" and parent.parent.name else parent.name


def _camera(name: str, frame: dict[str, Any]) -> RigCamera:
    width, height = (round(float(frame[key])) for key in ("w", "h"))
    matrix = np.array(frame["transform_matrix"], dtype=np.float64)
    if matrix.shape not in ((3, 4), (4, 4)):
        raise ValueError(f"the transform_matrix of {name} is no 4x4 matrix")
    lens = transforms_lens(frame, width, height)
    return RigCamera(name, "", width, height, lens, viewmats_from_opengl(matrix[None, :3])[0, :3])


def _check_still(known: RigCamera, other: RigCamera) -> None:
    assert known.world_to_camera is not None and other.world_to_camera is not None
    change = np.abs(known.world_to_camera - other.world_to_camera).max()
    if change > _SAME * max(1.0, np.abs(known.world_to_camera).max()):
        raise ValueError(f"the camera {known.name} moves; only cameras that stand still have a rig")
    if known.lens != other.lens:
        raise ValueError(f"the camera {known.name} changes its lens")
