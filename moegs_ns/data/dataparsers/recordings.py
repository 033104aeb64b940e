"""The cameras of a scene in N3V layout: videos, or folders of numbered images.

Imports neither datamanagers nor models, see `multiview`.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import numpy as np
from jaxtyping import Float

from moegs_ns.data.frames.decoding import FrameSource
from moegs_ns.data.frames.images import IMAGE_SUFFIXES, read_image_size
from moegs_ns.data.frames.videos import read_frame_times, read_video_header

IMAGES_FPS = 30.0
"""Frame rate of N3V, assumed for extracted images, which do not store it."""
FrameNumber = tuple[int, ...]
"""What a file name says of its frame; several integers where several differ within a folder."""
_CAMERA = re.compile(r"cam(era)?[ _-]?[0-9]")
"""Names of folders that are cameras even if they are empty; `camera_paths` of the viewer is not."""


@dataclass(frozen=True, eq=False)
class Recording:
    """One camera of the rig: a video, or its extracted images in order."""

    name: str
    path: Path
    width: int
    height: int
    fps: float
    images: tuple[Path, ...] = ()
    numbers: tuple[FrameNumber, ...] = ()
    """Of each image; empty for a video."""
    times: Float[np.ndarray, "F"] | None = None
    """Seconds at which each frame of the video is shown; None for images."""
    is_turned: bool = False
    """Whether the images carry an orientation that swaps width and height, which are those of the
    stored images."""
    start: int = 0
    """Frames of the video before the first one that counts."""

    @property
    def num_frames(self) -> int:
        """Number of images, or of frames of the video."""
        return len(self.images) if self.times is None else len(self.times)

    def source(self, frame: int) -> FrameSource:
        """Where an image is read from."""
        if self.images:
            return FrameSource(self.images[frame])
        return FrameSource(self.path, self.start + frame)

    def started(self, start: int) -> "Recording":
        """Without the frames before the given one, which is frame 0 and second 0 from now on.

        Raises:
            ValueError: there is no such frame.
        """
        if not 0 <= start < self.num_frames:
            raise ValueError(
                f"Expected a start of {self.name} between 0 and {self.num_frames - 1}, the last "
                f"frame of {self.path}, got {start}; correct it in the rig file."
            )
        if self.times is not None:
            times = self.times[start:] - self.times[start]
            return replace(self, times=times, start=self.start + start)
        numbers = self.numbers[start:]
        if all(len(number) == 1 for number in numbers):
            numbers = tuple((number[0] - numbers[0][0],) for number in numbers)
        else:
            # Several integers, as hours and seconds, have no differences.
            numbers = tuple((place,) for place in range(len(numbers)))
        return replace(self, images=self.images[start:], numbers=numbers)

    def as_calibrated(self, width: float, height: float) -> "Recording":
        """With width and height swapped if the images are turned and the calibration saw them so;
        given the size in the calibration."""
        if self.is_turned and (width > height) != (self.width > self.height):
            return replace(self, width=self.height, height=self.width)
        return self


def find_recordings(data: Path) -> list[Recording]:
    """The cameras of a scene folder in alphabetical order; videos go before extracted folders.

    Raises:
        FileNotFoundError: the folder is missing or holds no camera.
        ValueError: the order of the cameras or of their images is ambiguous, or sizes differ.
    """
    if not data.is_dir():
        raise FileNotFoundError(
            f"Expected a scene folder at {data}, but there is none; set --data."
        )
    # E-D3DGS extracts frames to images/cam00, ....
    found = sorted(data.glob("cam*")) or sorted((data / "images").glob("cam*"))
    videos = [path for path in found if path.suffix.lower() == ".mp4" and path.is_file()]
    folders = [path for path in found if path.is_dir() and _is_camera(path)]
    missing = [path.name for path in folders if path.name not in {video.stem for video in videos}]
    if videos and missing:
        raise FileNotFoundError(
            f"Expected a video for every camera in {data}, but {missing[0]}.mp4 is missing "
            f"beside {len(videos)} others; add it or remove the folder {missing[0]}."
        )
    check_order(videos or folders)
    recordings = [_video(path) for path in videos] or [_folder(path) for path in folders]
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
                f"and {other.path} is {other.width}x{other.height}; use the recordings that were "
                "calibrated, all of one size."
            )
    return recordings


def open_recording(path: Path, name: str) -> Recording:
    """The recording of one camera, whatever the files are called: a video, a folder of images
    (which may lie in `images` inside of it), or the images that a pattern such as `all/*_03.png`
    matches.

    Raises:
        FileNotFoundError: there is no such file, or no image.
        ValueError: the video is broken, or the images are not one series.
    """
    if "*" in path.name:
        images = [file for file in sorted(path.parent.glob(path.name)) if _is_image(file)]
        recording = _series(path, path.parent, images)
    else:
        recording = _folder(path) if path.is_dir() else _video(path)
    return replace(recording, name=name)


def images_in(folder: Path, remedy: str) -> list[Path]:
    """The images of a folder in alphabetical order; hidden ones do not count.

    Raises:
        FileNotFoundError: there is no such folder, or no image in it; `remedy` is what to do.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"Expected images in {folder}, but there is no such folder; {remedy}."
        )
    found = _images_of(folder)
    if not found:
        raise FileNotFoundError(f"Expected images in {folder}, but found none; complete the scene.")
    return found


