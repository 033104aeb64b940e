"""Whether images of two cameras agree with their poses, and which camera is wrong if not."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Int

from moegs_ns.cameras import View
from moegs_ns.data.features import Features, match_features
from moegs_ns.data.robust import deviation

_LEAST_MATCHES = 16
"""Matches of one epipolar geometry from which on it is no accident: seven fit any."""
_LEAST_SHARE = 0.25
"""Of all matches of a pair, those that must share it."""
_SAME = 2.0
"""Matches nearer than this, in pixels, in both images are one: still things match at every
instant."""
_DEVIATIONS = 6.0
"""Deviations of a pair's error from that of the typical pair that no noise explains."""
_LEAST_LIMIT, _MOST_LIMIT = 2.0, 0.01
"""An error below is good, in pixels; one above, as a fraction of the diagonal, is not, however many
pairs have it."""


@dataclass(frozen=True, eq=False)
class Calibrated:
    """C pinhole cameras in double precision."""

    Ks: Float[np.ndarray, "C 3 3"]
    viewmats: Float[np.ndarray, "C 4 4"]
    width: int
    height: int

    @staticmethod
    def of(view: View) -> "Calibrated":
        """The cameras of a view."""
        Ks, viewmats = (each.double().cpu().numpy() for each in (view.Ks, view.viewmats))
        return Calibrated(Ks, viewmats, view.width, view.height)

    @property
    def diagonal(self) -> float:
        """Of the images, in pixels."""
        return float(np.hypot(self.width, self.height))

    @property
    def positions(self) -> Float[np.ndarray, "C 3"]:
        """Centres in the world."""
        return -np.einsum("cji,cj->ci", self.viewmats[:, :3, :3], self.viewmats[:, :3, 3])

    def projections(self) -> Float[np.ndarray, "C 3 4"]:
        """From the world to pixels."""
        return self.Ks @ self.viewmats[:, :3]

    def fundamental(self, one: int, other: int) -> Float[np.ndarray, "3 3"]:
        """The matrix F with x_other' F x_one = 0 for pixels of one point."""
        relative = self.viewmats[other] @ np.linalg.inv(self.viewmats[one])
        x, y, z = relative[:3, 3]
        cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
        inverse_one, inverse_other = np.linalg.inv(self.Ks[[one, other]])
        return inverse_other.T @ cross @ relative[:3, :3] @ inverse_one


@dataclass(frozen=True, eq=False)
class PairMatches:
    """M matches of two cameras that share one epipolar geometry, whatever the given poses are."""

    cameras: tuple[int, int]
    xy: Float[np.ndarray, "M 2 2"]
    """Pixels of each match in the first and the second camera."""
    instants: Int[np.ndarray, "M"]
    indices: Int[np.ndarray, "M 2"]
    """Numbers of the features in the images of this instant."""
    is_flat: bool
    """Whether one plane explains nearly all of them, as where one pattern is mistaken for another
    like it: they say nothing against a pose."""

    def __len__(self) -> int:
        return len(self.xy)


def match_pair(
    cameras: tuple[int, int],
    one: dict[int, Features],
    other: dict[int, Features],
    diagonal: float,
) -> PairMatches | None:
    """Matches of a pair at all instants; None if they do not show that both see one thing."""
    parts = [(instant, match_features(one[instant], other[instant])) for instant in one]
    indices = np.concatenate([found for _, found in parts])
    instants = np.concatenate([np.full(len(found), instant) for instant, found in parts])
    pixels = [
        np.stack([one[instant].xy[found[:, 0]], other[instant].xy[found[:, 1]]], 1)
        for instant, found in parts
    ]
    xy = np.concatenate(pixels)
    if len(xy) < _LEAST_MATCHES:
        return None
    _, distinct = np.unique(np.round(xy.reshape(-1, 4) / _SAME), axis=0, return_index=True)
    xy, indices, instants = xy[distinct], indices[distinct], instants[distinct]
    if len(xy) < _LEAST_MATCHES:
        return None
    cv2.setRNGSeed(0)
    tolerance = max(1.0, 0.001 * diagonal)
    _, mask = cv2.findFundamentalMat(xy[:, 0], xy[:, 1], cv2.USAC_MAGSAC, tolerance, 0.9999, 5000)
    if mask is None:
        return None
    kept = mask.reshape(-1) > 0
    if kept.sum() < max(_LEAST_MATCHES, _LEAST_SHARE * len(xy)):
        return None
    flat = _num_off_plane(xy[kept], 3.0 * tolerance) < _LEAST_MATCHES
    return PairMatches(cameras, xy[kept], instants[kept], indices[kept], flat)


def _num_off_plane(xy: Float[np.ndarray, "M 2 2"], tolerance: float) -> int:
    """Matches that the plane with the most of them does not explain."""
    _, on_plane = cv2.findHomography(xy[:, 0], xy[:, 1], cv2.RANSAC, tolerance)
    return 0 if on_plane is None else int((on_plane == 0).sum())


