"""A calibration given to the cameras of a rig, and what is wrong with it."""

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from moegs_ns.data.dataparsers.recordings import open_recording
from moegs_ns.data.frames.bars import Bars
from moegs_ns.data.frames.images import has_shape
from moegs_ns.data.frames.undistortion import Lens
from moegs_ns.data.rig_files import Rig, RigCamera

_SAME_POSE = 1e-9
"""Largest difference of two poses that are copies of each other."""


@dataclass(frozen=True, eq=False)
class Verdict:
    """What a calibration says of one camera of a rig."""

    camera: RigCamera
    calibrated_as: str
    """Its name in the calibration; "" without one."""
    fault: str
    """Why it cannot be used, or ""."""

    @property
    def center_offset(self) -> float:
        """Distance in pixels from the middle of the image to the principal point."""
        lens, width, height = self.camera.lens, self.camera.width, self.camera.height
        assert lens is not None and width is not None and height is not None, self.camera.name
        return float(np.hypot(lens.cx - width / 2.0, lens.cy - height / 2.0))

    @property
    def corner_shift(self) -> float:
        """Pixels by which the lens moves what a pinhole would show half-way to the corners."""
        lens, width, height = self.camera.lens, self.camera.width, self.camera.height
        assert lens is not None and width is not None and height is not None, self.camera.name
        corners = np.array([[x, y] for x in (0.25, 0.75) for y in (0.25, 0.75)]) * (width, height)
        rays = np.ones((4, 3))
        rays[:, :2] = (corners - (lens.cx, lens.cy)) / (lens.fx, lens.fy)
        return float(np.linalg.norm(lens.project(rays) - corners, axis=1).max())


def calibrate_rig(
    rig: Rig, calibration: Rig, data: Path, names: Mapping[str, str]
) -> tuple[Rig, list[Verdict]]:
    """The rig with lenses and poses of a calibration, and a verdict on each camera.

    `names` gives, for some cameras, the name in the calibration. Others are found by their names.
    Lenses are scaled to the size of the recordings. Cameras with a fault stay uncalibrated.

    Raises:
        FileNotFoundError: a recording is missing.
        ValueError: the names do not tell which camera is which.
    """
    partners = match_names([c.name for c in rig.cameras], calibration.cameras, names)
    if not any(partners):
        raise ValueError(
            f"Expected cameras called as in the calibration "
            f"({', '.join(c.name for c in calibration.cameras)}), but the rig has "
            f"{', '.join(c.name for c in rig.cameras)}; say which is which with --names "
            "CAMERA=CALIBRATED."
        )
    verdicts = [
        _verdict(camera, partner, data)
        for camera, partner in zip(rig.cameras, partners, strict=True)
    ]
    verdicts = [_compared(verdict, verdicts) for verdict in verdicts]
    cameras = tuple(
        replace(each.camera, lens=None, world_to_camera=None) if each.fault else each.camera
        for each in verdicts
    )
    return Rig(cameras, calibration.unit), verdicts


def match_names(
    cameras: Sequence[str], calibrated: Sequence[RigCamera], names: Mapping[str, str]
) -> list[RigCamera | None]:
    """The calibration of each camera: by `names`, else by equal names, by a name that holds the
    other as a word (hd_00_05 and 00_05), or by equal numbers; None where there is none.

    Calibrations without names belong to the cameras in alphabetical order.

    Raises:
        ValueError: `names` names what is not there, or counts differ where only they can tell.
    """
    if not any(each.name for each in calibrated):
        return _by_order(cameras, calibrated)
    known = {each.name: each for each in calibrated}
    for camera, name in names.items():
        if camera not in cameras or name not in known:
            raise ValueError(
                f"--names expects CAMERA=CALIBRATED with cameras of the rig "
                f"({', '.join(cameras)}) and of the calibration ({', '.join(known)}), got "
                f"{camera}={name}; name what is there."
            )
    found = dict(names)
    rules: tuple[Callable[[str, str], bool], ...] = (
        lambda camera, name: camera == name,
        lambda camera, name: _has_word(camera, name) or _has_word(name, camera),
        lambda camera, name: bool(_numbers(camera)) and _numbers(camera) == _numbers(name),
    )
    for rule in rules:
        found |= _unique(
            [camera for camera in cameras if camera not in found],
            [name for name in known if name not in found.values()],
            rule,
        )
    return [known[found[camera]] if camera in found else None for camera in cameras]