def frame_numbers(files: Sequence[PurePath], where: Path) -> tuple[FrameNumber, ...]:
    """The number of each image of one camera, as its name says.

    Integers that are the same in all names, as that of a camera, do not count.

    Raises:
        ValueError: the names are not those of one series, or two have one number.
    """
    # Names of one series differ in their integers only.
    patterns = [re.sub("[0-9]+", "#", file.stem) for file in files]
    if len(set(patterns)) > 1:
        (usual, count), (other, rest) = Counter(patterns).most_common(2)
        one, two = (files[patterns.index(pattern)].name for pattern in (usual, other))
        raise ValueError(
            f"Expected one series of images in {where}, but {count} are called like {one} and "
            f"{rest} like {two}; move what is no frame of the camera elsewhere."
        )
    integers = np.array([[int(text) for text in re.findall("[0-9]+", file.stem)] for file in files])
    differs = (integers != integers[:1]).any(0)
    if len(files) == 1:
        # Of several integers in a single name, one may be that of the camera.
        differs[:] = len(differs) == 1
    numbers = tuple(tuple(row) for row in integers[:, differs].tolist())
    number, count = Counter(numbers).most_common(1)[0]
    if count > 1:
        one, two, *_ = (f.name for f, each in zip(files, numbers, strict=True) if each == number)
        raise ValueError(
            f"Expected one image of each frame in {where}, but {len(files)} images have "
            f"{len(set(numbers))} numbers, {one} and {two} the same; move the copies elsewhere."
        )
    return numbers


def _is_camera(folder: Path) -> bool:
    return bool(_CAMERA.match(folder.name)) or bool(_images_in(folder)[1])


def _images_in(folder: Path) -> tuple[Path, list[Path]]:
    inside = folder / "images" if (folder / "images").is_dir() else folder
    return inside, _images_of(inside)


def _images_of(folder: Path) -> list[Path]:
    # Hidden files, as macOS's ._0000.png, are not images whatever their endings.
    return sorted(file for file in folder.iterdir() if _is_image(file))


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES and file.name[0] != "." and not file.is_dir()


def _video(path: Path) -> Recording:
    width, height, fps = read_video_header(path)
    return Recording(path.stem, path, width, height, fps, times=read_frame_times(path))


def _folder(path: Path) -> Recording:
    return _series(path, *_images_in(path))


def _series(path: Path, inside: Path, images: list[Path]) -> Recording:
    if not images:
        like = f" like {path.name}" if "*" in path.name else ""
        raise FileNotFoundError(
            f"Expected images (.png or .jpg) in {inside}, but the folder holds none{like}; extract "
            "the frames of that camera or remove the folder."
        )
    numbers = frame_numbers(images, inside)
    # Frames extracted as 1.png, 2.png, ..., 10.png are sorted by number, not by letter.
    numbered = sorted(zip(numbers, images, strict=True))
    width, height, is_turned = read_image_size(numbered[0][1])
    return Recording(
        path.name,
        inside,
        width,
        height,
        IMAGES_FPS,
        images=tuple(image for _, image in numbered),
        numbers=tuple(number for number, _ in numbered),
        is_turned=is_turned,
    )


def check_order(paths: list[Path], what: str = "cameras") -> None:
    """Raise unless files, called `what`, have one order: the rows of the poses follow it, and bear
    no names."""
    names = sorted(path.stem for path in paths)
    for name, by_number in zip(names, sorted(names, key=padded_name), strict=True):
        if name != by_number:
            raise ValueError(
                f"Expected {what} whose order by name is that by number, since the rows of the "
                f"poses follow it, but {name} comes before {by_number} by name alone; rename the "
                f"{what} with leading zeros (01, 02, ..., 10)."
            )


def padded_name(name: str) -> str:
    """A name whose numbers are padded with zeros, so that it sorts by them."""
    return re.sub("[0-9]+", lambda number: number[0].zfill(20), name)
