"""A rig calibrated from its own recordings, and a verdict on each camera."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from moegs_ns.data.dataparsers.multiview import Align
from moegs_ns.data.dataparsers.recordings import Recording
from moegs_ns.data.dataparsers.rig_recordings import has_starts, open_recordings, shared_clip
from moegs_ns.data.points.triangulation import require_pycolmap
from moegs_ns.data.rig_files import Rig, RigCamera
from moegs_ns.data.structure_from_motion.mapping import LensModel, Placed, place_cameras
from moegs_ns.data.structure_from_motion.observations import FeatureOptions, observe
from moegs_ns.data.structure_from_motion.pooling import Pooled

_FEWEST_POINTS = 30
"""Points that a pose may rest on; COLMAP asks as many to place a camera."""
_LARGEST_ERROR = 1.5
"""Pixels by which half of a camera's points may miss their features in an image of
`_ERROR_SIZE` pixels; more in larger ones."""
_ERROR_SIZE = 1000
SMALL_RIG = 6
"""Cameras up to which a rig is called small."""


@dataclass
class CalibrationOptions:
    """How cameras are calibrated from their own recordings."""

    instants: int = 8
    """Without --from: instants, spread over the recording, whose features are pooled. One places
    fewer cameras, and worse; more take longer."""
    lens: LensModel = "SIMPLE_RADIAL"
    """Without --from: COLMAP's model of the lenses. SIMPLE_RADIAL has a focal length and one
    coefficient of distortion; PINHOLE is for images that are undistorted."""
    shared_lens: bool = False
    """Without --from: all cameras have the same lens, at the same zoom."""
    align: Align | None = None
    """Without --from: how frames are matched where the recordings disagree; see rig-data."""
    features: FeatureOptions = field(default_factory=FeatureOptions)

    def check(self) -> None:
        """Raise a ValueError for numbers that make no sense."""
        if self.instants < 1:
            raise ValueError(
                f"--instants expects at least 1, got {self.instants}; leave it out for the default."
            )
        for name in ("max_features", "max_size"):
            if getattr(self.features, name) < 64:
                raise ValueError(
                    f"--features.{name.replace('_', '-')} expects at least 64, got "
                    f"{getattr(self.features, name)}; leave it out for the default."
                )


@dataclass(frozen=True, eq=False)
class CameraVerdict:
    """What its features say of one camera."""

    camera: RigCamera
    """Calibrated, unless there is a fault."""
    num_features: int
    num_matches: int
    """With all other cameras, before any geometry."""
    placed: Placed | None
    fault: str
    """Why it cannot be used, or ""."""


def calibrate_from_recordings(
    rig: Rig, data: Path, options: CalibrationOptions
) -> tuple[Rig, list[CameraVerdict]]:
    """The rig with lenses and poses from features of its recordings in the scene folder `data`,
    and a verdict on each camera; cameras with a fault stay uncalibrated.

    The world is one of unknown unit and direction. Features are kept in the scene folder, see
    `observe`.

    Raises:
        ImportError: pycolmap is not installed.
        FileNotFoundError: a recording is missing.
        ValueError: options or recordings do not allow it.
        OSError: the scene folder cannot be written.
    """
    options.check()
    require_pycolmap("Calibrating cameras")
    if len(rig.cameras) < 2:
        raise ValueError(
            "Expected at least 2 cameras, whose views of the same instants tell their poses, got "
            f"{len(rig.cameras)}; add recordings with `moegs prepare rig`, or hand over a "
            "calibration with --from."
        )
    recordings = open_recordings(rig.cameras, data)
    sizes = [(recording.width, recording.height) for recording in recordings]
    _check_shared_lens(recordings, is_shared=options.shared_lens)
    clip = shared_clip(recordings, None, options.align, is_started=has_starts(rig.cameras))
    instants = spread(len(clip.shared), options.instants)
    pooled = observe(recordings, clip, instants, options.features, data)
    placed = place_cameras(pooled, sizes, options.lens, is_shared=options.shared_lens)
    verdicts = [
        _verdict(number, replace(camera, width=size[0], height=size[1]), pooled, found)
        for number, (camera, size, found) in enumerate(zip(rig.cameras, sizes, placed, strict=True))
    ]
    return Rig(tuple(verdict.camera for verdict in verdicts)), verdicts


def spread(num_frames: int, count: int) -> list[int]:
    """At most `count` of some frames, each in the middle of an equal share of all."""
    count = min(count, num_frames)
    return [int((place + 0.5) * num_frames / count) for place in range(count)]


def _check_shared_lens(recordings: Sequence[Recording], *, is_shared: bool) -> None:
    first = recordings[0]
    other = next(
        (r for r in recordings if (r.width, r.height) != (first.width, first.height)), None
    )
    if is_shared and other is not None:
        raise ValueError(
            f"--shared-lens expects images of one size, but those of {first.name} are "
            f"{first.width}x{first.height} and those of {other.name} {other.width}x"
            f"{other.height}; leave it out."
        )


def _verdict(
    number: int, camera: RigCamera, pooled: Pooled, placed: Placed | None
) -> CameraVerdict:
    matches = sum(len(pairs) for pair, pairs in pooled.matches.items() if number in pair)
    fault = _fault(camera, placed, matches)
    camera = replace(
        camera,
        lens=placed.lens if placed is not None and not fault else None,
        world_to_camera=placed.world_to_camera if placed is not None and not fault else None,
    )
    return CameraVerdict(camera, len(pooled.keypoints[number]), matches, placed, fault)


def _fault(camera: RigCamera, placed: Placed | None, matches: int) -> str:
    if placed is None:
        return f"it could not be placed by its {matches} matches with others"
    if len(placed.errors) < _FEWEST_POINTS:
        return f"its pose rests on {len(placed.errors)} points only"
    assert camera.width is not None and camera.height is not None, camera.name
    largest = _LARGEST_ERROR * max(1.0, max(camera.width, camera.height) / _ERROR_SIZE)
    median = float(np.median(placed.errors))
    if median > largest:
        return f"half of its points miss their features by more than {median:.1f} pixels"
    return ""
