"""Frame groups: the images of one video or folder, decoded together into one file."""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from moegs_ns.data.frames.sources import FrameSource, decode_image, decode_video

_FORMAT = 1
"""Raised whenever the same sources would give other bytes; old files are then decoded again."""


@dataclass(frozen=True)
class FrameGroup:
    """Frames of one video, or images of one folder, and where they stand in the store."""

    path: Path
    sources: tuple[FrameSource, ...]
    places: tuple[int, ...]
    width: int
    height: int
    background: tuple[float, float, float] | None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the group's array."""
        return len(self.sources), self.height, self.width, 3

    @property
    def num_bytes(self) -> int:
        """Size of the group's array."""
        return int(np.prod(self.shape, dtype=np.int64))

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
                    raise FileNotFoundError(
                        f"Expected {kind} at {source.path}, but there is none; complete the data "
                        "folder."
                    ) from None
                stamps[source.path.name] = (status.st_size, status.st_mtime_ns)
        frames = [[source.path.name, source.frame] for source in self.sources]
        inside = self.path.relative_to(data) if self.path.is_relative_to(data) else self.path
        size = [self.width, self.height]
        description = [_FORMAT, inside.as_posix(), stamps, frames, size, self.background]
        digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:16]
        # N3V calls the image folder of every camera `images`; its parent is the name to read.
        stem = self.path.parent.name if self.path.name == "images" else self.path.stem
        return f"{stem}-{digest}"


def decode_group(group: FrameGroup, threads: int) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """The frames of a group in order, at the size of the store.

    Raises:
        FileNotFoundError: an image is missing.
        ValueError: a source is broken, or the images differ in size.
    """
    first_size: tuple[int, int] | None = None
    for source, frame in zip(group.sources, _decoded(group, threads), strict=True):
        size = (frame.shape[1], frame.shape[0])
        if first_size is None:
            first_size = size
            _check_aspect(group, source.path, size)
        elif size != first_size:
            raise ValueError(
                f"Expected images of one size in {group.path}, but {group.sources[0].path.name} is "
                f"{first_size[0]}x{first_size[1]} and {source.path.name} is {size[0]}x{size[1]}; "
                "resize or remove one of them."
            )
        yield _resized(frame, group)


def _decoded(group: FrameGroup, threads: int) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    numbers = [source.frame for source in group.sources if source.frame is not None]
    if numbers:
        yield from decode_video(group.path, numbers)
        return
    paths = [source.path for source in group.sources]
    # In short runs, because a pool would otherwise decode a whole folder ahead of the writer.
    run = 4 * threads
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(paths), run):
            yield from pool.map(
                lambda path: decode_image(path, group.background), paths[start : start + run]
            )


def _check_aspect(group: FrameGroup, path: Path, size: tuple[int, int]) -> None:
    scale_x, scale_y = size[0] / group.width, size[1] / group.height
    # Rounding to whole pixels may shift either side by half a pixel.
    if abs(scale_x / scale_y - 1) > 0.01 + 1.0 / min(group.width, group.height):
        raise ValueError(
            f"Expected images in the proportions of the cameras ({group.width}x{group.height}), "
            f"but {path} is {size[0]}x{size[1]}; use the images that were calibrated."
        )


def _resized(frame: UInt8[np.ndarray, "h w 3"], group: FrameGroup) -> UInt8[np.ndarray, "h w 3"]:
    import cv2

    size = (group.width, group.height)
    if (frame.shape[1], frame.shape[0]) == size:
        return frame
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA))
