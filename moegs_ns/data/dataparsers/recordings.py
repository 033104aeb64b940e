"""The cameras of a scene folder in N3V layout: videos, or folders of extracted frames."""

import re
from dataclasses import dataclass
from pathlib import Path

from moegs_ns.data.dataparsers.multiview import choose_frames
from moegs_ns.data.frames.sources import (
    IMAGE_SUFFIXES,
    FrameSource,
    read_image_size,
    read_video_header,
)

POSES_BOUNDS = "poses_bounds.npy"
"""File in the scene folder with one row for each camera."""
IMAGES_FPS = 30.0
"""Frames per second of extracted images, which no longer say it: the rate of N3V."""


@dataclass(frozen=True)
class CapturedGraph:
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

    def filename(self, frame: int) -> Path:
        """The image file, or the one that a frame of a video would be extracted to."""
        if self.images:
            return self.images[frame]
        return self.path.with_suffix("") / "images" / f"{frame:04d}.png"


def find_recordings(data: Path) -> list[CapturedGraph]:
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
    if videos:
        missing = [path.name for path in folders if path.with_suffix(".mp4") not in videos]
        if missing:
            raise FileNotFoundError(
                f"Expected a video for every camera in {data}, but {missing[0]}.mp4 is missing "
                f"beside {len(videos)} others; add it or remove the folder {missing[0]}."
            )
    _check_order(videos or folders)
    recordings = [_video(path) for path in videos] or [_folder(path) for path in folders]
    if not recordings:
        raise FileNotFoundError(
            f"Expected cam00.mp4, cam01.mp4, ... or folders cam00/images/ in {data}, but found no "
            "camera; set --data to the scene folder."
        )
    _check_sizes(recordings)
    return recordings


def clip_range(recordings: list[CapturedGraph], frames: tuple[int, int] | None) -> tuple[int, int]:
    """First and last frame of the clip, which every camera must have recorded.

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


def _video(path: Path) -> CapturedGraph:
    header = read_video_header(path)
    size = (header.num_frames, header.width, header.height)
    return CapturedGraph(path.stem, path, (), *size, header.fps)


def _folder(path: Path) -> CapturedGraph:
    inside = path / "images" if (path / "images").is_dir() else path
    found = (file for file in inside.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    # Frames extracted as 1.png, 2.png, ..., 10.png follow each other by number, not by letter.
    images = tuple(sorted(found, key=lambda file: (_padded(file.stem), file.name)))
    if not images:
        raise FileNotFoundError(
            f"Expected images (.png or .jpg) in {inside}, but the folder holds none; extract the "
            "frames of that camera or remove the folder."
        )
    size = read_image_size(images[0])
    return CapturedGraph(path.name, inside, images, len(images), *size, fps=IMAGES_FPS)


def _padded(name: str) -> str:
    """A name whose numbers are padded with zeros, so that its order is that of the numbers."""
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


def _check_sizes(recordings: list[CapturedGraph]) -> None:
    first = recordings[0]
    for other in recordings[1:]:
        if (other.width, other.height) != (first.width, first.height):
            raise ValueError(
                f"Expected images of one size, but {first.path} is {first.width}x{first.height} "
                f"and {other.path} is {other.width}x{other.height}; resize or remove one of them."
            )
