"""`timed-transforms-data`: transforms.json of several fixed cameras, with the time of each image.

nerfstudio-data reads the same files without times, dnerf-data without intrinsics.
Imports neither datamanagers nor models, see `multiview`.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from moegs_ns.cameras import viewmats_from_opengl
from moegs_ns.data.calibration import check_rotations
from moegs_ns.data.dataparsers.fixed_rig import (
    FixedCamera,
    FixedRigParser,
    FixedRigParserConfig,
    RigImages,
)
from moegs_ns.data.dataparsers.recordings import padded_name
from moegs_ns.data.frames.images import IMAGE_SUFFIXES, read_image_size
from moegs_ns.data.lens_formats import transforms_lens

_DIGITS = 5
"""Poses and intrinsics that agree to so many digits are those of one camera."""
_UNEVEN = 0.05
"""Part of a frame by which times may miss the clock."""


@dataclass
class TimedTransformsDataParserConfig(FixedRigParserConfig):
    """transforms_train.json and transforms_test.json, or one transforms.json, of fixed cameras:
    lenses globally or per image (fl_x, fl_y, cx, cy, w, h, k1, ... or camera_angle_x), and
    `frame_index` or `time` of each image. Images of one camera share `camera_label`, `camera_id`,
    or pose and lens."""

    _target: type = field(default_factory=lambda: TimedTransformsDataParser)
    """Target class to instantiate."""
    data: Path = Path("data/timed_transforms")
    """Folder of the scene."""
    time_unit: float | None = None
    """Seconds of a time of 1: 1 if times are seconds, the length of the clip if they go from 0 to
    1. By default the smallest step between two times is one frame."""


@dataclass(frozen=True, eq=False)
class _Entry:
    """One image of a file."""

    path: Path
    label: str
    camera: FixedCamera
    time: float
    is_index: bool
    """Whether the time is the number of the frame."""
    is_test: bool


class TimedTransformsDataParser(FixedRigParser):
    """Fixed cameras; the world is that of the files."""

    config: TimedTransformsDataParserConfig
    point_files = ("points3D.npz", "points3D.ply", "points3d.ply")

    def rig(self, data: Path) -> RigImages:
        entries = _read_entries(data)
        frames = _frame_numbers(entries, self.config.time_unit, self.config.fps)
        names = sorted({entry.label for entry in entries}, key=padded_name)
        places = {name: place for place, name in enumerate(names)}
        cameras = {entry.label: entry.camera for entry in reversed(entries)}
        images: dict[tuple[int, int], Path] = {}
        for entry, frame in zip(entries, frames, strict=True):
            key = places[entry.label], frame
            if images.setdefault(key, entry.path) != entry.path:
                raise ValueError(
                    f"Expected one image of each camera and frame in {data}, but {images[key]} and "
                    f"{entry.path} are of one camera and time; correct the times."
                )
        test, train = (
            {entry.label for entry in entries if entry.is_test is is_test}
            for is_test in (True, False)
        )
        if test & train and self.config.held_out_cameras is None:
            raise ValueError(
                f"Expected other cameras in transforms_test.json of {data} than in "
                f"transforms_train.json, but {min(test & train)} is in both; name cameras to hold "
                "out with --held-out-cameras after the parser's name."
            )
        held_out = tuple(places[name] for name in names if name in test) or (0,)
        rig = [cameras[name] for name in names]
        return RigImages(rig, images, max(frames) + 1, held_out)


def _read_entries(data: Path) -> list[_Entry]:
    """All images of a scene.

    Raises:
        FileNotFoundError: there is no file of transforms.
        ValueError: a file is broken or says too little.
    """
    names = ("transforms_train.json", "transforms_test.json")
    if not (data / names[0]).is_file():
        names = ("transforms.json",)
    found: list[_Entry] = []
    described: list[dict[str, Any]] = []
    for path in (data / name for name in names if (data / name).is_file()):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            common = {key: value for key, value in content.items() if key != "frames"}
            frames = [cast(dict[str, Any], {**common, **frame}) for frame in content["frames"]]
            entries = [_entry(frame, data, "test" in path.name) for frame in frames]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"Expected frames with file_path, transform_matrix, a lens (fl_x or "
                f"camera_angle_x) and time or frame_index in {path}, but they cannot be read "
                f"({type(error).__name__}: {error}); write them again."
            ) from error
        found += entries
        described += frames
    if not found:
        raise FileNotFoundError(
            f"Expected images in transforms_train.json or transforms.json in {data}, but there are "
            "none; set --data to the scene folder."
        )
    if len({entry.is_index for entry in found}) > 1:
        raise ValueError(
            f"Expected frame_index in all images of {data} or in none, got it in some; complete it."
        )
    check_rotations(
        np.stack([entry.camera.viewmat[:3, :3] for entry in found]),
        [str(entry.path) for entry in found],
    )
    return _labelled(found, described)


def _entry(frame: dict[str, Any], data: Path, is_test: bool) -> _Entry:
    path = data / str(frame["file_path"])
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        path = path.with_name(path.name + ".png")
    if "w" not in frame or "h" not in frame:
        width, height, _ = read_image_size(path)
        frame = {**frame, "w": width, "h": height}
    width, height = round(float(frame["w"])), round(float(frame["h"]))
    pose = np.array(frame["transform_matrix"], dtype=np.float64)
    if pose.shape not in ((3, 4), (4, 4)) or not np.isfinite(pose).all():
        raise ValueError(f"the transform_matrix of {frame['file_path']}")
    is_index = "frame_index" in frame
    time = int(frame["frame_index"]) if is_index else float(frame["time"])
    viewmat = viewmats_from_opengl(pose[None, :3])[0]
    camera = FixedCamera("", transforms_lens(frame, width, height), viewmat, width, height)
    return _Entry(path, "", camera, time, is_index, is_test)


def _labelled(entries: list[_Entry], frames: list[dict[str, Any]]) -> list[_Entry]:
    """With the label of each image's camera; without labels, images of one pose and lens are those
    of one camera."""
    key = next((k for k in ("camera_label", "camera_id") if all(k in f for f in frames)), None)
    if key is None:
        numbers = np.array(
            [
                [
                    *e.camera.viewmat[:3].ravel(),
                    e.camera.lens.fx,
                    e.camera.lens.cx,
                    e.camera.lens.cy,
                ]
                for e in entries
            ]
        )
        scale = np.maximum(np.abs(numbers).max(0), 1.0)
        # Adding zero makes -0.0 the same as 0.0.
        rounded = np.round(numbers / scale, _DIGITS) + 0.0
        known: dict[tuple[float, ...], str] = {}
        labels = [known.setdefault(tuple(row), f"camera {len(known)}") for row in rounded.tolist()]
    else:
        labels = [str(frame[key]) for frame in frames]
    found = [
        replace(entry, label=label, camera=replace(entry.camera, name=label))
        for entry, label in zip(entries, labels, strict=True)
    ]
    _check_still(found)
    return found


def _check_still(entries: list[_Entry]) -> None:
    first: dict[str, _Entry] = {}
    for entry in entries:
        known = first.setdefault(entry.label, entry)
        change = np.abs(known.camera.viewmat - entry.camera.viewmat).max()
        if change > 1e-4 * max(1.0, np.abs(known.camera.viewmat).max()):
            raise ValueError(
                f"Expected cameras that stand still, but {entry.label} has one pose in "
                f"{known.path} and another in {entry.path}; for a moving camera use dnerf-data or "
                "hypernerf-data."
            )
        if known.camera.lens != entry.camera.lens:
            raise ValueError(
                f"Expected one lens of each camera, but {entry.label} has another in {known.path} "
                f"than in {entry.path}; calibrate it once."
            )


def _frame_numbers(entries: list[_Entry], time_unit: float | None, fps: float) -> list[int]:
    """The frame of each image, from its index or its time."""
    values = np.array([entry.time for entry in entries], dtype=np.float64)
    if not np.isfinite(values).all() or values.min() < 0.0:
        raise ValueError(
            f"Expected times of at least 0 of all images, got {values.min():g}; correct them."
        )
    if entries[0].is_index:
        return values.astype(int).tolist()
    known = np.unique(values)
    if time_unit is not None:
        places = values * time_unit * fps
    elif len(known) == 1:
        return [0] * len(entries)
    else:
        # Times are rounded, so one step is too inexact to count hundreds of them: take the mean of
        # all that are no gaps.
        span, steps = known[-1] - known[0], np.diff(known)
        count = np.rint(span / steps[steps < 1.5 * np.median(steps)].mean())
        places = (values - known[0]) * count / span
        places += np.rint(known[0] * count / span)
    frames = np.rint(places).astype(int)
    worst = int(np.abs(places - frames).argmax())
    if abs(places[worst] - frames[worst]) > _UNEVEN:
        raise ValueError(
            f"Expected times that are whole frames, but {values[worst]:g} of "
            f"{entries[worst].path} is frame {places[worst]:.2f}; give the seconds of a time of 1 "
            "with --time-unit and the rate with --fps after the parser's name."
        )
    return frames.tolist()


timed_transforms_dataparser = DataParserSpecification(
    config=TimedTransformsDataParserConfig(),
    description="transforms.json of several fixed cameras with the time of each image.",
)
