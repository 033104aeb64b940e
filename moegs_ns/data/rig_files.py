"""`rig.json`: the cameras of a rig, in one neutral form that any calibration can be written in."""

import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from moegs_ns.atomic_files import atomic_write_text
from moegs_ns.data.calibration import check_rotations
from moegs_ns.data.frames.bars import NO_BARS, Bars
from moegs_ns.data.frames.undistortion import Lens

RIG = "rig.json"
"""File in a scene folder."""
FORMAT = "moegs rig 1"
CONVENTIONS = {
    "file": "video, or folder of images, relative to this file",
    "width, height": "pixels of the images as players show them, turned by the stored rotation",
    "K": "[[fx, skew, cx], [0, fy, cy], [0, 0, 1]] in pixels; the centre of the first pixel is "
    "(0.5, 0.5)",
    "model, distortion": "opencv: k1 k2 p1 p2 [k3 [k4 k5 k6 [s1 s2 s3 s4]]]; fisheye (OpenCV's): "
    "k1 k2 k3 k4; an empty list is a pinhole",
    "world_to_camera": "3x4 [R | t]: x_camera = R x_world + t; camera axes x right, y down, z "
    "forward",
    "start": "index in the file, from 0, of the frame that is the rig's frame 0; null where "
    "clocks or numbers of the files tell",
    "fps": "frames per second of the file; null where unknown",
    "bars": "[left, top, right, bottom], pixels of black bars in the images; missing where there "
    "are none",
    "unit": "length of the world's unit",
}
"""Written into every file, for its readers."""


@dataclass(frozen=True, eq=False)
class RigCamera:
    """One physical camera of a rig, calibrated or not yet."""

    name: str
    """Without a name of its own, as in formats that only list cameras, empty."""
    file: str = ""
    """Relative to the rig file; empty in calibrations, which name no files."""
    width: int | None = None
    height: int | None = None
    lens: Lens | None = None
    """At this size; None before calibration."""
    world_to_camera: Float[np.ndarray, "3 4"] | None = None
    """OpenCV axes; None before calibration."""
    start: int | None = None
    fps: float | None = None
    bars: Bars = NO_BARS
    """Black bars in the images, at this size."""

    @property
    def is_calibrated(self) -> bool:
        """Whether lens and pose are known."""
        return self.lens is not None and self.world_to_camera is not None

    @property
    def position(self) -> Float[np.ndarray, "3"]:
        """Centre in the world of a calibrated camera."""
        assert self.world_to_camera is not None, self.name
        return -self.world_to_camera[:, :3].T @ self.world_to_camera[:, 3]


@dataclass(frozen=True, eq=False)
class Rig:
    """All cameras of a scene."""

    cameras: tuple[RigCamera, ...]
    unit: str = "unknown"
    """Length of the world's unit, as "m"."""


def write_rig(path: Path, rig: Rig) -> None:
    """Write a rig file, at once; see `atomic_write` for errors."""
    content = {
        "format": FORMAT,
        "conventions": CONVENTIONS,
        "unit": rig.unit,
        "cameras": [_entry(camera) for camera in rig.cameras],
    }
    atomic_write_text(path, json.dumps(content, indent=1) + "\n", "rig", "choose another --data")


