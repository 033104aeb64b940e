"""Decoding: frames of a video and image files as RGB arrays, at the size of the cameras."""

import hashlib
import json
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
_FORMAT = 1
"""Raised whenever the same sources would decode to other bytes; old stores are then rebuilt."""


@dataclass(frozen=True)
class FrameSource:
    """One image: frame `frame` of the video at `path`, or the image file at `path`."""

    path: Path
    frame: int | None = None
    """Index in the video; None for an image file."""

    @property
    def group(self) -> Path:
        """Images of one group are decoded together: the video, or the folder of the image."""
        return self.path.parent if self.frame is None else self.path

    @property
    def filename(self) -> Path:
        """The image file, or the one that a frame of a video would be extracted to."""
        if self.frame is None:
            return self.path
        return self.path.with_suffix("") / "images" / f"{self.frame:04d}.png"


@dataclass(frozen=True)
class FrameGroup:
    """Frames of one video, or images of one folder, decoded together."""

    path: Path
    sources: tuple[FrameSource, ...]
    width: int
    height: int
    background: tuple[float, float, float] | None
    """Colour under transparent pixels; None drops the transparency."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the group's array."""
        return len(self.sources), self.height, self.width, 3

    @property
    def num_bytes(self) -> int:
        """Size of the group's array."""
        return math.prod(self.shape)

    def key(self, data: Path) -> str:
        """Folder name: changes with the source files, the frames, the size and the background.

        It does not change when the scene folder `data` is moved as a whole.

        Raises:
            FileNotFoundError: a source is missing.
        """
        stamps: dict[str, tuple[int, int]] = {}
        for source in self.sources:
            if source.path.name not in stamps:
                try:
                    status = source.path.stat()
                except FileNotFoundError:
                    kind = "an image" if source.frame is None else "a video"
                    raise _missing(source.path, kind) from None
                stamps[source.path.name] = (status.st_size, status.st_mtime_ns)
        frames = [[source.path.name, source.frame] for source in self.sources]
        inside = self.path.relative_to(data) if self.path.is_relative_to(data) else self.path
        size = [self.width, self.height]
        description = [_FORMAT, inside.as_posix(), stamps, frames, size, self.background]
        digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:16]
        # N3V calls the image folder of every camera `images`; its parent names the camera.
        stem = self.path.parent.name if self.path.name == "images" else self.path.stem
        return f"{stem}-{digest}"


def decode_group(group: FrameGroup, threads: int) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """The frames of a group in order, at the size of the store.

    Raises:
        FileNotFoundError: an image is missing.
        ValueError: a source is broken, or the images differ in size.
    """
    size = (group.width, group.height)
    first_size: tuple[int, int] | None = None
    for source, frame in zip(group.sources, _decoded(group, threads), strict=True):
        found = (frame.shape[1], frame.shape[0])
        if first_size is None:
            first_size = found
            aspect = found[0] * group.height / (found[1] * group.width)
            # Rounding to whole pixels may shift either side by half a pixel.
            if abs(aspect - 1) > 0.01 + 1.0 / min(group.width, group.height):
                raise ValueError(
                    "Expected images in the proportions of the cameras "
                    f"({group.width}x{group.height}), but {source.path} is {found[0]}x{found[1]}; "
                    "use the images that were calibrated."
                )
        elif found != first_size:
            raise ValueError(
                f"Expected images of one size in {group.path}, but {group.sources[0].path.name} is "
                f"{first_size[0]}x{first_size[1]} and {source.path.name} is {found[0]}x{found[1]}; "
                "resize or remove one of them."
            )
        yield frame if found == size else cv2.resize(frame, size, interpolation=cv2.INTER_AREA)  # pyright: ignore[reportReturnType]


