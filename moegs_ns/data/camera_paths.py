"""Camera paths with time, in the JSON that nerfstudio's viewer writes and `ns-render` reads."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from nerfstudio.utils.rich_utils import CONSOLE

from moegs_ns.data.points.initial import nearest_to_axes

MOST_PIXELS = 16_384
"""Width and height of a video at most."""
SHORTEST, LONGEST = 1e-3, 24 * 3600.0
"""Seconds of a video."""
PosesAndTimes = tuple[Float[np.ndarray, "F 3 4"], Float[np.ndarray, "F"]]
"""Camera to world (OpenGL) and time in [0, 1] of each frame of a video."""


@dataclass(frozen=True)
class Rig:
    """The training cameras that a path is fitted to."""

    camera_to_worlds: Float[np.ndarray, "C 3 4"]
    """OpenGL axes."""
    fov: float
    """Vertical field of view in degrees."""
    width: int
    height: int

    @property
    def positions(self) -> Float[np.ndarray, "C 3"]:
        """Camera centres."""
        return self.camera_to_worlds[:, :, 3]

    @property
    def up(self) -> Float[np.ndarray, "3"]:
        """Mean upward direction of the cameras."""
        up = self.camera_to_worlds[:, :, 1].mean(0)
        return up / np.linalg.norm(up)

    @property
    def focus(self) -> Float[np.ndarray, "3"]:
        """The point nearest to all optical axes; ahead of the cameras if the axes are parallel."""
        system, moments = nearest_to_axes(self.camera_to_worlds)
        if np.linalg.eigvalsh(system)[0] < 1e-3 * len(self.positions):
            middle = self.positions.mean(0)
            spread = np.linalg.norm(self.positions - middle, axis=1).max()
            return middle - self.camera_to_worlds[:, :, 2].mean(0) * max(3.0 * spread, 1.0)
        return np.linalg.solve(system, moments)


@dataclass(frozen=True)
class FixedCamera:
    """One camera of the rig while the clip plays."""

    camera: int = 0
    """Index of the camera among the physical training cameras."""

    def frames(self, rig: Rig, count: int) -> PosesAndTimes:
        """The same pose at times from 0 to 1."""
        if not 0 <= self.camera < len(rig.camera_to_worlds):
            raise ValueError(
                f"--path.camera expects 0 to {len(rig.camera_to_worlds) - 1}, got {self.camera}."
            )
        pose = rig.camera_to_worlds[self.camera]
        return np.repeat(pose[None], count, axis=0), np.linspace(0.0, 1.0, count)


@dataclass(frozen=True)
class Orbit:
    """Once around within the span of the rig while the clip plays."""

    share: float = 0.7
    """Radius as a fraction of the rig's spread."""

    def frames(self, rig: Rig, count: int) -> PosesAndTimes:
        """Poses on an ellipse, looking at the rig's focus, at times from 0 to 1."""
        return orbit_poses(rig, count, self.share), np.linspace(0.0, 1.0, count)


@dataclass(frozen=True)
class FrozenTime:
    """Once around within the span of the rig while time stands still."""

    time: float = 0.5
    """Time in [0, 1] over the clip."""
    share: float = 0.7
    """Radius as a fraction of the rig's spread."""

    def frames(self, rig: Rig, count: int) -> PosesAndTimes:
        """Poses on an ellipse, looking at the rig's focus, all at one time."""
        if not 0.0 <= self.time <= 1.0:
            raise ValueError(f"--path.time expects a time in [0, 1], got {self.time}.")
        return orbit_poses(rig, count, self.share), np.full(count, self.time)


def check_camera_path(content: dict[str, Any], path: Path) -> None:
    """Look at a path before anything is loaded; print a note where time stands still by mistake.

    Raises:
        ValueError: it asks for cameras that are no pinholes, some frames have no time, or a number
            is missing or none that a camera can have.
    """
    kind, frames = str(content.get("camera_type", "perspective")), content["camera_path"]
    if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames):
        raise ValueError(
            f"Expected a list of frames under 'camera_path' in {path}; write the path again."
        )
    # nerfstudio would take any other name for this one.
    if kind.lower() != "perspective":
        raise ValueError(
            f"Expected a path of pinhole cameras, but {path} asks for the camera type {kind}, "
            "which Gaussians are not rendered for here; choose the type Perspective."
        )
    missing = [index for index, frame in enumerate(frames) if frame.get("render_time") is None]
    if 0 < len(missing) < len(frames):
        raise ValueError(
            f"Expected a render_time for every frame of {path}, but {len(missing)} of "
            f"{len(frames)} have none, the first one number {missing[0]}; add them, from 0 to 1 "
            "over the clip."
        )
    _check_numbers(content, path)
    keys = content.get("keyframes") or []
    is_still = not missing and len({frame["render_time"] for frame in frames}) == 1
    if is_still and len(keys) > 1 and not any(key.get("override_time_enabled") for key in keys):
        CONSOLE.print(
            f"All {len(frames)} frames of {path} show the time {frames[0]['render_time']:g}, the "
            "default of the Render tab; for time to run, switch on Override Time at its key "
            "frames.",
            soft_wrap=True,
        )