def read_rig(path: Path) -> Rig:
    """The cameras of a rig file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no rig file, or some camera is impossible.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected the cameras of the rig in {path}, but there is no such file; write it with "
            "`moegs prepare rig` and `moegs prepare calibrate`."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        if found != FORMAT:
            raise ValueError(f"its format is {found!r}")
        cameras = tuple(_camera(entry) for entry in content["cameras"])
        unit = str(content.get("unit", "unknown"))
        if not cameras:
            raise ValueError("it lists no camera")
        name, count = Counter(camera.name for camera in cameras).most_common(1)[0]
        if count > 1:
            raise ValueError(f"{count} cameras are called {name}")
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(
            f"Expected a rig file ({FORMAT}) in {path}, but {reason}; write it anew with `moegs "
            "prepare rig`."
        ) from error
    poses = [(c.name, c.world_to_camera) for c in cameras if c.world_to_camera is not None]
    if poses:
        rotations = np.stack([pose[:, :3] for _, pose in poses])
        check_rotations(rotations, [f"{name} in {path}" for name, _ in poses])
    return Rig(cameras, unit)


def lens_from_matrix(
    K: Float[np.ndarray, "..."],
    distortion: Float[np.ndarray, "..."] | list[float] | tuple[float, ...] = (),
    *,
    model: str = "opencv",
    shift: float = 0.0,
) -> Lens:
    """A lens from a matrix of intrinsics; `shift` is added to the principal point, 0.5 where the
    file counts pixels from the centre of the first one.

    Raises:
        ValueError: the matrix or the coefficients are none.
    """
    K = np.asarray(K, dtype=np.float64)
    if K.shape != (3, 3) or K[1, 0] != 0.0 or np.abs(K[2] - (0.0, 0.0, 1.0)).max() > 1e-9:
        raise ValueError(
            f"Expected intrinsics [[fx, skew, cx], [0, fy, cy], [0, 0, 1]], got {K.tolist()}; "
            "calibrate the camera again."
        )
    return Lens(
        fx=float(K[0, 0]),
        fy=float(K[1, 1]),
        cx=float(K[0, 2]) + shift,
        cy=float(K[1, 2]) + shift,
        skew=float(K[0, 1]),
        model=model,
        distortion=tuple(float(value) for value in np.asarray(distortion).reshape(-1)),
    )


def pose_from(rotation: Any, translation: Any) -> Float[np.ndarray, "3 4"]:
    """World to camera from a rotation matrix and a translation."""
    rotation = np.asarray(rotation, dtype=np.float64).reshape(3, 3)
    return np.concatenate([rotation, np.asarray(translation, np.float64).reshape(3, 1)], axis=1)


def _entry(camera: RigCamera) -> dict[str, Any]:
    lens, pose, bars = camera.lens, camera.world_to_camera, camera.bars
    return {
        "name": camera.name,
        "file": camera.file,
        "width": camera.width,
        "height": camera.height,
        "K": None if lens is None else lens.K.tolist(),
        "model": None if lens is None else lens.model,
        "distortion": None if lens is None else list(lens.distortion),
        "world_to_camera": None if pose is None else pose.tolist(),
        "start": camera.start,
        "fps": camera.fps,
        **({"bars": [bars.left, bars.top, bars.right, bars.bottom]} if bars else {}),
    }


def _camera(entry: dict[str, Any]) -> RigCamera:
    name, file = entry["name"], entry["file"]
    if not (isinstance(name, str) and name and isinstance(file, str) and file):
        raise ValueError(f"a camera has the name {name!r} and the file {file!r}")
    K, pose, start, fps = (entry.get(key) for key in ("K", "world_to_camera", "start", "fps"))
    lens = None
    if K is not None:
        model, distortion = entry.get("model") or "opencv", entry.get("distortion") or []
        lens = lens_from_matrix(np.array(K, np.float64), distortion, model=model)
    if pose is not None:
        pose = np.array(pose, dtype=np.float64)
        if pose.shape not in ((3, 4), (4, 4)) or not np.isfinite(pose).all():
            raise ValueError(f"the pose of {name} is no finite 3x4 matrix")
        pose = pose[:3]
    if start is not None and (not isinstance(start, int) or start < 0):
        raise ValueError(f"{name} starts at frame {start}, which is no whole number from 0")
    if fps is not None and not (math.isfinite(float(fps)) and float(fps) > 0.0):
        raise ValueError(f"{name} has {fps} frames per second")
    width, height = entry.get("width"), entry.get("height")
    if any(s is not None and (not isinstance(s, int) or s < 1) for s in (width, height)):
        raise ValueError(f"{name} has the size {width}x{height}")
    bars = Bars(*_whole_numbers(entry["bars"])) if entry.get("bars") else NO_BARS
    if width is not None and height is not None:
        bars.inside(width, height)
    fps = None if fps is None else float(fps)
    return RigCamera(name, file, width, height, lens, pose, start, fps, bars)


def _whole_numbers(values: Any) -> list[int]:
    is_four = isinstance(values, list) and len(values) == 4
    if not is_four or not all(type(value) is int for value in values):
        raise ValueError(f"the bars are {values}, which are no four whole numbers")
    return values
