"""What the rest of the project needs to know about a scene beyond its images."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Rig = tuple[tuple[float, float, float], float]
"""Centre and extent of some cameras, as `scene_extent` finds them."""
RIG_TOLERANCE = 1e-3
"""Largest difference, in units of the extent, between two descriptions of the same cameras."""


@dataclass(frozen=True)
class SceneInfo:
    """Passed from the datamanager to the model under the metadata key `scene`."""

    num_frames: int
    """Distinct times of the clip; frame f has time f / (num_frames - 1)."""
    fps: float
    """Frames per second; 0 where unknown."""
    center: tuple[float, float, float]
    """Mean of the centres of the cameras that are trained on, in the world."""
    extent: float
    """1.1 times the largest distance of such a camera from `center`, in world units."""
    background: tuple[float, float, float] | None
    """Colour that transparent images were laid over; None for opaque images."""
    camera_ids: tuple[int, ...] = ()
    """Numbers of the physical training cameras, ascending; empty where unknown."""
    first_frame: int = 0
    """The recording's own number of the clip's first frame."""
    rig_center: tuple[float, float, float] | None = None
    """As `center`, of all cameras of the data set's training split, also of those that
    `--val-cameras` takes out; None stands for `center`."""
    rig_extent: float | None = None
    """As `extent`, of the same cameras, in world units; None stands for `extent`."""

    @property
    def rig(self) -> Rig:
        """Centre and extent of all cameras, in the world: they tell a scene from others, whichever
        of its cameras are trained on."""
        center, extent = self.rig_center, self.rig_extent
        return self.center if center is None else center, self.extent if extent is None else extent

    @property
    def seconds(self) -> float:
        """Length of the clip, from its first to its last frame; 0 where the rate is unknown."""
        return (self.num_frames - 1) / self.fps if self.fps > 0 else 0.0


@dataclass(frozen=True, eq=False)
class FrameTable:
    """Which camera and which frame each training image shows; all on the CPU."""

    camera_ids: Int[Tensor, "M"]
    frame_ids: Int[Tensor, "M"]
    times: Float[Tensor, "M"]
    positions: Float[Tensor, "M 3"] | None = None
    """Camera centres in the world; None where unknown."""

    def __len__(self) -> int:
        return len(self.frame_ids)


def scene_extent(positions: Float[Tensor, "C 3"]) -> Rig:
    """Mean of the camera centres and 1.1 times the largest distance from it (1 for one camera)."""
    center = positions.mean(0)
    spread = float(1.1 * (positions - center).norm(dim=-1).max())
    x, y, z = center.tolist()
    return (x, y, z), spread if spread > 0 else 1.0


def is_same_rig(one: Rig, other: Rig) -> bool:
    """Whether two descriptions, in the world, are those of the same cameras."""
    (center, extent), (other_center, other_extent) = one, other
    difference = max(math.dist(center, other_center), abs(extent - other_extent))
    return difference <= RIG_TOLERANCE * extent


def frames_from_times(times: Float[Tensor, "M"]) -> tuple[Int[Tensor, "M"], int]:
    """Integer frame of each time where a parser gave none: its rank among the distinct times."""
    distinct, frames = torch.unique(times, return_inverse=True)
    return frames.reshape(-1), len(distinct)


@dataclass(frozen=True, eq=False)
class InitialPoints:
    """The cloud that an expert starts from, in the world frame.

    A point may be a seed of something that moves: it is at `xyz` at its own time, and passes there
    with its own velocity. Other points stand for the whole clip.
    """

    xyz: Float[Tensor, "N 3"]
    rgb: Float[Tensor, "N 3"]
    """In [0, 1]."""
    frames: Int[Tensor, "N"] | None = None
    """Frame that each point was seen in; None where unknown."""
    times: Float[Tensor, "N"] | None = None
    """Time of each moving seed, in [0, 1] over the clip; NaN for points that stand still. None if
    all do."""
    velocities: Float[Tensor, "N 3"] | None = None
    """Of each moving seed, in world units per second; 0 for points that stand still. None if no
    velocity is known."""

    def __len__(self) -> int:
        return len(self.xyz)

    @property
    def is_moving(self) -> Bool[Tensor, "N"]:
        """Which points are moving seeds."""
        if self.times is None:
            return torch.zeros(len(self), dtype=torch.bool)
        return self.times.isfinite()

    @property
    def time_gap(self) -> float:
        """Median step between the times of moving seeds, in clips; 1 for a single time."""
        if self.times is None:
            return 1.0
        steps = self.times[self.is_moving].unique().diff()
        return float(steps.median()) if len(steps) else 1.0

    def select(self, keep: Bool[Tensor, "N"]) -> "InitialPoints":
        """Some of the points; without times and velocities if none of them moves."""
        is_any_moving = bool(self.is_moving[keep].any())
        frames, times, velocities = self.frames, self.times, self.velocities
        return InitialPoints(
            xyz=self.xyz[keep],
            rgb=self.rgb[keep],
            frames=None if frames is None else frames[keep],
            times=None if times is None or not is_any_moving else times[keep],
            velocities=None if velocities is None or not is_any_moving else velocities[keep],
        )

    def of_first_time(self) -> "InitialPoints":
        """The points that stand still, and of the moving seeds those of the earliest time."""
        if self.times is None or not bool(self.is_moving.any()):
            return self
        return self.select(~(self.times > self.times[self.is_moving].min()))

    def clip_velocities(self, scene: SceneInfo) -> Float[Tensor, "N 3"]:
        """Velocities in world units per clip; 0 where they, or the clip's rate, are unknown."""
        if self.velocities is None:
            return torch.zeros_like(self.xyz)
        return self.velocities * scene.seconds
