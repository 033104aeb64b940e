"""anipose, aniposelib, sleap-anipose: TOML with one table for each camera."""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from moegs_ns.data.calibrations.reading import OPENCV_SHIFT, padded, reading, rotation_from_vector
from moegs_ns.data.rig_files import Rig, RigCamera, lens_from_matrix, pose_from

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_anipose(path: Path) -> Rig:
    """The cameras of a calibration, by their names; world and unit are the file's own.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such calibration.
    """
    with reading(path, "an anipose calibration (.toml)"):
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        tables = [each for each in content.values() if isinstance(each, dict) and "matrix" in each]
        if not tables:
            raise ValueError("it has no table with a matrix")
        return Rig(tuple(map(_camera, tables)))


def _camera(table: dict[str, Any]) -> RigCamera:
    is_fisheye = bool(table.get("fisheye", False))
    width, height = (int(value) for value in table["size"])
    lens = lens_from_matrix(
        np.array(table["matrix"], dtype=np.float64),
        padded(table["distortions"], 4),
        model="fisheye" if is_fisheye else "opencv",
        shift=OPENCV_SHIFT,
    )
    pose = pose_from(rotation_from_vector(table["rotation"]), table["translation"])
    return RigCamera(str(table["name"]), "", width, height, lens, pose)
