"""One verdict for each camera of a scene: its figures, and what is wrong with it."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from moegs_ns.data.checks.epipolar import (
    Calibrated,
    PairError,
    PairMatches,
    blame,
    error_limit,
    explain,
    match_pair,
    pair_error,
)
from moegs_ns.data.checks.footage import Footage
from moegs_ns.data.checks.observing import Observed, Plan, observe, plan_frames
from moegs_ns.data.checks.signals import FrameFaults, find_frame_faults
from moegs_ns.data.checks.timing import Timing, find_timings, pair_curve
from moegs_ns.data.checks.tracks import Tracks, build_tracks
from moegs_ns.progress import track

_PARTNERS = 6
"""Cameras that each is compared with in time: those that share the most features with it."""
_SAME_PLACE = 0.01
"""Distance of two cameras, as a fraction of the median distance to the nearest one, below which
they are at one place."""
_NAMED = 5


@dataclass(frozen=True)
class CheckOptions:
    """What is looked at."""

    instants: int = 6
    """Instants, spread over the clip, at which features are compared."""
    reach: int = 5
    """Frames by which a camera may be early or late to be found so."""

    def check(self) -> None:
        """Raise a ValueError for numbers that show nothing."""
        if self.instants < 1 or self.reach < 1:
            raise ValueError(
                "--instants and --reach expect numbers of at least 1, got "
                f"{self.instants} and {self.reach}; leave them out for the defaults."
            )


@dataclass(frozen=True, eq=False)
class CameraVerdict:
    """What was found of one camera."""

    name: str
    num_tracks: int
    """Points that it shares with others."""
    reprojection: float
    """Median error in pixels; NaN if it shares no points."""
    epipolar: float
    """Median error in pixels over its pairs with cameras that are right; NaN without any."""
    timing: Timing | None
    """None if clips are too short or nothing matches."""
    frames: FrameFaults
    faults: tuple[str, ...]
    """What is wrong, each a clause; empty for a good camera."""

    @property
    def text(self) -> str:
        """The faults, or what else there is to say."""
        if self.faults:
            return "; ".join(self.faults)
        return "good" if np.isfinite(self.epipolar) else "pose not checked: no features shared"


@dataclass(frozen=True, eq=False)
class SceneVerdict:
    """What was found of all cameras."""

    cameras: tuple[CameraVerdict, ...]
    tracks: Tracks
    geometry: Calibrated
    observed: tuple[Observed, ...]
    limit: float
    """Epipolar error, in pixels, of a good pair."""

    @property
    def bad(self) -> list[CameraVerdict]:
        """Cameras with faults."""
        return [camera for camera in self.cameras if camera.faults]


def check_footage(footage: Footage, options: CheckOptions) -> SceneVerdict:
    """Look at every frame of every camera once, then compare the cameras.

    Raises:
        FileNotFoundError: an image is missing.
        ValueError: one is broken, or the options make no sense.
    """
    options.check()
    plan = plan_frames(len(footage.frames), options.instants, options.reach)
    geometry = Calibrated.of(footage.view)
    observed = _observed(footage, plan)
    # Cameras at one place have no epipolar lines.
    together = _at_one_place(geometry)
    pairs = [pair for pair in _matched(observed, geometry) if pair.cameras not in together]
    # Which poses disagree with the images, whatever the others do.
    found = {pair.cameras: pair_error(geometry, pair) for pair in pairs}
    limit = error_limit([each.error for each in found.values()], geometry.diagonal)
    every, pairs = pairs, [p for p in pairs if not p.is_flat or found[p.cameras].error <= limit]
    judged = {pair.cameras: found[pair.cameras] for pair in pairs}
    errors = {cameras: each.error for cameras, each in judged.items()}
    blamed = blame(judged, limit)
    blamed += _counterparts(blamed, judged, every, geometry, limit)
    trusted = set(range(len(footage))) - set(blamed)
    poses = _pose_faults(footage, blamed, every, geometry, limit)
    for one, other in together:
        poses[one].append(f"at the place of {footage.names[other]}")
        poses[other].append(f"at the place of {footage.names[one]}")
    # Clocks, of cameras whose poses are right.
    timings = _timings(observed, pairs, trusted, plan, geometry)
    # Frames, compared with those of cameras that see the same.
    everyone = set(range(len(footage)))
    partners = [_partners(camera, pairs) or sorted(everyone - {camera}) for camera in everyone]
    frames = find_frame_faults(observed, partners)
    tracks = build_tracks(pairs, geometry, trusted)
    verdicts = []
    for camera, name in enumerate(footage.names):
        own = [
            e for pair, e in errors.items() if camera in pair and set(pair) - {camera} <= trusted
        ]
        faults = (
            *poses[camera],
            *_timing_faults(timings[camera]),
            *_frame_faults(frames[camera], footage.frames),
        )
        verdicts.append(
            CameraVerdict(
                name,
                tracks.count(camera),
                tracks.error(camera),
                float(np.median(own)) if own else float("nan"),
                timings[camera],
                frames[camera],
                faults,
            )
        )
    return SceneVerdict(tuple(verdicts), tracks, geometry, observed, limit)


def _observed(footage: Footage, plan: Plan) -> tuple[Observed, ...]:
    """All cameras, decoded at once as far as there are processors."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        looks = pool.map(
            lambda group, mask: observe(group, mask, plan), footage.groups, footage.masks
        )
        return tuple(track(looks, "Looking at all frames", len(footage)))


