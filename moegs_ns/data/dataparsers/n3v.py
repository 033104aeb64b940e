"""`n3v-data`: one video (or folder of frames) per fixed camera and LLFF poses.

Imports neither datamanagers nor models, see `multiview`.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from moegs_ns.cameras import opengl_from_llff
from moegs_ns.data.damaged_files import damage_as_value_error
from moegs_ns.data.dataparsers.alignment import choose_clip
from moegs_ns.data.dataparsers.multiview import (
    MultiViewDataParser,
    MultiViewParserConfig,
    ParsedImages,
    check_poses,
    checked_fps,
    scaled_size,
)
from moegs_ns.data.dataparsers.recordings import Recording, find_recordings
from moegs_ns.data.dataparsers.selection import check_max_frames, divide_cameras
from moegs_ns.data.frames.decoding import ResizeFilter
from moegs_ns.data.frames.images import has_shape
from moegs_ns.data.points.initial import Frustums

POSES_BOUNDS = "poses_bounds.npy"
"""File in the scene folder with one row for each camera."""


@dataclass
class N3VDataParserConfig(MultiViewParserConfig):
    """Neural 3D Video layout: `cam??.mp4` (or `cam??/images/*.png`, `images/cam??/*.png`),
    `poses_bounds.npy` and perhaps initial points in points3D.npz or points3D.ply."""

    _target: type = field(default_factory=lambda: N3VDataParser)
    """Target class to instantiate."""
    data: Path = Path("data/n3v")
    """Folder of the scene."""
    fps: float | None = None
    """Frames per second of the recording; by default what the videos say, 30 for folders of
    images."""
    downscale_factor: int | None = None
    """Divides the image size; by default the smallest power of two that makes the longer side at
    most 1600 pixels."""
    resize_filter: ResizeFilter = "area"
    """How images become smaller: the mean over each pixel's area, as in STG, or Lanczos, as in
    4DGaussians."""
    max_frames: int | None = 300
    """Without --frames, the clip is the first so many frames, which papers give scores of; None
    takes all."""
    held_out_cameras: tuple[int, ...] = (0,)
    """Indices, in alphabetical order, of the cameras that are never trained on."""
    exclude_cameras: tuple[int, ...] = ()
    """Indices, in alphabetical order, of cameras that are not used at all, as one that is out of
    step with the others; the indices of the others stay."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Runs from before `max_frames` was an option took all frames.
        self.__dict__.update({"max_frames": None, **state})


class N3VDataParser(MultiViewDataParser):
    """Fixed cameras round a moving scene; the world is the one of `poses_bounds.npy`."""

    config: N3VDataParserConfig
    point_files = ("points3D.npz", "points3D.ply")

    def read(self, split: str) -> tuple[ParsedImages, Frustums]:
        config, data = self.config, Path(self.config.data)
        # Find the cameras and their poses, and divide them into training and held-out ones.
        recordings = find_recordings(data)
        poses_bounds = read_poses_bounds(data / POSES_BOUNDS, [each.name for each in recordings])
        rows = poses_bounds[:, :15].reshape(-1, 3, 5)
        recordings = [
            recording.as_calibrated(width, height)
            for recording, (height, width, _) in zip(
                recordings, rows[:, :, 4].tolist(), strict=True
            )
        ]
        _check_rows(poses_bounds, recordings, data / POSES_BOUNDS)
        cameras = divide_cameras(
            range(len(recordings)), config.held_out_cameras, config.exclude_cameras
        )

        # Choose frames and image size.
        check_max_frames(config.max_frames)
        used = [recordings[camera] for camera in cameras.used]
        clip = choose_clip(used, config.frames, config.align, config.max_frames)
        images_of = dict(zip(cameras.used, clip.images.tolist(), strict=True))
        size = scaled_size(recordings[0].width, recordings[0].height, config.downscale_factor)
        fps = clip.fps if config.fps is None else checked_fps(config.fps)

        # Convert the LLFF rows, and repeat each camera for all its frames.
        camera_to_worlds = opengl_from_llff(rows[:, :, :4])
        Ks = _intrinsics(rows[:, :, 4], *size)
        chosen = [camera for camera in cameras.of(split) for _ in clip.shared]
        images = ParsedImages(
            clip.frames,
            fps,
            *size,
            camera_to_worlds=camera_to_worlds[chosen],
            Ks=Ks[chosen],
            camera_ids=chosen,
            frame_ids=[frame - clip.frames.start for frame in clip.shared] * len(cameras.of(split)),
            sources=[
                replace(recordings[camera].source(image), resize=config.resize_filter)
                for camera in cameras.of(split)
                for image in images_of[camera]
            ],
            num_recorded=clip.num_recorded,
            note=clip.note,
        )
        train = cameras.train
        bounds = poses_bounds[train, 15:]
        return images, Frustums(camera_to_worlds[train], Ks[train], *size, bounds)


