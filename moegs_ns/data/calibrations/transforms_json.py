"""nerfstudio's `transforms.json`, of fixed cameras."""

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from moegs_ns.cameras import viewmats_from_opengl
from moegs_ns.data.calibrations.reading import read_json, reading
from moegs_ns.data.frames.undistortion import Lens
from moegs_ns.data.rig_files import Rig, RigCamera

_SAME = 1e-6
"""Poses of one camera's images, and intrinsics, differ by at most this part."""
_FISHEYE = {"OPENCV_FISHEYE"}
_PERSPECTIVE = {"OPENCV", "PERSPECTIVE", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL"}


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
    if "fl_x" not in frame and "camera_angle_x" in frame:
        frame = {**frame, "fl_x": 0.5 * width / np.tan(0.5 * float(frame["camera_angle_x"]))}
    fx = float(frame["fl_x"])
    matrix = np.array(frame["transform_matrix"], dtype=np.float64)
    if matrix.shape not in ((3, 4), (4, 4)):
        raise ValueError(f"the transform_matrix of {name} is no 4x4 matrix")
    model, distortion = _distortion(name, frame)
    lens = Lens(
        fx=fx,
        fy=float(frame.get("fl_y", fx)),
        cx=float(frame.get("cx", width / 2.0)),
        cy=float(frame.get("cy", height / 2.0)),
        model=model,
        distortion=distortion,
    )
    return RigCamera(name, "", width, height, lens, viewmats_from_opengl(matrix[None, :3])[0, :3])


def _distortion(name: str, frame: dict[str, Any]) -> tuple[Any, tuple[float, ...]]:
    """Lens model and coefficients; nerfstudio's k4 of a perspective lens is none of OpenCV's."""
    kind = str(frame.get("camera_model", "OPENCV"))
    names = ("k1", "k2", "k3", "k4", "p1", "p2")
    k1, k2, k3, k4, p1, p2 = (float(frame.get(key, 0.0)) for key in names)
    if kind in _FISHEYE:
        return "fisheye", (k1, k2, k3, k4)
    if kind not in _PERSPECTIVE or k4 != 0.0:
        raise ValueError(f"camera {name} has the camera_model {kind} with k4 = {k4:g}")
    values = (k1, k2, p1, p2, k3)
    return "opencv", values if any(values) else ()


def _check_still(known: RigCamera, other: RigCamera) -> None:
    assert known.world_to_camera is not None and other.world_to_camera is not None
    change = np.abs(known.world_to_camera - other.world_to_camera).max()
    if change > _SAME * max(1.0, np.abs(known.world_to_camera).max()):
        raise ValueError(f"the camera {known.name} moves; only cameras that stand still have a rig")
    if known.lens != other.lens:
        raise ValueError(f"the camera {known.name} changes its lens")
