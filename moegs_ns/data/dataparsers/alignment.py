"""Which images of several cameras show the same instant.

Imports neither datamanagers nor models, see `multiview`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from moegs_ns.data.dataparsers.multiview import Align, choose_frames
from moegs_ns.data.dataparsers.recordings import FrameNumber, Recording

_SLOW = 0.75
"""Cameras whose frames last at least this fraction of the longest ones have the lowest rate."""
_NEAR = 0.49
"""Fraction of the time between two frames by which frames of one instant may differ."""
_NAMED = 4
"""Cameras that an error describes."""


@dataclass(frozen=True, eq=False)
class Clip:
    """The frames of C recordings that are used, which all cameras have."""

    frames: range
    """From the first to the last; some in between may be missing."""
    shared: list[int]
    """Those of `frames` that are there, ascending."""
    images: Int[np.ndarray, "C F"]
    """Of every camera the index of its image at each shared frame."""
    num_recorded: int
    """Frames of the whole recording."""
    fps: float
    note: str
    """What a training should say if frames were matched or left out, else ""."""


def choose_clip(
    recordings: list[Recording],
    frames: tuple[int, int] | None,
    align: Align | None,
    max_frames: int | None = None,
) -> Clip:
    """The frames of the clip, matched between the cameras; where `frames` is None, all, or the
    first `max_frames`.

    Raises:
        ValueError: the cameras disagree and `align` is None, or the options do not fit.
    """
    kind: Literal["number", "time"] = "number" if recordings[0].images else "time"
    if align not in (None, kind, "position"):
        what = "images" if kind == "number" else "videos"
        raise ValueError(
            f"--align expects {kind} or position for {what}, got {align}; leave it out unless the "
            "cameras disagree."
        )
    # List the image of every camera at each frame, -1 where it has none.
    shortest = min(recording.num_frames for recording in recordings)
    by_position = np.tile(np.arange(shortest), (len(recordings), 1))
    fps = recordings[0].fps
    if align == "position" or (align is None and _agree(recordings)):
        table = by_position
    elif kind == "number":
        table = match_numbers([recording.numbers for recording in recordings])
    else:
        table, fps = _match_times(recordings)
    # Take the frames of the clip that all cameras have.
    is_cut = frames is None and max_frames is not None and max_frames < table.shape[1]
    chosen = choose_frames((0, max_frames - 1) if is_cut and max_frames else frames, table.shape[1])
    columns = table[:, chosen.start : chosen.stop]
    is_shared = (columns >= 0).all(0)
    shared = (np.flatnonzero(is_shared) + chosen.start).tolist()
    if align is None and not (is_shared.all() and (columns == columns[0]).all()):
        raise ValueError(_disagreement(recordings, columns, len(shared), kind))
    if not shared:
        raise ValueError(
            f"Expected frames that all {len(recordings)} cameras have (--align {align}), but "
            f"{_described(recordings, columns)}, and they share none; synchronise the recordings."
        )
    notes = []
    if is_cut:
        notes.append(
            f"The first {len(chosen)} of {table.shape[1]} frames are used, as in papers; --frames "
            f"0 {table.shape[1] - 1} takes all."
        )
    if align is not None:
        notes.append(
            f"Frames are matched by {align}: of {columns.shape[1]}, all {len(recordings)} cameras "
            f"have {len(shared)}, which are used."
        )
    span = range(shared[0], shared[-1] + 1)
    return Clip(span, shared, columns[:, is_shared], table.shape[1], fps, " ".join(notes))


def match_numbers(numbers: Sequence[Sequence[FrameNumber]]) -> Int[np.ndarray, "C F"]:
    """Index of each camera's image with the f-th of all numbers, -1 where it has none."""
    known = sorted(set().union(*numbers))
    places = {number: place for place, number in enumerate(known)}
    table = np.full((len(numbers), len(known)), -1)
    for row, of_camera in zip(table, numbers, strict=True):
        row[[places[number] for number in of_camera]] = np.arange(len(of_camera))
    return table


def _times(recording: Recording) -> Float[np.ndarray, "F"]:
    assert recording.times is not None, recording.path
    return recording.times


def _interval(recording: Recording) -> float:
    """Typical seconds between two frames."""
    times = _times(recording)
    return float(np.median(np.diff(times))) if len(times) > 1 else 1.0 / recording.fps


def _agree(recordings: list[Recording]) -> bool:
    """Whether the f-th images of all cameras belong together, for every f."""
    first = recordings[0]
    if any(other.num_frames != first.num_frames for other in recordings):
        return False
    if first.images:
        return all(other.numbers == first.numbers for other in recordings)
    near = _NEAR * min(map(_interval, recordings))
    return all(np.abs(_times(other) - _times(first)).max() <= near for other in recordings)


def _match_times(recordings: list[Recording]) -> tuple[Int[np.ndarray, "C F"], float]:
    """Index of each camera's frame that is nearest to the f-th instant and less than half a frame
    away from it, -1 where there is none; and the number of instants per second.

    Instants are those of the camera with the lowest rate, and of these of the one with the most
    frames; where it has dropped some, they are spread evenly over the gap.
    """
    lowest = max(map(_interval, recordings))
    slow = [each for each in recordings if _interval(each) >= _SLOW * lowest]
    clock = max(slow, key=lambda recording: recording.num_frames)
    times, interval = _times(clock), _interval(clock)
    steps = np.maximum(np.rint(np.diff(times) / interval), 1).astype(int)
    places = np.concatenate([[0], np.cumsum(steps)])
    instants = np.interp(np.arange(places[-1] + 1), places, times)
    table = np.full((len(recordings), len(instants)), -1)
    for row, recording in zip(table, recordings, strict=True):
        own = _times(recording)
        right = np.clip(np.searchsorted(own, instants), 1, max(len(own) - 1, 1))
        left = right - 1
        right = np.minimum(right, len(own) - 1)
        nearest = np.where(instants - own[left] <= own[right] - instants, left, right)
        near = np.abs(own[nearest] - instants) <= _NEAR * interval
        row[near] = nearest[near]
    return table, 1.0 / interval


def _described(recordings: list[Recording], columns: Int[np.ndarray, "C F"]) -> str:
    """What some cameras have, those first that lack most."""
    order = np.argsort((columns >= 0).sum(1), kind="stable")
    texts = []
    for recording in (recordings[index] for index in order[:_NAMED]):
        if recording.images:
            span = f"{recording.images[0].name} to {recording.images[-1].name}"
            texts.append(f"{recording.name} has {recording.num_frames} ({span})")
        else:
            rate, start = 1.0 / _interval(recording), _times(recording)[0]
            texts.append(
                f"{recording.path.name} has {recording.num_frames}, {rate:.4g} per second from "
                f"{start:.3f} s"
            )
    if len(order) > _NAMED:
        texts.append(f"{len(order) - _NAMED} more cameras others")
    return ", ".join(texts)


def _disagreement(
    recordings: list[Recording], columns: Int[np.ndarray, "C F"], num_shared: int, kind: str
) -> str:
    """The sentence about cameras whose images do not belong together by position."""
    by, means = "file name", "equal numbers mean equal instants"
    if kind == "time":
        by, means = "timestamp", "the cameras' clocks were started together"
    repair = "record or synchronise them again"
    if num_shared:
        repair = (
            f"complete the recordings, or use the frames that all have with --align {kind} after "
            f"the parser's name, if {means}"
        )
    return (
        f"Expected the same frames from all {len(recordings)} cameras, but by {kind} (as each "
        f"{by} says) they share {num_shared} of {columns.shape[1]}: "
        f"{_described(recordings, columns)}; {repair}."
    )
