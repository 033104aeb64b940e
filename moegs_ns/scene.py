"""What the rest of the project needs to know about a scene beyond its images."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
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
    """The cloud that an expert starts from, in the world frame."""

    xyz: Float[Tensor, "N 3"]
    rgb: Float[Tensor, "N 3"]
    """In [0, 1]."""
    frames: Int[Tensor, "N"] | None = None
    """Frame that each point was seen in; None where unknown."""

    def __len__(self) -> int:
        return len(self.xyz)
