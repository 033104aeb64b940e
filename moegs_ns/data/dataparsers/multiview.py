"""What all parsers share; a new layout is one file beside this one.

A layout gives a configuration, derived from `SceneParserConfig`, and a parser whose `read`
finds the cameras and images of one split; this module adds initial points and builds nerfstudio's
`DataparserOutputs`.

Parsers may import neither datamanagers nor models: nerfstudio's datamanagers import all parsers,
and the cycle would break every ns-* command.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.dataparsers.base_dataparser import (
    DataParser,
    DataParserConfig,
    DataparserOutputs,
)
from nerfstudio.data.scene_box import SceneBox

from moegs_ns.data.calibration import check_scene
from moegs_ns.data.frames.decoding import FrameSource
from moegs_ns.data.points.files import PointCloud
from moegs_ns.data.points.initial import (
    PREPARED_POINTS,
    Frustums,
    find_points,
    initial_points,
)
from moegs_ns.data.scene_files import check_files
from moegs_ns.scene import scene_extent
from moegs_ns.seeds import run_seed

Align = Literal["number", "time", "position"]
"""What tells which images of several cameras show the same instant."""


@dataclass
class SceneParserConfig(DataParserConfig):
    """Options of every layout."""

    frames: tuple[int, int] | None = None
    """First and last frame of the clip, both included; by default the whole recording."""
    points_file: Path | None = None
    """Initial points (.npz with xyz, rgb and perhaps frame, or .ply), absolute or inside the scene
    folder; by default the moegs_points.npz of `moegs prepare points`, then the layout's own
    files."""
    num_random_points: int = 20_000
    """Number of random points where there is no file of points."""
    min_points: int = 1_000
    """A file with fewer points is topped up to this number at random."""


@dataclass
class MultiViewParserConfig(SceneParserConfig):
    """Options of layouts in which the files of each camera may disagree with those of others."""

    align: Align | None = None
    """Where cameras disagree, train on the frames that all of them have: matched by the number in
    the names of images, the time that videos store, or the position whatever these say. By default
    such a scene is refused."""


@dataclass(frozen=True, eq=False)
class ParsedImages:
    """M images of one split, camera by camera and in order of time within a camera."""

    frames: range
    """The recording's own numbers of the chosen frames."""
    fps: float
    width: int
    height: int
    camera_to_worlds: Float[np.ndarray, "M 3 4"]
    """OpenGL axes."""
    Ks: Float[np.ndarray, "M 3 3"]
    """Intrinsics at the size of the images that will be trained on."""
    camera_ids: list[int]
    frame_ids: list[int]
    """From 0 at the first chosen frame."""
    sources: list[FrameSource]
    num_recorded: int
    """Frames of the whole recording."""
    note: str = ""
    """One sentence about the images that a training should say, or ""."""
    masks: list[Path] | None = None
    """Of each image a file, white where its pixels are valid; None if all are."""


class MultiViewDataParser(DataParser):
    """Base of the parsers; the world stays the data set's own."""

    config: SceneParserConfig
    includes_time = True
    point_files: tuple[str, ...] = ()
    """The layout's own files of initial points; the first that exists is taken."""

    def read(self, split: str) -> tuple[ParsedImages, Frustums]:
        """The images of a split, and the training cameras at one frame.

        Raises:
            FileNotFoundError: the scene or a part of it is missing.
            ValueError: files or options do not fit together.
        """
        raise NotImplementedError

    def own_points(self) -> PointCloud | None:
        """Initial points of files of the layout that are no clouds, or None; asked for where there
        is no file of points. See `read` for errors."""
        return None

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs) -> DataparserOutputs:
        # Read cameras and image paths; no image is decoded.
        config = self.config
        check_files(Path(config.data))
        images, training_cameras = self.read(split)
        # Build nerfstudio's outputs, and check them before anything is made of them.
        times = torch.tensor(images.frame_ids).float() / max(len(images.frames) - 1, 1)
        Ks = torch.from_numpy(np.ascontiguousarray(images.Ks)).float()
        camera_to_worlds = torch.from_numpy(np.ascontiguousarray(images.camera_to_worlds)).float()
        cameras = Cameras(
            camera_to_worlds=camera_to_worlds,
            fx=Ks[:, 0, 0],
            fy=Ks[:, 1, 1],
            cx=Ks[:, 0, 2],
            cy=Ks[:, 1, 2],
            width=images.width,
            height=images.height,
            camera_type=CameraType.PERSPECTIVE,
            times=times[:, None],
        )
        center, extent = scene_extent(camera_to_worlds[:, :, 3])
        middle = torch.tensor(center)
        metadata = {
            "camera_ids": images.camera_ids,
            "frame_ids": images.frame_ids,
            "num_frames": len(images.frames),
            "first_frame": images.frames.start,
            "fps": images.fps,
            "frame_sources": images.sources,
            "note": images.note,
        }
        outputs = DataparserOutputs(
            image_filenames=[source.filename for source in images.sources],
            mask_filenames=images.masks,
            cameras=cameras,
            scene_box=SceneBox(aabb=torch.stack([middle - 2 * extent, middle + 2 * extent])),
            metadata=metadata,
        )
        check_scene(outputs, Path(config.data), is_training=split == "train")
        # Find initial points, or draw them in the common view of the training cameras.
        search = (PREPARED_POINTS, *self.point_files)
        file = find_points(Path(config.data), config.points_file, search)
        points = initial_points(
            file,
            training_cameras,
            images.frames,
            images.num_recorded,
            num_random_points=config.num_random_points,
            min_points=config.min_points,
            seed=run_seed(),
            own=self.own_points() if file is None else None,
        )
        metadata.update(points.as_metadata())
        return outputs


def choose_frames(
    frames: tuple[int, int] | None, available: int, recording: str = "the recording"
) -> range:
    """The frames of the clip; `recording` is what an error calls the images.

    Raises:
        ValueError: the range is empty or reaches beyond the recording.
    """
    first, last = (0, available - 1) if frames is None else frames
    if frames is not None and not 0 <= first <= last < available:
        raise ValueError(
            f"--frames expects FIRST LAST with 0 <= FIRST <= LAST <= {available - 1} "
            f"({recording} has {available} frames), got {first} {last}; choose a range inside it."
        )
    return range(first, last + 1)


def scaled_size(width: int, height: int, factor: float | None) -> tuple[int, int]:
    """Image size after downscaling; without a factor, halved until the longer side is <= 1600."""
    if factor is None:
        factor = 1
        while max(width, height) / factor > 1600:
            factor *= 2
    if factor < 1:
        raise ValueError(f"--downscale-factor expects a number of at least 1, got {factor:g}.")
    if factor > min(width, height):
        raise ValueError(
            f"--downscale-factor expects at most the shorter side of the images, "
            f"{min(width, height)} pixels, got {factor:g}."
        )
    return max(1, round(width / factor)), max(1, round(height / factor))


def checked_fps(fps: float) -> float:
    """The same number.

    Raises:
        ValueError: no recording has such a rate.
    """
    if not (math.isfinite(fps) and fps > 0.0):
        raise ValueError(
            f"--fps expects the frames per second of the recording, a finite number above 0, got "
            f"{fps:g}; leave it out for the default."
        )
    return fps


def check_poses(poses: Float[np.ndarray, "..."], path: Path) -> None:
    """Raise a ValueError that names `path` unless all numbers are finite."""
    if not np.isfinite(poses).all():
        row = int(np.argwhere(~np.isfinite(poses))[0][0])
        raise ValueError(
            f"Expected finite camera poses in {path}, but row {row} holds NaN or infinity; "
            "calibrate that camera again."
        )
