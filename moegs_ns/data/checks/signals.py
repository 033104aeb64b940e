"""Faults of single frames: black, blurred, repeated, missing, or exposed otherwise than before.

What all cameras show together, as light that is switched off, is no fault of one of them: each is
compared with its own usual frames and with what the other cameras do at the same time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from moegs_ns.data.checks.observing import Observed
from moegs_ns.data.robust import deviation

_DEVIATIONS = 6.0
"""Deviations from the median, of the kind that fits normal noise, that no noise explains."""
_REPEATED = 0.1
"""Change of a repeated frame as a fraction of the change that is expected; compression leaves
some."""
_SKIPPED = 0.9
"""Change over a gap as a fraction of the usual change over two frames."""
_LEAST_SKIP = 1.15
"""Change over two frames as a multiple of that over one, at least, for gaps to be told."""
_LEAST_BLUR = 0.5
"""Sharpness of a blurred frame as a fraction of that of the frames around it, at most."""
_LEAST_CAMERA_BLUR = 0.2
"""Sharpness of a blurred camera as a fraction of that of its neighbours, at most."""
_LEAST_JUMP = 0.05
"""Logarithm of the smallest jump of brightness; what moves changes medians by less."""
_LEAST_CHANGE = 0.1
"""Grey levels by which frames must usually change for repeated ones to be told."""
_AROUND = 3


@dataclass(frozen=True)
class FrameFaults:
    """Places of the faulty frames of one camera in the clip."""

    black: tuple[int, ...]
    blurred: tuple[int, ...]
    repeated: tuple[int, ...]
    """Frames that are the one before once more."""
    skipped: tuple[int, ...]
    """Frames before which at least one is missing."""
    jumps: tuple[int, ...]
    """Frames from which on the exposure is another."""
    sharpness: float
    """Median of the frames, as a fraction of the median of the neighbouring cameras."""
    is_blurred: bool
    """Whether the whole clip is."""


def find_frame_faults(
    observed: Sequence[Observed], neighbours: Sequence[Sequence[int]]
) -> list[FrameFaults]:
    """The faults of every camera; `neighbours` are the cameras that see the most alike."""
    black = np.stack([each.is_black for each in observed])
    # A scene that is black for all is dark.
    black &= ~(black.mean(0) > 0.5)
    jumps = _jumps(np.stack([each.gain for each in observed]), black)
    change = np.stack([each.change for each in observed])
    repeated, skipped = _timing(change, np.stack([each.change_of_two for each in observed]))
    repeated &= ~black
    skipped &= ~jumps & ~_beside(black)
    sharpness = np.stack([each.sharpness for each in observed])
    blurred = _blurred(sharpness) & ~black
    # A blurred frame changes much, too, and so does the next.
    skipped &= ~_beside(blurred)
    usual = np.array([_median(row[~dark]) for row, dark in zip(sharpness, black, strict=True)])
    relative, is_blurred = _blurred_cameras(usual, neighbours)
    return [
        FrameFaults(
            *(tuple(np.flatnonzero(rows[camera]).tolist()) for rows in (black, blurred, repeated)),
            skipped=tuple(np.flatnonzero(skipped[camera]).tolist()),
            jumps=tuple(np.flatnonzero(jumps[camera]).tolist()),
            sharpness=float(relative[camera]),
            is_blurred=bool(is_blurred[camera]) and not black[camera].all(),
        )
        for camera in range(len(observed))
    ]


def _median(values: Float[np.ndarray, "_"]) -> float:
    return float(np.median(values)) if len(values) else 0.0


def _beside(rows: Bool[np.ndarray, "C F"]) -> Bool[np.ndarray, "C F"]:
    """Those frames, and the ones after them."""
    return rows | np.pad(rows, ((0, 0), (1, 0)))[:, :-1]


def _jumps(gain: Float[np.ndarray, "C F"], black: Bool[np.ndarray, "C F"]) -> np.ndarray:
    """Changes of brightness that the other cameras do not see."""
    own = gain - np.median(gain, axis=0)
    limit = np.maximum(_DEVIATIONS * deviation(own), _LEAST_JUMP)
    return (np.abs(own) > limit) & ~_beside(black)


def _timing(
    change: Float[np.ndarray, "C F"], change_of_two: Float[np.ndarray, "C F"]
) -> tuple[Bool[np.ndarray, "C F"], Bool[np.ndarray, "C F"]]:
    """Which frames are repeated, and which follow on a gap."""
    if change.shape[1] < 2 * _AROUND:
        nothing = np.zeros(change.shape, bool)
        return nothing, nothing.copy()
    around = _around(change)
    # What the others do at the same time, compared with what they usually do.
    relative = change / np.maximum(around, 1e-6)
    together = np.nanmedian(relative[:, 1:], axis=0)
    together = np.concatenate([[1.0], np.clip(together, 0.5, 2.0)])
    expected = around * together
    is_told = around > _LEAST_CHANGE
    repeated = is_told & (change < _REPEATED * expected)
    # A gap looks like two steps at once, and only for one frame.
    two = _around(change_of_two) * together
    own = np.log(np.maximum(change, 1e-6) / np.maximum(expected, 1e-6))
    is_outlier = own > np.maximum(_DEVIATIONS * deviation(own), np.log(_LEAST_SKIP))
    is_told &= two > _LEAST_SKIP * expected
    skipped = is_told & is_outlier & (change > _SKIPPED * two)
    return repeated, skipped


def _around(change: Float[np.ndarray, "C F"]) -> Float[np.ndarray, "C F"]:
    """Median of the frames before and after each, without itself."""
    padded = np.pad(change, ((0, 0), (_AROUND, _AROUND)), constant_values=np.nan)
    count = change.shape[1]
    shifts = [place for place in range(2 * _AROUND + 1) if place != _AROUND]
    beside = np.stack([padded[:, place : place + count] for place in shifts])
    return np.nan_to_num(np.nanmedian(beside, axis=0))


def _blurred(sharpness: Float[np.ndarray, "C F"]) -> Bool[np.ndarray, "C F"]:
    """Frames that are less sharp than those around them, and than the camera's usual ones."""
    if sharpness.shape[1] < 2 * _AROUND:
        return np.zeros(sharpness.shape, bool)
    logarithm = np.log(np.maximum(sharpness, 1e-9))
    own = logarithm - np.median(logarithm, axis=1, keepdims=True)
    limit = np.maximum(_DEVIATIONS * deviation(own), -np.log(_LEAST_BLUR))
    return (own < -limit) & (sharpness < _LEAST_BLUR * _around(sharpness))


def _blurred_cameras(
    usual: Float[np.ndarray, "C"], neighbours: Sequence[Sequence[int]]
) -> tuple[Float[np.ndarray, "C"], Bool[np.ndarray, "C"]]:
    """Sharpness of each camera over that of its neighbours, and which are blurred all the time."""
    relative = np.array(
        [
            own / max(_median(usual[list(beside)]) if beside else own, 1e-9)
            for own, beside in zip(usual, neighbours, strict=True)
        ]
    )
    logarithm = np.log(np.maximum(relative, 1e-9))
    limit = max(_DEVIATIONS * float(deviation(logarithm)[0]), -np.log(_LEAST_CAMERA_BLUR))
    return relative, logarithm - np.median(logarithm) < -limit
