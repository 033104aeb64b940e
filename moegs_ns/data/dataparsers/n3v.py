"""`n3v-data`: one video (or folder of frames) per fixed camera and LLFF poses.

This module may import neither datamanagers nor models: nerfstudio's datamanagers import all
dataparsers, and the circle would break every ns-* command.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from nerfstudio.data.dataparsers.base_dataparser import (
    DataParser,
    DataParserConfig,
    DataparserOutputs,
)
from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from moegs_ns.cameras import opengl_from_llff
from moegs_ns.data.dataparsers.multiview import (
    Clip,
    ParsedImages,
    build_outputs,
    check_poses,
    checked_fps,
    scaled_size,
)
from moegs_ns.data.dataparsers.recordings import (
    POSES_BOUNDS,
    CapturedGraph,
    clip_range,
    find_recordings,
)
from moegs_ns.data.points.initial import (
    PREPARED_POINTS,
    Frustums,
    PointOptions,
    initial_points,
)
from moegs_ns.seeds import run_seed

POINT_FILES = (PREPARED_POINTS, "points3D.npz", "points3D.ply")


@dataclass
class N3VDataParserConfig(DataParserConfig):
    """Neural 3D Video layout: `cam??.mp4` (or `cam??/images/*.png`) and `poses_bounds.npy`."""

    _target: type = field(default_factory=lambda: N3VDataParser)
    """Target class to instantiate."""
    data: Path = Path("data/n3v")
    """Folder of the scene."""
    frames: tuple[int, int] | None = None
    """First and last frame of the clip, both included; by default the whole recording."""
    fps: float | None = None
    """Frames per second of the recording; by default what the videos say, 30 for folders of
    images."""
    downscale_factor: int | None = None
    """Divides the image size; by default the smallest power of two that makes the longer side at
    most 1600 pixels."""
    held_out_cameras: tuple[int, ...] = (0,)
    """Positions, in alphabetical order, of the cameras that are never trained on."""
    points_file: Path | None = None
    """Initial points (.npz with xyz, rgb and perhaps frame, or .ply), absolute or inside the scene
    folder; by default the moegs_points.npz of `moegs prepare points`, then
    points3D.npz or points3D.ply."""
    num_random_points: int = 20_000
    """Number of random points where there is no file of points."""
    min_points: int = 1_000
    """A file with fewer points is topped up to this number at random."""


@dataclass
class N3VDataParser(DataParser):
    """Fixed cameras round a moving scene; the world is the one of `poses_bounds.npy`."""

    config: N3VDataParserConfig
    includes_time: bool = True

    def __init__(self, config: N3VDataParserConfig):
        super().__init__(config=config)
        self.includes_time = True

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs) -> DataparserOutputs:
        config, data = self.config, Path(self.config.data)
        recordings = find_recordings(data)
        poses_bounds = read_poses_bounds(data / POSES_BOUNDS, recordings)
        held_out = self._held_out(len(recordings))
        train = [i for i in range(len(recordings)) if i not in held_out]
        chosen = train if split == "train" else sorted(held_out)

        first, last = clip_range(recordings, config.frames)
        width, height = scaled_size(
            recordings[0].width, recordings[0].height, config.downscale_factor
        )
        fps = recordings[0].fps if config.fps is None else checked_fps(config.fps)
        clip = Clip(first, last, fps, width, height)
        rows = poses_bounds[:, :15].reshape(-1, 3, 5)
        camera_to_worlds = opengl_from_llff(rows[:, :, :4])
        Ks = _intrinsics(rows[:, :, 4], width, height)
        frustums = Frustums(
            camera_to_worlds[train], Ks[train], width, height, poses_bounds[train, 15:]
        )
        options = PointOptions(
            data, config.points_file, POINT_FILES, config.num_random_points, config.min_points
        )
        points = initial_points(options, frustums, clip.frames, run_seed())
        pairs = [(camera, frame) for camera in chosen for frame in clip.frames]
        cameras = [camera for camera, _ in pairs]
        images = ParsedImages(
            camera_to_worlds=camera_to_worlds[cameras],
            Ks=Ks[cameras],
            camera_ids=cameras,
            frame_ids=[frame - first for _, frame in pairs],
            sources=[recordings[camera].source(frame) for camera, frame in pairs],
            filenames=[recordings[camera].filename(frame) for camera, frame in pairs],
        )
        return build_outputs(images, clip, points)

    def _held_out(self, num_cameras: int) -> set[int]:
        held_out = set(self.config.held_out_cameras)
        if not held_out <= set(range(num_cameras)) or not held_out or len(held_out) == num_cameras:
            raise ValueError(
                f"--held-out-cameras expects some, but not all, of the {num_cameras} cameras (0 to "
                f"{num_cameras - 1}), got {sorted(held_out)}; name cameras that exist."
            )
        return held_out


def read_poses_bounds(path: Path, recordings: list[CapturedGraph]) -> np.ndarray:
    """The LLFF rows of all cameras.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the rows do not match the cameras or are not finite.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected camera poses at {path}, but there is no such file; calibrate the rig "
            "with COLMAP and run `moegs prepare poses`."
        )
    poses_bounds = np.load(path, allow_pickle=False).astype(np.float64)
    if poses_bounds.ndim != 2 or poses_bounds.shape[1] != 17:
        raise ValueError(
            f"Expected an array [cameras, 17] in {path}, got {list(poses_bounds.shape)}; write "
            "LLFF poses there."
        )
    if len(poses_bounds) != len(recordings):
        names = f"{recordings[0].name} to {recordings[-1].name}"
        raise ValueError(
            f"Expected one pose per camera, but {path} has {len(poses_bounds)} rows for "
            f"{len(recordings)} cameras ({names}); add the missing videos or remove the extra rows."
        )
    check_poses(poses_bounds, path)
    return poses_bounds


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