def _by_order(cameras: Sequence[str], calibrated: Sequence[RigCamera]) -> list[RigCamera | None]:
    if len(cameras) != len(calibrated):
        raise ValueError(
            f"Expected an entry for each of the {len(cameras)} cameras of the rig in a calibration "
            f"without names, got {len(calibrated)}; make the rig of the cameras that were "
            "calibrated."
        )
    order = sorted(cameras)
    if order != sorted(cameras, key=lambda name: re.sub("[0-9]+", lambda n: n[0].zfill(20), name)):
        raise ValueError(
            "Expected cameras whose order by name is that by number, since the calibration has no "
            f"names, got {', '.join(order)}; rename the recordings with leading zeros."
        )
    places = {name: calibrated[place] for place, name in enumerate(order)}
    return [places[name] for name in cameras]


def _unique(
    cameras: list[str], names: list[str], rule: Callable[[str, str], Hashable]
) -> dict[str, str]:
    """Pairs that fit each other and nothing else."""
    fits = {camera: [name for name in names if rule(camera, name)] for camera in cameras}
    count = {name: sum(name in fit for fit in fits.values()) for name in names}
    return {c: fit[0] for c, fit in fits.items() if len(fit) == 1 and count[fit[0]] == 1}


def _has_word(text: str, word: str) -> bool:
    return re.search(rf"(?<![0-9A-Za-z]){re.escape(word)}(?![0-9A-Za-z])", text) is not None


def _numbers(name: str) -> tuple[int, ...]:
    return tuple(int(text) for text in re.findall("[0-9]+", name))


def _verdict(camera: RigCamera, partner: RigCamera | None, data: Path) -> Verdict:
    if partner is None or partner.lens is None:
        return Verdict(camera, "", "it is not in the calibration")
    recording = open_recording(data / camera.file, camera.name)
    width, height = partner.width or recording.width, partner.height or recording.height
    recording = recording.as_calibrated(width, height)
    found = (recording.width, recording.height)
    lens, fault = _fitted(partner.lens, (width, height), found, camera.bars), ""
    if lens is None:
        fault = f"{width}x{height} was calibrated, the recording is {found[0]}x{found[1]}"
        lens = partner.lens.scaled(found[0] / width, found[1] / height)
    if not (0.0 < lens.cx < found[0] and 0.0 < lens.cy < found[1]) and not fault:
        fault = f"its principal point ({lens.cx:.1f}, {lens.cy:.1f}) is outside of the image"
    calibrated = replace(
        camera,
        width=found[0],
        height=found[1],
        lens=lens,
        world_to_camera=partner.world_to_camera,
    )
    return Verdict(calibrated, partner.name or "(by order)", fault)


def _fitted(
    lens: Lens, calibrated: tuple[float, float], size: tuple[int, int], bars: Bars
) -> Lens | None:
    """The lens of images of the size `calibrated` in images of another size; None if these have
    other proportions. Bars were added to what was calibrated, if without them its proportions are
    met better."""
    within = bars.inside(*size)
    if not bars or _misfit(size, calibrated) <= _misfit(within, calibrated):
        if not has_shape(*size, of=calibrated):
            return None
        return lens.scaled(size[0] / calibrated[0], size[1] / calibrated[1])
    if not has_shape(*within, of=calibrated):
        return None
    # Whole pixels tell the scale best along the side that has no bars.
    scales = np.array(within) / calibrated
    has_bars = np.array([bool(bars.left or bars.right), bool(bars.top or bars.bottom)])
    scale = float(scales[~has_bars].mean() if not has_bars.all() else scales.mean())
    rest = 0.5 * (np.array(within) - scale * np.array(calibrated))
    return lens.scaled(scale, scale).shifted(bars.left + rest[0], bars.top + rest[1])


def _misfit(size: tuple[int, int], calibrated: tuple[float, float]) -> float:
    """How far proportions are apart."""
    return abs(float(np.log(size[0] * calibrated[1] / (size[1] * calibrated[0]))))


def _compared(verdict: Verdict, verdicts: Sequence[Verdict]) -> Verdict:
    """With a fault if another camera has the very same pose, since one of both must be wrong."""
    pose = verdict.camera.world_to_camera
    if verdict.fault or pose is None:
        return verdict
    for other in verdicts:
        other_pose = other.camera.world_to_camera
        if other is verdict or other_pose is None:
            continue
        if np.abs(pose - other_pose).max() <= _SAME_POSE * max(1.0, np.abs(pose).max()):
            return replace(verdict, fault=f"it has the very pose of {other.camera.name}")
    return verdict
