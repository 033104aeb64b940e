"""From the times at which recordings began to the frames that show their first common instant."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from moegs_ns.data.dataparsers.recordings import Recording


@dataclass(frozen=True)
class Start:
    """The frame of a camera that is frame 0 of the scene."""

    frame: int
    early: float
    """Fraction of a frame by which it was taken before that instant, at most half a frame but for
    the limits of what tells."""
    confidence: float | None = None
    """Of sound: its match with that of the first camera, as a multiple of the best other match;
    None where it was not compared."""


def common_starts(
    recordings: Sequence[Recording],
    began: Sequence[float],
    confidences: Sequence[float | None] | None = None,
) -> list[Start]:
    """The frame of each camera nearest to the first instant that all have recorded; `began` are the
    times in seconds, on one clock, at which their first frames were taken.

    Raises:
        ValueError: there is no such instant.
    """
    instant = max(began)
    starts = []
    for recording, began_at, confidence in zip(
        recordings, began, confidences or [None] * len(recordings), strict=True
    ):
        times = began_at + seconds_from_first(recording)
        frame = int(np.abs(times - instant).argmin())
        interval = float(np.median(np.diff(times))) if len(times) > 1 else 1.0 / recording.fps
        if instant - times[-1] > interval:
            last = recordings[int(np.argmax(began))]
            raise ValueError(
                f"Expected recordings of one take, but {recording.name} ended "
                f"{instant - times[-1]:.1f} s before {last.name} began; leave one of them out."
            )
        starts.append(Start(frame, float((instant - times[frame]) / interval), confidence))
    return starts


def seconds_from_first(recording: Recording) -> Float[np.ndarray, "F"]:
    """When each frame of a video was taken, after its first one."""
    assert recording.times is not None, recording.path
    return recording.times - recording.times[0]


def require_videos(recordings: Sequence[Recording], option: str, carries: str) -> None:
    """Raise a ValueError unless all recordings are videos."""
    images = [recording.name for recording in recordings if recording.times is None]
    if images:
        raise ValueError(
            f"{option} expects videos, which carry {carries}, but {', '.join(images)} "
            f"{'is a folder' if len(images) == 1 else 'are folders'} of images; say which frames "
            "belong together with --start."
        )