def _check_numbers(content: dict[str, Any], path: Path) -> None:
    """Raise ValueError unless size, length, poses, fields of view and times can be drawn."""
    numbers = [
        (name, content.get(name), 1.0, MOST_PIXELS) for name in ("render_width", "render_height")
    ]
    numbers.append(("seconds", content.get("seconds"), SHORTEST, LONGEST))
    for index, frame in enumerate(content["camera_path"]):
        where = f" of frame {index}"
        numbers.append((f"fov{where}", frame.get("fov"), 0.01, 179.0))
        if frame.get("render_time") is not None:
            # Times outside of the clip are moved to its ends when they are drawn.
            numbers.append((f"render_time{where}", frame["render_time"], -math.inf, math.inf))
        _check_pose(frame.get("camera_to_world"), index, path)
    for name, value, least, most in numbers:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or not least <= value <= most:
            expected = f"a number from {least:g} to {most:g}" if least > -math.inf else "a number"
            raise ValueError(
                f"Expected {expected} as {name} in the camera path {path}, got {value!r}; correct "
                "it, or write the path again."
            )


def _check_pose(value: Any, index: int, path: Path) -> None:
    try:
        pose = np.array(value, dtype=np.float64).reshape(4, 4)[:3, :3]
        is_rotation = np.allclose(pose.T @ pose, np.eye(3), atol=1e-2)
        is_finite = np.isfinite(np.array(value, dtype=np.float64)).all()
    except (TypeError, ValueError):
        is_rotation = is_finite = False
    if not (is_rotation and is_finite):
        raise ValueError(
            f"Expected 16 numbers of a rotation and a position as camera_to_world of frame {index} "
            f"in the camera path {path}, got others; write the path again."
        )


def orbit_poses(rig: Rig, count: int, radius: float) -> Float[np.ndarray, "F 3 4"]:
    """Poses on the ellipse that the two longest axes of the rig span, looking at its focus;
    `radius` is a fraction of the rig's spread."""
    middle = rig.positions.mean(0)
    _, lengths, axes = np.linalg.svd(rig.positions - middle, full_matrices=True)
    lengths = np.pad(lengths, (0, 3 - len(lengths)))
    # The deviation of a full circle along one axis is its radius over the square root of two.
    radii = radius * math.sqrt(2.0) * lengths[:2] / math.sqrt(len(rig.positions))
    angles = 2.0 * math.pi * np.arange(count) / count
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    positions = middle + cos * radii[0] * axes[0] + sin * radii[1] * axes[1]
    return look_at(positions, rig.focus, rig.up)


def look_at(
    position: Float[np.ndarray, "*F 3"], target: Float[np.ndarray, "3"], up: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "*F 3 4"]:
    """Camera to world in OpenGL axes."""
    back = position - target
    back = back / np.linalg.norm(back, axis=-1, keepdims=True)
    right = np.cross(up, back)
    right = right / np.linalg.norm(right, axis=-1, keepdims=True)
    return np.stack([right, np.cross(back, right), back, position], axis=-1)


def camera_path_json(
    path: FixedCamera | Orbit | FrozenTime, rig: Rig, num_frames: int, fps: float
) -> dict[str, Any]:
    """What nerfstudio's viewer would have written for this path."""
    poses, times = path.frames(rig, num_frames)
    return {
        "camera_type": "perspective",
        "render_width": rig.width,
        "render_height": rig.height,
        "fps": fps,
        "seconds": num_frames / fps,
        "is_cycle": not isinstance(path, FixedCamera),
        "smoothness_value": 0.0,
        "default_fov": rig.fov,
        "default_time": float(times[0]),
        "default_transition_sec": 1.0 / fps,
        "keyframes": [],
        "camera_path": [
            {
                "camera_to_world": [*pose.flatten().tolist(), 0.0, 0.0, 0.0, 1.0],
                "fov": rig.fov,
                "aspect": rig.width / rig.height,
                "render_time": float(time),
            }
            for pose, time in zip(poses, times, strict=True)
        ],
    }
