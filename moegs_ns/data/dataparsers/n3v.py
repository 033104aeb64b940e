"""`n3v-data`: one video (or folder of frames) per fixed camera and LLFF poses.

Imports neither datamanagers nor models, see `multiview`.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float
from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from moegs_ns.cameras import opengl_from_llff
from moegs_ns.data.dataparsers.multiview import (
    MultiViewDataParser,
    MultiViewParserConfig,
    ParsedImages,
    check_poses,
    checked_fps,
    choose_frames,
    scaled_size,
)
from moegs_ns.data.frames.decoding import (
    IMAGE_SUFFIXES,
    FrameSource,
    read_image_size,
    read_video_header,
)
from moegs_ns.data.points.initial import Frustums

POSES_BOUNDS = "poses_bounds.npy"
"""File in the scene folder with one row for each camera."""
IMAGES_FPS = 30.0
"""Frame rate of N3V, assumed for extracted images, which do not store it."""


@dataclass
class N3VDataParserConfig(MultiViewParserConfig):
    """Neural 3D Video layout: `cam??.mp4` (or `cam??/images/*.png`), `poses_bounds.npy` and perhaps
    initial points in points3D.npz or points3D.ply."""

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
    held_out_cameras: tuple[int, ...] = (0,)
    """Indices, in alphabetical order, of the cameras that are never trained on."""


@dataclass(frozen=True)
class Recording:
    """One camera of the rig: a video, or its extracted images in order."""

    name: str
    path: Path
    images: tuple[Path, ...]
    num_frames: int
    width: int
    height: int
    fps: float

    def source(self, frame: int) -> FrameSource:
        """Where an image is read from."""
        return FrameSource(self.images[frame]) if self.images else FrameSource(self.path, frame)


class N3VDataParser(MultiViewDataParser):
    """Fixed cameras round a moving scene; the world is the one of `poses_bounds.npy`."""

    config: N3VDataParserConfig
    point_files = ("points3D.npz", "points3D.ply")

    def read(self, split: str) -> tuple[ParsedImages, Frustums]:
        config, data = self.config, Path(self.config.data)
        # Find the cameras and their poses, and divide them into training and held-out ones.
        recordings = find_recordings(data)
        poses_bounds = read_poses_bounds(data / POSES_BOUNDS, recordings)
        held_out, count = set(config.held_out_cameras), len(recordings)
        train = [camera for camera in range(count) if camera not in held_out]
        if not held_out or not train or not held_out <= set(range(count)):
            raise ValueError(
                f"--held-out-cameras expects some, but not all, of the {count} cameras (0 to "
                f"{count - 1}), got {sorted(held_out)}; name cameras that exist."
            )
        chosen = train if split == "train" else sorted(held_out)

        # Choose frames and image size.
        frames = clip_frames(recordings, config.frames)
        size = scaled_size(recordings[0].width, recordings[0].height, config.downscale_factor)
        fps = recordings[0].fps if config.fps is None else checked_fps(config.fps)

        # Convert the LLFF rows, and repeat each camera for all its frames.
        rows = poses_bounds[:, :15].reshape(-1, 3, 5)
        camera_to_worlds = opengl_from_llff(rows[:, :, :4])
        Ks = _intrinsics(rows[:, :, 4], *size)
        pairs = [(camera, frame) for camera in chosen for frame in frames]
        cameras = [camera for camera, _ in pairs]
        images = ParsedImages(
            frames,
            fps,
            *size,
            camera_to_worlds=camera_to_worlds[cameras],
            Ks=Ks[cameras],
            camera_ids=cameras,
            frame_ids=[frame - frames.start for _, frame in pairs],
            sources=[recordings[camera].source(frame) for camera, frame in pairs],
        )
        bounds = poses_bounds[train, 15:]
        return images, Frustums(camera_to_worlds[train], Ks[train], *size, bounds)


# ---- poses ----


def read_poses_bounds(path: Path, recordings: list[Recording]) -> Float[np.ndarray, "C 17"]:
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


# ---- recordings ----


def find_recordings(data: Path) -> list[Recording]:
    """The cameras of a scene folder in alphabetical order; videos go before extracted folders.

    Raises:
        FileNotFoundError: the folder is missing or holds no camera.
        ValueError: the order of the cameras is ambiguous, or they differ in image size.
    """
    if not data.is_dir():
        raise FileNotFoundError(
            f"Expected a scene folder at {data}, but there is none; set --data."
        )
    videos = sorted(data.glob("cam*.mp4"))
    folders = sorted(path for path in data.glob("cam*") if path.is_dir())
    missing = [path.name for path in folders if path.with_suffix(".mp4") not in videos]
    if videos and missing:
        raise FileNotFoundError(
            f"Expected a video for every camera in {data}, but {missing[0]}.mp4 is missing "
            f"beside {len(videos)} others; add it or remove the folder {missing[0]}."
        )
    _check_order(videos or folders)
    recordings = [Recording(path.stem, path, (), *read_video_header(path)) for path in videos]
    recordings = recordings or [_folder(path) for path in folders]
    if not recordings:
        raise FileNotFoundError(
            f"Expected cam00.mp4, cam01.mp4, ... or folders cam00/images/ in {data}, but found no "
            "camera; set --data to the scene folder."
        )
    first = recordings[0]
    for other in recordings:
        if (other.width, other.height) != (first.width, first.height):
            raise ValueError(
                f"Expected images of one size, but {first.path} is {first.width}x{first.height} "
                f"and {other.path} is {other.width}x{other.height}; resize or remove one of them."
            )
    return recordings


def clip_frames(recordings: list[Recording], frames: tuple[int, int] | None) -> range:
    """The frames of the clip, which every camera must have recorded.

    Raises:
        ValueError: the range reaches beyond the shortest recording, or there is no range and the
            recordings differ in length.
    """
    shortest = min(recordings, key=lambda recording: recording.num_frames)
    longest = max(recordings, key=lambda recording: recording.num_frames)
    if shortest.num_frames == longest.num_frames:
        return choose_frames(frames, shortest.num_frames)
    if frames is None:
        raise ValueError(
            f"Expected cameras of equal length, but {longest.path} has {longest.num_frames} frames "
            f"and {shortest.path} has {shortest.num_frames}; cut them to one length (--frames 0 "
            f"{shortest.num_frames - 1} is what all have) or remove the shorter one and its pose."
        )
    name = f"the shortest recording, {shortest.path},"
    return choose_frames(frames, shortest.num_frames, name)


def _folder(path: Path) -> Recording:
    inside = path / "images" if (path / "images").is_dir() else path
    found = (file for file in inside.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    # Frames extracted as 1.png, 2.png, ..., 10.png are sorted by number, not by letter.
    images = tuple(sorted(found, key=lambda file: (_padded(file.stem), file.name)))
    if not images:
        raise FileNotFoundError(
            f"Expected images (.png or .jpg) in {inside}, but the folder holds none; extract the "
            "frames of that camera or remove the folder."
        )
    size = read_image_size(images[0])
    return Recording(path.name, inside, images, len(images), *size, fps=IMAGES_FPS)


def _padded(name: str) -> str:
    """A name whose numbers are padded with zeros, so that it sorts by them."""
    return re.sub("[0-9]+", lambda number: number[0].zfill(20), name)


def _check_order(paths: list[Path]) -> None:
    """Raise unless cameras have one order: the rows of the poses follow it, and bear no names."""
    names = sorted(path.stem for path in paths)
    for name, by_number in zip(names, sorted(names, key=_padded), strict=True):
        if name != by_number:
            raise ValueError(
                f"Expected cameras whose order by name is that by number, since the rows of "
                f"{POSES_BOUNDS} follow it, but {name} comes before {by_number} by name alone; "
                "rename the cameras with leading zeros (cam01, cam02, ..., cam10)."
            )


n3v_dataparser = DataParserSpecification(
    config=N3VDataParserConfig(),
    description="Neural 3D Video layout: one video per camera and poses_bounds.npy.",
)
