"""Honest images: training images that an expert sees only in the last part of its training.

A router learns on images which expert to trust. Experts fit the images that they are trained on, so
such images do not tell whom to trust elsewhere. Hence experts train without a few cameras until
their set of Gaussians is complete; the router learns on all cameras over the experts as they are
then; and the experts finish on all cameras with that set, whose Gaussians keep the weights that the
router has given them.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import tyro
from jaxtyping import Bool, Int
from torch import Tensor

from moegs_ns.scene import FrameTable

FRACTION = 0.25
"""Of the cameras, or of the clip, that is left out where the command does not name cameras."""
MIN_CAMERAS = 4
"""Fewer cameras than this are too few to leave one out."""
TIME_BLOCKS = 5
"""Blocks of time that are left out where one camera moves."""
MIN_FRAMES = 4 * TIME_BLOCKS
"""Shorter clips of one camera have no blocks to leave out."""

HonestCameras = Literal["auto", "none"] | tuple[int, ...]


@dataclass(frozen=True)
class HonestConfig:
    """What an expert leaves out until its finish, so that a router can learn from it."""

    cameras: Annotated[HonestCameras, tyro.conf.arg(aliases=["--honest-cameras"])] = "none"
    """Training cameras that are trained on only in the finish: their numbers as for --val-cameras,
    or `auto` for a quarter of all, spread over the rig (blocks of time where one camera moves)."""
    finish: float = 0.25
    """Fraction of the steps, the last ones, that are on all cameras. Gaussians are neither added
    nor removed in them."""

    def check(self) -> None:
        """Raise ValueError for values out of range."""
        if not 0.0 < self.finish < 1.0:
            raise ValueError(
                "--pipeline.model.honest.finish expects a fraction of the steps between 0 and 1, "
                f"got {self.finish:g}; the default is 0.25."
            )

    def first_step_of_finish(self, total: int) -> int:
        """The first of the `total` steps that is on all cameras."""
        return total - math.ceil(self.finish * total)


@dataclass(frozen=True)
class HonestGatesConfig:
    """How gates learn on images that experts have not been trained on."""

    cameras: Annotated[HonestCameras, tyro.conf.arg(aliases=["--honest-cameras"])] = "none"
    """Training cameras that experts named by method leave out until their finish: numbers, or
    `auto` (see moegs-stg --help). Unless `none`, the router learns over all experts as they were
    before it; runs in --experts must have left cameras out."""
    last_part: float = 0.0
    """Fraction of the router's steps, the last ones, that are over the finished experts."""

    def check(self, total: int) -> None:
        """Raise ValueError unless some of the router's `total` steps come before those."""
        if self.last_part < 0.0 or round(self.last_part * total) >= total:
            raise ValueError(
                "--pipeline.model.honest.last-part expects a fraction of the router's steps from 0 "
                f"to below 1, got {self.last_part:g}."
            )

    def finishes_after(self, step: int, total: int) -> bool:
        """Whether experts are finished after a step of the router's `total`."""
        return step == total - 1 - round(self.last_part * total)


@dataclass(frozen=True)
class LeftOut:
    """What the record of an expert's training says of the images that it left out."""

    honest_cameras: tuple[int, ...]
    honest_images: int
    finish_starts: int
    """First step on all images."""


def honest_rows(table: FrameTable, cameras: HonestCameras) -> Bool[Tensor, "M"]:
    """The images to leave out.

    Raises:
        ValueError: a camera that is named does not exist, or no image would be left.
    """
    if cameras == "none":
        return torch.zeros(len(table), dtype=torch.bool)
    known = table.camera_ids.unique().tolist()
    if cameras == "auto":
        # Where one camera moves, each image may count as a camera of its own.
        is_moving = len(table) == len(table.frame_ids.unique()) or len(known) == 1
        if is_moving or len(known) < MIN_CAMERAS:
            return _blocks_of_time(table)
        cameras = spread_cameras(table, max(1, round(FRACTION * len(known))))
    if not set(cameras) <= set(known):
        raise ValueError(
            f"--honest-cameras expects training cameras, which are {known[0]} to {known[-1]} here "
            f"without those of --val-cameras, got {sorted(set(cameras) - set(known))}."
        )
    rows = torch.isin(table.camera_ids, torch.tensor(cameras, dtype=torch.long))
    if bool(rows.all()):
        raise ValueError(
            "--honest-cameras leaves no camera to train on; name fewer, or give auto or none."
        )
    return rows


def spread_cameras(table: FrameTable, count: int) -> tuple[int, ...]:
    """Cameras near the centres of `count` clusters of all: spread over the rig, but not its outer
    ends, whose views no other camera surrounds. Without positions evenly by number."""
    ids, cameras = torch.unique(table.camera_ids, return_inverse=True)
    if table.positions is None:
        return tuple(ids[_evenly(len(ids), count)].tolist())
    from sklearn.cluster import KMeans

    sums = torch.zeros(len(ids), 3).index_add_(0, cameras, table.positions.float())
    centers = sums / torch.bincount(cameras)[:, None]
    clusters = KMeans(count, random_state=0).fit(centers.numpy()).cluster_centers_
    distances = torch.cdist(torch.from_numpy(clusters).float(), centers)
    return tuple(sorted(set(ids[distances.argmin(1)].tolist())))


def _evenly(length: int, count: int) -> Int[Tensor, "n"]:
    return ((torch.arange(count) + 0.5) * length / count).long()


def _blocks_of_time(table: FrameTable) -> Bool[Tensor, "M"]:
    """Blocks of consecutive frames, a quarter of the clip, with the first and last frames kept."""
    frames, index = torch.unique(table.frame_ids, return_inverse=True)
    period = len(frames) / TIME_BLOCKS
    phase = (index + 0.5) % period / period
    return ((phase - 0.5).abs() < 0.5 * FRACTION) & (len(frames) >= MIN_FRAMES)
