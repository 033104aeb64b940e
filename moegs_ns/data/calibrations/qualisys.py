"""Qualisys Track Manager: `.qca.txt`, which is XML in spite of its name."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from moegs_ns.data.calibrations.reading import OPENCV_SHIFT, reading
from moegs_ns.data.frames.undistortion import Lens
from moegs_ns.data.rig_files import Rig, RigCamera

_SUBPIXELS = 64.0
"""Focal lengths and principal points are in 64ths of a pixel; distortions are plain numbers."""
_MILLIMETRES = 1000.0
_AXES = np.diag([1.0, -1.0, -1.0])
"""The file's camera axes are x right, y up, z back."""


def read_qualisys(path: Path) -> Rig:
    """The cameras of a calibration, by their serial numbers; world in metres.

    Principal points are counted from the corner of the recorded part of the sensor.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such calibration, or a camera's image is turned.
    """
    with reading(path, "a Qualisys calibration (.qca.txt)"):
        root = ElementTree.parse(path).getroot()
        entries = root.findall("cameras/camera")
        if not entries:
            raise ValueError("it lists no cameras/camera")
        return Rig(tuple(_camera(entry) for entry in entries), unit="m")


def _camera(entry: ElementTree.Element) -> RigCamera:
    name = entry.attrib["serial"]
    turned = float(entry.get("viewrotation", "0"))
    if turned != 0.0:
        raise ValueError(f"camera {name} has the viewrotation {turned:g}, only 0 is supported")
    left, top, right, bottom = _numbers(entry, "fov_video", ("left", "top", "right", "bottom"))
    names = ("focalLengthU", "focalLengthV", "centerPointU", "centerPointV")
    fx, fy, cx, cy = (each / _SUBPIXELS for each in _numbers(entry, "intrinsic", names))
    names = ("radialDistortion1", "radialDistortion2")
    k1, k2 = _numbers(entry, "intrinsic", names)
    p1, p2 = _numbers(entry, "intrinsic", ("tangentalDistortion1", "tangentalDistortion2"))
    k3 = float(entry.find("intrinsic").get("radialDistortion3", "0"))  # pyright: ignore[reportOptionalMemberAccess]
    lens = Lens(
        fx=fx,
        fy=fy,
        cx=cx - left + OPENCV_SHIFT,
        cy=cy - top + OPENCV_SHIFT,
        distortion=(k1, k2, p1, p2, k3),
    )
    centre = np.array(_numbers(entry, "transform", ("x", "y", "z"))) / _MILLIMETRES
    cells = [f"r{row}{column}" for row in (1, 2, 3) for column in (1, 2, 3)]
    rotation = _AXES @ np.array(_numbers(entry, "transform", cells)).reshape(3, 3)
    return RigCamera(
        name,
        width=round(right - left) + 1,
        height=round(bottom - top) + 1,
        lens=lens,
        world_to_camera=np.concatenate([rotation, -(rotation @ centre)[:, None]], axis=1),
    )


def _numbers(
    entry: ElementTree.Element, tag: str, names: tuple[str, ...] | list[str]
) -> list[float]:
    found = entry.find(tag)
    if found is None:
        raise ValueError(f"camera {entry.get('serial')} has no {tag}")
    return [float(found.attrib[name]) for name in names]