# ---- poses ----


def read_poses_bounds(path: Path, names: list[str]) -> Float[np.ndarray, "C 17"]:
    """The LLFF rows of all cameras, which are called `names` in the order of the rows.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the rows do not match the cameras or are not finite.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected camera poses at {path}, but there is no such file; calibrate the rig "
            "with COLMAP and run `moegs prepare poses`."
        )
    poses_bounds = _numbers(path)
    if poses_bounds.ndim != 2 or poses_bounds.shape[1] != 17:
        raise ValueError(
            f"Expected an array [cameras, 17] in {path}, got {list(poses_bounds.shape)}; write "
            "LLFF poses there."
        )
    if len(poses_bounds) != len(names):
        raise ValueError(
            f"Expected one pose per camera, but {path} has {len(poses_bounds)} rows for "
            f"{len(names)} cameras ({', '.join(names)}); rows belong to the cameras in this order, "
            "so complete the recordings, or make the poses of these cameras anew with `moegs "
            "prepare poses`."
        )
    check_poses(poses_bounds, path)
    return poses_bounds


def _numbers(path: Path) -> Float[np.ndarray, "..."]:
    """The array of a file, if it is one of real numbers."""
    try:
        with damage_as_value_error():
            array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"Expected an array of real numbers in {path}, but it cannot be read ({error}); write "
            "LLFF poses there with numpy.save."
        ) from error
    kind = array.dtype.kind if isinstance(array, np.ndarray) else "an archive"
    if kind not in "fiu":
        found = f"numbers of type {array.dtype}" if isinstance(array, np.ndarray) else kind
        raise ValueError(
            f"Expected an array of real numbers in {path}, got {found}; write LLFF poses there "
            "with numpy.save."
        )
    return array.astype(np.float64)


def _check_rows(
    poses_bounds: Float[np.ndarray, "C 17"], recordings: list[Recording], path: Path
) -> None:
    """Raise unless sizes, focal lengths and bounds are those of cameras that saw the images."""
    for row, recording in zip(poses_bounds, recordings, strict=True):
        height, width, focal, near, far = row[[4, 9, 14, 15, 16]].tolist()
        if not min(height, width, focal) > 0.0:
            raise ValueError(
                f"Expected a size and focal length above 0 for {recording.name} in {path}, got "
                f"{width:g}x{height:g} and {focal:g} pixels; calibrate the camera again."
            )
        if not has_shape(recording.width, recording.height, of=(width, height)):
            raise ValueError(
                f"Expected images of the shape that was calibrated, but {recording.path} is "
                f"{recording.width}x{recording.height} as it is shown and {path} says "
                f"{width:g}x{height:g}; use the recordings that were calibrated, or calibrate "
                "these."
            )
        if not 0.0 <= near < far:
            raise ValueError(
                f"Expected bounds 0 <= near < far for {recording.name} in {path}, got {near:g} "
                f"and {far:g}; write the nearest and the farthest depth of the scene there."
            )


def _intrinsics(size_focal: np.ndarray, width: int, height: int) -> np.ndarray:
    """Focal lengths scaled from the size in the file to the images; principal point central."""
    rows, columns, focal = size_focal.T
    Ks = np.zeros((len(focal), 3, 3))
    Ks[:, 0, 0], Ks[:, 1, 1] = focal * width / columns, focal * height / rows
    Ks[:, 0, 2], Ks[:, 1, 2], Ks[:, 2, 2] = width / 2, height / 2, 1.0
    return Ks


n3v_dataparser = DataParserSpecification(
    config=N3VDataParserConfig(),
    description="Neural 3D Video layout: one video per camera and poses_bounds.npy.",
)
