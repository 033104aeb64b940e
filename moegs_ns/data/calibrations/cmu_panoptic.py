"""CMU Panoptic: `calibration_<sequence>.json`."""

from pathlib import Path
from typing import Any

import numpy as np

from moegs_ns.data.calibrations.reading import OPENCV_SHIFT, padded, read_json, reading
from moegs_ns.data.rig_files import Rig, RigCamera, lens_from_matrix, pose_from

_CENTIMETRES = 100.0


def read_cmu_panoptic(path: Path) -> Rig:
    """The cameras of all kinds (hd, vga, kinect), by their names, as 00_05; world in metres.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such calibration.
    """
    with reading(path, "a CMU Panoptic calibration"):
        return Rig(tuple(_camera(entry) for entry in read_json(path)["cameras"]), unit="m")


def _camera(entry: dict[str, Any]) -> RigCamera:
    width, height = (int(value) for value in entry["resolution"])
    lens = lens_from_matrix(
        np.array(entry["K"], np.float64), padded(entry["distCoef"], 4), shift=OPENCV_SHIFT
    )
    pose = pose_from(entry["R"], np.array(entry["t"], np.float64) / _CENTIMETRES)
    return RigCamera(str(entry["name"]), "", width, height, lens, pose)