def _decoded(group: FrameGroup, threads: int) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    indices = [source.frame for source in group.sources if source.frame is not None]
    if indices:
        yield from decode_video(group.path, indices)
        return
    paths = [source.path for source in group.sources]
    # In short runs, because a pool would otherwise decode a whole folder ahead of the writer.
    run = 4 * threads
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(paths), run):
            yield from pool.map(
                lambda path: decode_image(path, group.background), paths[start : start + run]
            )


def read_video_header(path: Path) -> tuple[int, int, int, float]:
    """Number of frames, width, height and frames per second of a video, without decoding it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no readable video.
    """
    if not path.is_file():
        raise _missing(path, "a video")
    capture = cv2.VideoCapture(str(path))
    try:
        fields = (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        frames, width, height = (int(capture.get(name)) for name in fields)
        fps = float(capture.get(cv2.CAP_PROP_FPS))
        readable = capture.isOpened() and min(width, height, frames) > 0
    finally:
        capture.release()
    if not readable:
        raise ValueError(
            f"Expected a video at {path}, but its header cannot be read (truncated or no video); "
            "copy or convert the file again."
        )
    return frames, width, height, fps


def decode_video(path: Path, frames: list[int]) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The given frames (ascending) of a video as RGB, decoded from its beginning.

    Seeking is avoided because it is inexact in many containers.

    Raises:
        ImportError: the package av is not installed.
        ValueError: the video is corrupt or ends early.
    """
    try:
        import av
        from av.error import FFmpegError
    except ImportError as error:
        raise ImportError(
            f"Decoding {path} needs the package av; run `pip install av` or extract the frames to "
            f"{path.with_suffix('')}/images/."
        ) from error
    wanted, index = set(frames), -1
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for index, frame in enumerate(container.decode(stream)):
                if frame.is_corrupt:
                    raise _broken_video(path, f"frame {index} is corrupt")
                if index in wanted:
                    yield frame.to_ndarray(format="rgb24")
                if index == frames[-1]:
                    return
    except (FFmpegError, IndexError) as error:
        raise _broken_video(path, str(error)) from error
    missing = next(frame for frame in frames if frame > index)
    raise _broken_video(path, f"it ends after {index + 1} frames, frame {missing} is missing")


def read_image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image file, without decoding it; see `_opened` for errors."""
    with _opened(path) as image:
        return image.size


def has_alpha(path: Path) -> bool:
    """Whether an image file carries transparency; a missing file counts as transparent.

    A run is rendered without its images too, and must then use the same background.
    """
    try:
        with _opened(path) as image:
            return image.has_transparency_data
    except (OSError, ValueError):
        return True


def decode_image(
    path: Path, background: tuple[float, float, float] | None
) -> UInt8[np.ndarray, "H W 3"]:
    """An image file as RGB; transparency is laid over `background`, or dropped where that is None.
    See `_opened` for errors."""
    with _opened(path) as image:
        if background is None or not image.has_transparency_data:
            return np.array(image.convert("RGB"))
        rgba = np.array(image.convert("RGBA"))
    alpha = rgba[:, :, 3:].astype(np.float32) / 255.0
    under = 255.0 * np.asarray(background, dtype=np.float32)
    return (rgba[:, :, :3] * alpha + under * (1.0 - alpha) + 0.5).astype(np.uint8)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An image file, also while it is read.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated or no image.
    """
    # A pipe would be waited for.
    if path.exists() and not path.is_file():
        raise ValueError(f"Expected an image at {path}, but it is no ordinary file; remove it.")
    try:
        with Image.open(path) as image:
            yield image
    except FileNotFoundError:
        raise _missing(path, "an image") from None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"Expected an image at {path}, but it cannot be read ({reason}); copy the file again."
        ) from error


def _missing(path: Path, kind: str) -> FileNotFoundError:
    return FileNotFoundError(
        f"Expected {kind} at {path}, but there is none; complete the data folder."
    )


def _broken_video(path: Path, reason: str) -> ValueError:
    return ValueError(
        f"Expected a complete video at {path}, but {reason}; copy the file again or choose fewer "
        "frames with --frames."
    )
