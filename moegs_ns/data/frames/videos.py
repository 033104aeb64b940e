"""Videos: what their headers say, when their frames were taken, and the frames as RGB arrays.

Needs the package av; importing this module does not.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from moegs_ns.data.frames.images import missing_file

_STEADY = 0.1
"""Fraction of a frame by which the frames of a steady video may come early or late, as timestamps
are rounded."""
_HDR = {16: "PQ", 18: "HLG"}
"""Transfer characteristics (ITU-T H.273) whose values cannot be shown as they are."""


def read_video_header(path: Path) -> tuple[int, int, float]:
    """Width and height of a video as players show it, and frames per second, without decoding it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no readable video.
    """
    if not path.is_file():
        raise missing_file(path, "a video")
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
    return width, height, fps


def read_rotation(path: Path) -> int:
    """Degrees, clockwise, by which players turn a video; 0 where it cannot be read."""
    capture = cv2.VideoCapture(str(path))
    try:
        return int(capture.get(cv2.CAP_PROP_ORIENTATION_META)) % 360
    finally:
        capture.release()


def read_frame_times(path: Path) -> Float[np.ndarray, "F"]:
    """Seconds at which the frames of a video are shown, ascending; nothing is decoded.

    Where the index of the file shows a constant rate, the file is not read any further.

    Raises:
        ImportError: the package av is not installed.
        ValueError: the video is broken, without timestamps, or HDR.
    """
    with opened_video(path) as (container, stream):
        curve = _HDR.get(int(stream.codec_context.color_trc))
        if curve is not None:
            raise ValueError(
                f"Expected videos of standard dynamic range, but {path} is HDR ({curve}), whose "
                "colours would come out pale; tone-map the videos to BT.709 first."
            )
        ticks = _steady_ticks(container, stream)
        if ticks is None:
            container.seek(0)
            packets = container.demux(stream)
            ticks = np.sort([p.pts for p in packets if p.pts is not None and not p.is_discard])
        if not len(ticks):
            raise _broken_video(path, "it has no timestamps")
        return ticks * float(stream.time_base)


def _steady_ticks(container: Any, stream: Any) -> Float[np.ndarray, "F"] | None:
    """Timestamps that the index of the file implies; None if it has none or the rate varies."""
    # Versions of av before 17 do not show the index.
    entries = list(getattr(stream, "index_entries", ()))
    index = [entry.timestamp for entry in entries if not entry.is_discard]
    count, start = len(index), stream.start_time
    if count < 2 or count != stream.frames or start is None:
        return None
    steps = (index[-1] - index[0]) / (count - 1) * np.arange(count)
    tolerance = _STEADY * steps[1]
    if np.abs(np.array(index) - index[0] - steps).max() > tolerance:
        return None
    if stream.codec_context.has_b_frames:
        # The index is in the order of decoding, so it does not tell when the last are shown.
        container.seek(index[-1], stream=stream)
        shown = [packet.pts for packet in container.demux(stream) if packet.pts is not None]
        if abs(max(shown, default=start) - start - steps[-1]) > tolerance:
            return None
    return start + steps


def decode_video(path: Path, frames: list[int]) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The given frames (ascending) of a video as RGB and as players show them, decoded from its
    beginning.

    Seeking is avoided because it is inexact in many containers.

    Raises:
        ImportError: the package av is not installed.
        ValueError: the video is corrupt or ends early.
    """
    wanted, index, matrix = set(frames), -1, None
    with opened_video(path) as (container, stream):
        stream.thread_type = "AUTO"
        for index, frame in enumerate(container.decode(stream)):
            if frame.is_corrupt:
                raise _broken_video(path, f"frame {index} is corrupt")
            # Older decoders attach it to the first frame alone.
            matrix = frame.side_data.get("DISPLAYMATRIX") or matrix
            if index in wanted:
                yield _as_shown(frame.to_ndarray(format="rgb24"), matrix, path)
            if index == frames[-1]:
                return
    missing = next(frame for frame in frames if frame > index)
    raise _broken_video(path, f"it ends after {index + 1} frames, frame {missing} is missing")


def _as_shown(
    image: UInt8[np.ndarray, "h w 3"], matrix: Any, path: Path
) -> UInt8[np.ndarray, "H W 3"]:
    """An image turned, and perhaps mirrored, by the display matrix of its video."""
    if matrix is None:
        return image
    # (x, y) is shown at (a x + c y, b x + d y), in fixed-point numbers.
    exact = np.frombuffer(matrix, np.int32)[[0, 1, 3, 4]] / 65536.0
    a, b, c, d = np.rint(exact).astype(int).tolist()
    turned = np.abs([[a, b], [c, d]])
    if np.abs(exact - (a, b, c, d)).max() > 1e-3 or not (turned @ turned == np.eye(2)).all():
        raise ValueError(
            f"Expected a video that is turned by quarters, but {path} asks players for another "
            "angle or size; convert the video so that its pixels are stored upright."
        )
    if b:
        image, a, d = image.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(image[::d, ::a])


@contextmanager
def opened_video(path: Path) -> Iterator[tuple[Any, Any]]:
    """A video and its stream, also while it is decoded."""
    try:
        import av
        from av.error import FFmpegError
    except ImportError as error:
        raise ImportError(
            f"Reading {path} needs the package av; run `pip install av` or extract the frames to "
            f"{path.with_suffix('')}/images/."
        ) from error
    try:
        with av.open(str(path)) as container:
            yield container, container.streams.video[0]
    except (FFmpegError, IndexError) as error:
        raise _broken_video(path, str(error)) from error


def _broken_video(path: Path, reason: str) -> ValueError:
    return ValueError(f"Expected a complete video at {path}, but {reason}; copy the file again.")
