"""By how many frames a camera is late or early, from moving features alone.

What moves is in two images of one instant on the same epipolar line; a frame later it is beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from moegs_ns.data.checks.epipolar import Calibrated, epipolar_errors
from moegs_ns.data.features import Features, match_features

_LEAST_MATCHES = 30
"""Matches of moving features below which nothing is said of a camera."""
_SIGNIFICANCE = 4.0
"""Deviations by which a shift must fit better than none, as for two binomial shares."""
_LEAST_PAIR = 8
"""Matches from which on a pair has a voice."""
_ROUNDS = 3


@dataclass(frozen=True, eq=False)
class PairCurve:
    """Matches of moving features of two cameras, the second one's at each of V shifts."""

    cameras: tuple[int, int]
    matches: Int[np.ndarray, "T V"]
    """At each of T instants."""
    inliers: Int[np.ndarray, "T V"]
    """Those on their epipolar lines."""

    def at(self, instants: slice) -> "PairCurve":
        """Some of the instants alone."""
        return PairCurve(self.cameras, self.matches[instants], self.inliers[instants])


@dataclass(frozen=True)
class Timing:
    """What moving features say of one camera's clock."""

    offset: int | None
    """Frames by which it is late: it shows at frame f + offset what the others show at f; None
    where too little moves to tell."""
    share: float
    """Of matches on their epipolar lines, at this offset."""
    share_beside: float
    """The larger share one frame before and after."""
    share_as_given: float
    """Without an offset."""
    at_ends: tuple[int, int] | None = None
    """The offsets of the first and the last third of the instants, where they differ."""


def pair_curve(
    cameras: tuple[int, int],
    moving: tuple[Mapping[int, Features], Mapping[int, Features]],
    instants: Sequence[int],
    reach: int,
    geometry: Calibrated,
) -> PairCurve:
    """Share of moving features on their epipolar lines at every shift from -reach to reach."""
    F = geometry.fundamental(*cameras)
    tolerance = max(1.0, 0.001 * geometry.diagonal)
    matches, inliers = np.zeros((2, len(instants), 2 * reach + 1), int)
    for row, instant in enumerate(instants):
        one = moving[0][instant]
        for place, shift in enumerate(range(-reach, reach + 1)):
            other = moving[1][instant + shift]
            found = match_features(one, other)
            xy = np.stack([one.xy[found[:, 0]], other.xy[found[:, 1]]], 1)
            matches[row, place] = len(found)
            inliers[row, place] = int((epipolar_errors(F, xy) < tolerance).sum())
    return PairCurve(cameras, matches, inliers)


def find_timings(curves: Sequence[PairCurve], count: int, reach: int) -> list[Timing]:
    """The clocks of `count` cameras, and whether they are others at the end than at the start: then
    a camera has lost frames, or has another rate."""
    timings = find_offsets(curves, count, reach)
    num_instants = max((len(curve.matches) for curve in curves), default=0)
    part = num_instants // 3
    if not part:
        return timings
    first, last = (
        find_offsets([curve.at(ends) for curve in curves], count, reach, 2.0 * _SIGNIFICANCE)
        for ends in (slice(part), slice(num_instants - part, None))
    )
    return [
        replace(timing, at_ends=(one.offset, other.offset))
        if one.offset is not None and other.offset is not None and one.offset != other.offset
        else timing
        for timing, one, other in zip(timings, first, last, strict=True)
    ]


def find_offsets(
    curves: Sequence[PairCurve], count: int, reach: int, significance: float = _SIGNIFICANCE
) -> list[Timing]:
    """The offset of each of `count` cameras: the camera that gains most gets its own first, and the
    others are then seen against it as corrected."""
    offsets = np.zeros(count, int)
    for _ in range(_ROUNDS * count):
        gains = [_gain(curves, camera, offsets, reach, significance) for camera in range(count)]
        best = max(range(count), key=lambda camera: gains[camera][0])
        if gains[best][0] <= 0.0:
            break
        offsets[best] = gains[best][1]
    # Clocks are relative: most cameras are right.
    if len(offsets):
        offsets -= int(np.bincount(offsets + reach).argmax() - reach)
    return [_timing(curves, camera, offsets, reach) for camera in range(count)]


def _curve_of(
    curves: Sequence[PairCurve], camera: int, offsets: Int[np.ndarray, "C"], reach: int
) -> tuple[Int[np.ndarray, "M V"], Int[np.ndarray, "M V"]]:
    """Matches and inliers of a camera's M pairs if its own offset were each of the shifts; 0 where
    a pair was not compared that far."""
    rows = []
    for curve in curves:
        if camera not in curve.cameras:
            continue
        is_second = curve.cameras[1] == camera
        other = curve.cameras[0 if is_second else 1]
        row = np.zeros((2, 2 * reach + 1), int)
        for place, own in enumerate(range(-reach, reach + 1)):
            # The second camera's frame for the first one's t is t + its shift.
            relative = own - offsets[other]
            shift = relative if is_second else -relative
            if abs(shift) <= reach:
                row[0, place] = curve.matches[:, shift + reach].sum()
                row[1, place] = curve.inliers[:, shift + reach].sum()
        rows.append(row)
    stacked = np.array(rows, int).reshape(-1, 2, 2 * reach + 1)
    return stacked[:, 0], stacked[:, 1]


def _gain(
    curves: Sequence[PairCurve],
    camera: int,
    offsets: Int[np.ndarray, "C"],
    reach: int,
    significance: float,
) -> tuple[float, int]:
    """How sure another offset of a camera fits better than the one it has, above 0 if it does."""
    matches, inliers = _curve_of(curves, camera, offsets, reach)
    total, good = matches.sum(0), inliers.sum(0)
    now = int(offsets[camera]) + reach
    shares = good / np.maximum(total, 1)
    shares[total < _LEAST_MATCHES] = -1.0
    best = int(shares.argmax())
    if best == now or shares[best] < 0.0 or total[now] < 1:
        return 0.0, 0
    pooled = (good[best] + good[now]) / (total[best] + total[now])
    deviation = np.sqrt(pooled * (1.0 - pooled) * (1.0 / total[best] + 1.0 / total[now]))
    surplus = (shares[best] - shares[now]) / max(float(deviation), 1e-9) - significance
    # More than half of the pairs must say so themselves: one wrong camera moves no other.
    heard = (matches[:, [best, now]] >= _LEAST_PAIR).all(1)
    own = inliers[heard] / np.maximum(matches[heard], 1)
    agree = (own[:, best] > own[:, now]).sum() if len(own) else 0
    alone = len(own) < min(2, len(matches))
    if surplus <= 0.0 or 2 * agree <= len(own) or alone:
        return 0.0, 0
    return float(surplus), best - reach


def _timing(
    curves: Sequence[PairCurve], camera: int, offsets: Int[np.ndarray, "C"], reach: int
) -> Timing:
    matches, inliers = _curve_of(curves, camera, offsets, reach)
    total, good = matches.sum(0), inliers.sum(0)
    shares: Float[np.ndarray, "V"] = good / np.maximum(total, 1)
    place = int(np.clip(offsets[camera] + reach, 0, 2 * reach))
    beside = [shares[side] for side in (place - 1, place + 1) if 0 <= side < len(shares)]
    is_known = total[place] >= _LEAST_MATCHES
    return Timing(
        int(offsets[camera]) if is_known else None,
        float(shares[place]),
        float(max(beside, default=0.0)),
        float(shares[reach]),
    )
