"""Videos that appear whole or not at all, and the frames that they are made from."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from moegs_ns.atomic_files import (
    atomic_write,
    atomic_write_text,
    replace_synced,
    temporary_folder,
)

DESCRIPTION = "rendering.json"
"""File in a folder of frames that tells one rendering from another."""
QUALITY = 18
"""Constant rate factor of H.264: visually lossless."""
REMEDY = "make room, or name another --output"


@contextmanager
def whole_video(path: Path, num_frames: int) -> Iterator[Path]:
    """A temporary name for a video that another program writes; it becomes `path` at the end if it
    is whole: encoders may end well on a full disk.

    Raises:
        OSError: it could not be written; nothing is left of it, and an earlier one is untouched.
    """
    try:
        with temporary_folder(path.parent) as temporary:
            yield temporary / path.name
            found = count_frames(temporary / path.name)
            if found != num_frames:
                raise OSError(f"it has {found} of {num_frames} frames")
            replace_synced(temporary / path.name, path)
    except (OSError, RuntimeError) as error:
        if not is_of_writing(error):
            raise
        reason = (getattr(error, "strerror", None) or str(error)).strip().splitlines()[0]
        raise OSError(f"The video {path} cannot be written ({reason}); {REMEDY}.") from error


def is_of_writing(error: Exception) -> bool:
    """Whether an error is one of the disk or the encoder, and not of what is rendered."""
    return isinstance(error, OSError) or str(error).startswith("Error writing '")


def count_frames(path: Path) -> int:
    """Frames that a video holds; 0 if it is none. Nothing is decoded."""
    # Only rendering needs it.
    import av

    try:
        with av.open(str(path)) as container:
            return sum(1 for packet in container.demux(video=0) if packet.size)
    except (OSError, ValueError, IndexError):
        return 0


@dataclass(frozen=True)
class FrameFolder:
    """Frames of one rendering as PNG files, each whole or not there."""

    folder: Path

    def begin(self, description: dict[str, Any], *, is_ours: bool) -> None:
        """Make the folder, or go on in it if its frames are of the same rendering.

        Args:
            description: what decides how the frames look.
            is_ours: whether frames of another rendering may go, as nobody named this folder.

        Raises:
            ValueError: it holds something else.
        """
        path, text = self.folder / DESCRIPTION, json.dumps(description, indent=1)
        if path.is_file() and path.read_text("utf8") == text:
            return
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            if not (is_ours and path.is_file()):
                raise ValueError(
                    f"Expected a new or empty folder for the frames, or one with frames of this "
                    f"rendering, but {self.folder} holds others; name another --output, or delete "
                    "it."
                )
            shutil.rmtree(self.folder)
        atomic_write_text(path, text, "description of the frames", "name another --output")

    def path(self, index: int) -> Path:
        """The file of a frame."""
        return self.folder / f"frame_{index:05d}.png"

    def missing(self, count: int) -> list[int]:
        """The frames, of so many, that are not there yet."""
        return [index for index in range(count) if not self.path(index).is_file()]

    def write(self, index: int, picture: UInt8[np.ndarray, "H W 3"]) -> None:
        """Write one frame.

        Raises:
            OSError: it cannot be written; says so.
        """
        with atomic_write(self.path(index), "frame", "name another --output") as file:
            Image.fromarray(picture).save(file, "png", compress_level=1)


def encode(paths: Sequence[Path], video: Path, fps: float) -> None:
    """Write pictures as an H.264 video which browsers and players show; replaces an earlier one
    when it is whole.

    Raises:
        OSError: it cannot be written.
    """
    # Only rendering needs it.
    import av

    with whole_video(video, len(paths)) as temporary:
        options = {"movflags": "faststart"}
        with av.open(str(temporary), "w", format="mp4", container_options=options) as container:
            rate = Fraction(fps).limit_denominator(1000)
            stream = container.add_stream("libx264", rate=rate, options={"crf": f"{QUALITY}"})
            stream.height, stream.width = _even(np.asarray(Image.open(paths[0]))).shape[:2]
            stream.pix_fmt = "yuv420p"
            for path in paths:
                picture = _even(np.asarray(Image.open(path)))
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())


def _even(picture: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """The picture with its last row and column repeated where the format needs an even size."""
    height, width = picture.shape[:2]
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
