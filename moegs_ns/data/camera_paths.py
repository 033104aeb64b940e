"""Camera paths with time, in the JSON that nerfstudio's viewer writes and `ns-render` reads."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float
from nerfstudio.cameras.camera_utils import (
    quaternion_from_matrix,
    quaternion_matrix,
    quaternion_slerp,
)

from moegs_ns.data.points.initial import nearest_to_axes

KEY_FRAMES = 16
"""Most key frames of a path that are written for the viewer's Render tab."""
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


class RigPath:
    """A path that is fitted to the rig."""

    time_runs: ClassVar[bool] = True
    """Whether the clip plays along the path."""
    closes: ClassVar[bool] = False
    """Whether the last pose leads to the first."""

    def frames(self, rig: Rig, count: int) -> PosesAndTimes:
        """Poses and times of so many frames; times run from 0 to 1, or are those of the clip where
        they stand still."""
        raise NotImplementedError


@dataclass(frozen=True)
class FixedCamera(RigPath):
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
class Orbit(RigPath):
    """Once around within the span of the rig while the clip plays."""

    closes: ClassVar[bool] = True
    share: float = 0.7
    """Radius as a fraction of the rig's spread."""

    def frames(self, rig: Rig, count: int) -> PosesAndTimes:
        """Poses on an ellipse, looking at the rig's focus, at times from 0 to 1."""
        return orbit_poses(rig, count, self.share), np.linspace(0.0, 1.0, count)


@dataclass(frozen=True)
class FrozenTime(RigPath):
    """Once around within the span of the rig while time stands still."""

    time_runs: ClassVar[bool] = False
    closes: ClassVar[bool] = True
    time: float = 0.5
    """Time in [0, 1] over the clip."""
    share: float = 0.7
    """Radius as a fraction of the rig's spread."""

    def frames(self, rig: Rig, count: int) -> PosesAndTimes:
        """Poses on an ellipse, looking at the rig's focus, all at one time."""
        if not 0.0 <= self.time <= 1.0:
            raise ValueError(f"--path.time expects a time in [0, 1], got {self.time}.")
        return orbit_poses(rig, count, self.share), np.full(count, self.time)


@dataclass(frozen=True)
class Spiral(RigPath):
    """From the middle of the rig outwards and back while the clip plays."""

    closes: ClassVar[bool] = True
    turns: float = 2.0
    """How often around."""
    share: float = 0.7
    """Largest radius as a fraction of the rig's spread."""

    def frames(self, rig: Rig, count: int) -> PosesAndTimes:
        """Poses on a spiral, looking at the rig's focus, at times from 0 to 1."""
        along = np.linspace(0.0, 1.0, count)
        radii = self.share * np.sin(math.pi * along)
        poses = ellipse_poses(rig, 2.0 * math.pi * self.turns * along, radii)
        return poses, along


@dataclass(frozen=True)
class Interpolate(RigPath):
    """From camera to camera of the rig while the clip plays."""

    cameras: tuple[int, ...] = ()
    """Indices among the physical training cameras, in this order; all of them, in theirs, if none
    are named."""

    def frames(self, rig: Rig, count: int) -> PosesAndTimes:
        """Positions on straight lines, rotations on the shortest way, at times from 0 to 1."""
        chosen, last = self.cameras or tuple(range(len(rig.camera_to_worlds))), len(rig.positions)
        wrong = [camera for camera in chosen if not 0 <= camera < last]
        if wrong or len(chosen) < 2:
            raise ValueError(
                f"--path.cameras expects at least two of 0 to {last - 1}, got "
                f"{' '.join(map(str, chosen))}."
            )
        poses = rig.camera_to_worlds[list(chosen)]
        along = np.linspace(0.0, 1.0, count)
        return np.stack([_between(poses, u * (len(poses) - 1)) for u in along]), along


def _between(poses: Float[np.ndarray, "C 3 4"], place: float) -> Float[np.ndarray, "3 4"]:
    """The pose at a place from 0, the first one, to C - 1, the last."""
    index = min(int(place), len(poses) - 2)
    first, second = poses[index], poses[index + 1]
    fraction = place - index
    start, end = (quaternion_from_matrix(pose[:, :3]) for pose in (first, second))
    rotation = quaternion_matrix(quaternion_slerp(start, end, fraction))[:3, :3]
    position = (1.0 - fraction) * first[:, 3] + fraction * second[:, 3]
    return np.concatenate([rotation, position[:, None]], axis=1)


def orbit_poses(rig: Rig, count: int, radius: float) -> Float[np.ndarray, "F 3 4"]:
    """Once around on an ellipse; see `ellipse_poses`."""
    return ellipse_poses(rig, 2.0 * math.pi * np.arange(count) / count, np.full(count, radius))


def ellipse_poses(
    rig: Rig, angles: Float[np.ndarray, "F"], radius: Float[np.ndarray, "F"]
) -> Float[np.ndarray, "F 3 4"]:
    """Poses on ellipses along the two longest axes of the rig, looking at its focus; a `radius` is
    a fraction of the rig's spread."""
    middle = rig.positions.mean(0)
    _, lengths, axes = np.linalg.svd(rig.positions - middle, full_matrices=True)
    lengths = np.pad(lengths, (0, 3 - len(lengths)))
    # The deviation of a full circle along one axis is its radius over the square root of two.
    radii = math.sqrt(2.0) * lengths[:2] / math.sqrt(len(rig.positions))
    cos, sin = (radius * np.cos(angles))[:, None], (radius * np.sin(angles))[:, None]
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
    path: RigPath,
    rig: Rig,
    num_frames: int,
    fps: float,
    span: tuple[float, float] = (0.0, 1.0),
) -> dict[str, Any]:
    """What nerfstudio's viewer would have written for this path, with its key frames.

    Args:
        span: first and last time that is shown, in [0, 1] over the clip.
    """
    poses, times = path.frames(rig, num_frames)
    if path.time_runs:
        times = span[0] + (span[1] - span[0]) * times
    frames = [
        {
            "camera_to_world": [*pose.flatten().tolist(), 0.0, 0.0, 0.0, 1.0],
            "fov": rig.fov,
            "aspect": rig.width / rig.height,
            "render_time": float(time),
        }
        for pose, time in zip(poses, times, strict=True)
    ]
    keys = np.linspace(0, num_frames - 1, min(num_frames, KEY_FRAMES)).round().astype(int)
    return {
        "camera_type": "perspective",
        "render_width": rig.width,
        "render_height": rig.height,
        "fps": fps,
        "seconds": num_frames / fps,
        "is_cycle": path.closes,
        "smoothness_value": 0.0,
        "default_fov": rig.fov,
        "default_time": float(times[0]),
        "default_transition_sec": num_frames / fps / max(1, len(keys) - 1),
        "keyframes": [_key_frame(frames[key]) for key in keys],
        "camera_path": frames,
    }


def _key_frame(frame: dict[str, Any]) -> dict[str, Any]:
    return {
        "matrix": frame["camera_to_world"],
        "fov": frame["fov"],
        "aspect": frame["aspect"],
        "override_transition_enabled": False,
        "override_transition_sec": None,
        "override_time_enabled": True,
        "render_time": frame["render_time"],
    }