def _matched(observed: Sequence[Observed], geometry: Calibrated) -> list[PairMatches]:
    """Matches of all pairs of cameras that see one thing."""
    wanted = list(combinations(range(len(observed)), 2))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        matched = pool.map(
            lambda pair: match_pair(
                pair, observed[pair[0]].still, observed[pair[1]].still, geometry.diagonal
            ),
            wanted,
        )
        return [each for each in track(matched, "Matching cameras", len(wanted)) if each]


def _partners(camera: int, pairs: Sequence[PairMatches]) -> list[int]:
    """Cameras that share the most features with one."""
    own = sorted((pair for pair in pairs if camera in pair.cameras), key=len, reverse=True)
    return [pair.cameras[1 - pair.cameras.index(camera)] for pair in own[:_PARTNERS]]


def _counterparts(
    blamed: Sequence[int],
    judged: dict[tuple[int, int], PairError],
    pairs: Sequence[PairMatches],
    geometry: Calibrated,
    limit: float,
) -> list[int]:
    """Cameras that no pair speaks for, and whose images fit the pose of a wrong one: the other half
    of a swap, where flat pairs alone would say nothing."""
    seen = {camera for pair in judged if not set(pair) & set(blamed) for camera in pair}
    unseen = set(range(len(geometry.Ks))) - seen - set(blamed)
    found = {camera: explain(camera, pairs, geometry, seen, limit) for camera in sorted(unseen)}
    return [camera for camera, why in found.items() if why and why.pose_of in blamed]


def _pose_faults(
    footage: Footage,
    blamed: Sequence[int],
    pairs: Sequence[PairMatches],
    geometry: Calibrated,
    limit: float,
) -> list[list[str]]:
    """What is wrong with the pose or the order of each camera."""
    faults: list[list[str]] = [[] for _ in footage.names]
    good = set(range(len(footage))) - set(blamed)
    found = {camera: explain(camera, pairs, geometry, good, limit) for camera in blamed}
    for camera, why in found.items():
        if why is None:
            text = "its pose or lens does not fit its images"
        elif why.pose_of is None:
            text = f"its images are turned by {why.turn} degrees"
        else:
            other = found.get(why.pose_of)
            is_swap = other is not None and other.pose_of == camera
            name = footage.names[why.pose_of]
            text = f"swapped with {name}" if is_swap else f"its images fit the pose of {name}"
        faults[camera].append(text)
    return faults


def _at_one_place(geometry: Calibrated) -> list[tuple[int, int]]:
    """Pairs of cameras whose centres are much nearer than those of others; they tell no depth."""
    positions = geometry.positions
    distances = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    near = max(_SAME_PLACE * float(np.median(distances.min(1))), 1e-9)
    return [(int(one), int(other)) for one, other in np.argwhere(np.triu(distances <= near))]


def _timings(
    observed: Sequence[Observed],
    pairs: Sequence[PairMatches],
    trusted: set[int],
    plan: Plan,
    geometry: Calibrated,
) -> list[Timing | None]:
    """The clock of each camera, from pairs that share the most features."""
    if not plan.reach:
        return [None] * len(observed)
    sound = [pair for pair in pairs if set(pair.cameras) <= trusted]
    chosen = {
        tuple(sorted((camera, partner)))
        for camera in trusted
        for partner in _partners(camera, sound)
    }
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        curves = pool.map(
            lambda pair: pair_curve(
                (pair[0], pair[1]),
                (observed[pair[0]].moving, observed[pair[1]].moving),
                plan.instants,
                plan.reach,
                geometry,
            ),
            sorted(chosen),
        )
        known = list(track(curves, "Comparing clocks", len(chosen)))
    found = find_timings(known, len(observed), plan.reach)
    seen = {camera for pair in chosen for camera in pair}
    return [each if camera in seen else None for camera, each in enumerate(found)]


def _timing_faults(timing: Timing | None) -> list[str]:
    if timing is not None and timing.at_ends is not None:
        first, last = timing.at_ends
        return [
            f"{first:+d} frames late at the start and {last:+d} at the end: frames are missing, or "
            "its rate is another"
        ]
    if timing is None or not timing.offset:
        return []
    late = "late" if timing.offset > 0 else "early"
    count = abs(timing.offset)
    return [f"{count} frame{'s' if count > 1 else ''} {late}"]


def _frame_faults(frames: FrameFaults, numbers: Sequence[int]) -> list[str]:
    faults = []
    if len(frames.black) == len(numbers):
        return ["black"]
    if frames.is_blurred:
        faults.append(f"blurred: {frames.sharpness:.2g} of its neighbours' sharpness")
    for what, places in (
        ("black", frames.black),
        ("blurred", frames.blurred),
        ("repeated", frames.repeated),
        ("after a missing one", frames.skipped),
        ("exposed otherwise than before", frames.jumps),
    ):
        if places:
            shown = ", ".join(str(numbers[place]) for place in places[:_NAMED])
            rest = "" if len(places) <= _NAMED else f" and {len(places) - _NAMED} more"
            faults.append(f"frame{'s' if len(places) > 1 else ''} {shown}{rest} {what}")
    return faults