def epipolar_errors(
    F: Float[np.ndarray, "3 3"], xy: Float[np.ndarray, "M 2 2"]
) -> Float[np.ndarray, "M"]:
    """Distance in pixels of each match from its epipolar lines, the mean of both images."""
    one, other = (np.c_[xy[:, side], np.ones(len(xy))] for side in (0, 1))
    lines_other, lines_one = one @ F.T, other @ F
    product = np.abs((other * lines_other).sum(1))
    norms = [
        np.maximum(np.linalg.norm(lines[:, :2], axis=1), 1e-12)
        for lines in (lines_one, lines_other)
    ]
    return 0.5 * (product / norms[0] + product / norms[1])


def pair_error(cameras: Calibrated, pair: PairMatches) -> "PairError":
    """Median epipolar error of a pair."""
    errors = epipolar_errors(cameras.fundamental(*pair.cameras), pair.xy)
    return PairError(float(np.median(errors)), len(pair))


def error_limit(errors: Sequence[float], diagonal: float) -> float:
    """The error, in pixels, above which a pair is bad: far from what most pairs have, within what
    is good or bad for any rig."""
    most = max(_MOST_LIMIT * diagonal, _LEAST_LIMIT)
    if not len(errors):
        return most
    values = np.array(errors, float)
    limit = np.median(values) + _DEVIATIONS * deviation(values)[0]
    return float(np.clip(limit, _LEAST_LIMIT, most))


@dataclass(frozen=True)
class PairError:
    """How well a pair's matches agree with the poses."""

    error: float
    """Median, in pixels."""
    count: int
    """Matches."""


def blame(pairs: dict[tuple[int, int], PairError], limit: float) -> list[int]:
    """Cameras most of whose matches are in bad pairs, one after the other, the others then being
    judged without it; of two that only have each other, both."""
    left, blamed = dict(pairs), []
    while True:
        shares = {}
        for camera in sorted({camera for pair in left for camera in pair}):
            own = [each for pair, each in left.items() if camera in pair]
            bad = [each for each in own if each.error > limit]
            share = sum(each.count for each in bad) / sum(each.count for each in own)
            if share > 0.5:
                shares[camera] = (share, len(bad), float(np.median([e.error for e in own])))
        if not shares:
            return blamed
        most = max(shares.values())
        worst = [camera for camera, share in shares.items() if share == most]
        # Of two that only have each other, either may be the wrong one.
        worst = worst if most[1] == 1 else worst[:1]
        blamed += worst
        left = {pair: each for pair, each in left.items() if not set(pair) & set(worst)}


@dataclass(frozen=True)
class Explanation:
    """What would make the images of a camera agree with the others."""

    pose_of: int | None = None
    """They fit the lens and pose of this camera."""
    turn: int = 0
    """They fit once they are turned by this many degrees."""


def explain(
    camera: int, pairs: Sequence[PairMatches], cameras: Calibrated, good: set[int], limit: float
) -> Explanation | None:
    """Look for another camera's pose, or a rotation of the images, with which the matches of a
    camera with good ones agree."""
    own = [pair for pair in pairs if camera in pair.cameras and set(pair.cameras) & good]
    if not own:
        return None
    for turn in (180, 90, 270) if cameras.width == cameras.height else (180,):
        if _error_if(own, camera, cameras, camera, turn) <= limit:
            return Explanation(turn=turn)
    others = [other for other in range(len(cameras.Ks)) if other != camera]
    errors = {other: _error_if(own, camera, cameras, other, 0) for other in others}
    best = min(errors, key=lambda other: errors[other])
    return Explanation(pose_of=best) if errors[best] <= limit else None


def _error_if(
    pairs: Sequence[PairMatches], camera: int, cameras: Calibrated, pose_of: int, turn: int
) -> float:
    """Median error of a camera's pairs with another pose and turned images."""
    errors = []
    for pair in pairs:
        side = pair.cameras.index(camera)
        partner = pair.cameras[1 - side]
        if partner == pose_of:
            continue
        xy = pair.xy.copy()
        xy[:, side] = _turned(xy[:, side], turn, cameras.width, cameras.height)
        roles = (pose_of, partner) if side == 0 else (partner, pose_of)
        errors.append(np.median(epipolar_errors(cameras.fundamental(*roles), xy)))
    return float(np.median(errors)) if errors else np.inf


def _turned(
    xy: Float[np.ndarray, "M 2"], turn: int, width: int, height: int
) -> Float[np.ndarray, "M 2"]:
    x, y = xy.T
    if turn == 180:
        return np.stack([width - x, height - y], 1)
    if turn == 90:
        return np.stack([height - y, x], 1)
    return np.stack([y, width - x], 1) if turn == 270 else xy
