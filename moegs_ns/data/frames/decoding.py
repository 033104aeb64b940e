"""Decoding: frames of a video and image files as RGB arrays, at the size of the cameras."""

import hashlib
import json
import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from moegs_ns.data.frames.foregrounds import Foreground
from moegs_ns.data.frames.images import decode_image, has_shape, missing_file
from moegs_ns.data.frames.undistortion import Undistorter, Undistortion
from moegs_ns.data.frames.videos import decode_video

_FORMAT = 2
"""Raised whenever the same sources would decode to other bytes; old stores are then rebuilt."""


ResizeFilter = Literal["area", "lanczos"]
"""How an image becomes smaller: the mean over each new pixel's area, or Lanczos."""


@dataclass(frozen=True)
class FrameSource:
    """One image: frame `frame` of the video at `path`, or the image file at `path`."""

    path: Path
    frame: int | None = None
    """Index in the video; None for an image file."""
    resize: ResizeFilter = "area"
    is_opaque: bool = False
    """Whether the transparency of an image file is ignored, since it is a mark of something else
    than what the image shows."""
    undistortion: Undistortion | None = None
    """What makes the image that of a pinhole; None if it is one."""
    foreground: Foreground | None = None
    """What of an image file is kept, the rest being made black; None if all is."""

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
    """Colour under transparent pixels; None refuses them."""

    @property
    def undistortion(self) -> Undistortion | None:
        """What makes all images of the group those of a pinhole; None if they are."""
        return self.sources[0].undistortion

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
        frames = [[source.path.name, source.frame] for source in self.sources]
        size = [self.width, self.height]
        inside = self.inside(data)
        description = [_FORMAT, inside, self.stamps(), frames, size, self.background]
        # What is not the default changes the key, so stores from before these options stay valid.
        ways = [[source.resize, source.is_opaque] for source in self.sources]
        if any(way != ["area", False] for way in ways):
            description.append(ways)
        if self.undistortion is not None:
            description.append(asdict(self.undistortion))
        kept = {name: each.border for name, each in self.foregrounds().items()}
        if kept:
            description.append(kept)
        digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:16]
        # N3V calls the image folder of every camera `images`; its parent names the camera.
        stem = self.path.parent.name if self.path.name == "images" else self.path.stem
        return f"{stem}-{digest}"

    def foregrounds(self) -> dict[str, Foreground]:
        """The masks by their places, as seen from the folder of the images."""
        found = [source.foreground for source in self.sources if source.foreground is not None]
        return {os.path.relpath(each.path, self.path): each for each in found}

    def inside(self, data: Path) -> str:
        """Where the video or folder is, from the scene folder if it is in there."""
        inside = self.path.relative_to(data) if self.path.is_relative_to(data) else self.path
        return inside.as_posix()

    def stamps(self) -> dict[str, tuple[int, int]]:
        """Size in bytes and time of the last change in nanoseconds of every source, by its name,
        and of the masks of foregrounds.

        Raises:
            FileNotFoundError: a source is missing.
        """
        kind = "a video" if self.sources[0].frame is not None else "an image"
        files = {source.path.name: (source.path, kind) for source in self.sources}
        files |= {name: (each.path, "a mask") for name, each in self.foregrounds().items()}
        return {name: _stamp(*file) for name, file in files.items()}


def _stamp(path: Path, kind: str) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        raise missing_file(path, kind) from None
    return status.st_size, status.st_mtime_ns


def decode_group(group: FrameGroup, threads: int) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """The frames of a group in order, at the size of the store.

    Raises:
        FileNotFoundError: an image is missing.
        ValueError: a source is broken, or the images differ in size.
    """
    size, calibrated = (group.width, group.height), _calibrated_size(group)
    undistort = None if group.undistortion is None else Undistorter(group.undistortion)
    first_size: tuple[int, int] | None = None
    for source, frame in zip(group.sources, _decoded(group, threads), strict=True):
        found = (frame.shape[1], frame.shape[0])
        if first_size is None:
            first_size = found
            # Lenses are undistorted pixel by pixel, so their images must have the very size.
            if not has_shape(*found, of=calibrated) or (undistort and found != calibrated):
                raise ValueError(
                    "Expected images in the proportions of the cameras "
                    f"({calibrated[0]}x{calibrated[1]}), but {source.path} is "
                    f"{found[0]}x{found[1]}; use the images that were calibrated."
                )
        elif found != first_size:
            raise ValueError(
                f"Expected images of one size in {group.path}, but {group.sources[0].path.name} is "
                f"{first_size[0]}x{first_size[1]} and {source.path.name} is {found[0]}x{found[1]}; "
                "use the images that were calibrated."
            )
        image = frame if undistort is None else undistort(frame)
        if (image.shape[1], image.shape[0]) != size:
            image = _resized(image, size, source.resize)
        if source.foreground is not None:
            image = source.foreground.alone(image, found, undistort)
        yield image


def _calibrated_size(group: FrameGroup) -> tuple[int, int]:
    """Width and height that the images should have, at least in proportion."""
    if group.undistortion is None:
        return group.width, group.height
    return group.undistortion.image_size


def _resized(
    frame: UInt8[np.ndarray, "h w 3"], size: tuple[int, int], way: ResizeFilter
) -> UInt8[np.ndarray, "H W 3"]:
    if way == "area":
        return cv2.resize(frame, size, interpolation=cv2.INTER_AREA)  # pyright: ignore[reportReturnType]
    # Pillow widens the filter by the factor; OpenCV does not, and lets aliases through.
    return np.array(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS))


def _decoded(group: FrameGroup, threads: int) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    indices = [source.frame for source in group.sources if source.frame is not None]
    if indices:
        yield from decode_video(group.path, indices)
        return
    size = _calibrated_size(group)
    # In short runs, because a pool would otherwise decode a whole folder ahead of the writer.
    run = 4 * threads
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(group.sources), run):
            yield from pool.map(
                lambda source: decode_image(
                    source.path, group.background, size, is_opaque=source.is_opaque
                ),
                group.sources[start : start + run],
            )
