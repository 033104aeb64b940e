"""Immersive Light Field Video (Broxton et al. 2020): `models.json`."""

from pathlib import Path
from typing import Any

import numpy as np

from moegs_ns.data.calibrations.reading import padded, read_json, reading, rotation_from_vector
from moegs_ns.data.frames.undistortion import Lens
from moegs_ns.data.rig_files import Rig, RigCamera


def read_immersive(path: Path) -> Rig:
    """The fisheye cameras of a scene, by their names, as camera_0001; world in metres.

    The image centre is half the size, so principal points need no shift.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such calibration.
    """
    with reading(path, "models.json of Immersive Light Field Video"):
        return Rig(tuple(map(_camera, read_json(path))), unit="m")


def _camera(entry: dict[str, Any]) -> RigCamera:
    if entry["projection_type"] != "fisheye":
        raise ValueError(
            f"{entry['name']} has the projection {entry['projection_type']}, only fisheye is known"
        )
    # r = theta (1 + k1 theta^2 + k2 theta^4), the third coefficient is 0: OpenCV's fisheye.
    focal, (cx, cy) = float(entry["focal_length"]), entry["principal_point"]
    lens = Lens(
        fx=focal,
        fy=focal * float(entry.get("pixel_aspect_ratio", 1.0)),
        cx=float(cx),
        cy=float(cy),
        model="fisheye",
        distortion=tuple(padded(entry["radial_distortion"], 4)),
    )
    rotation = rotation_from_vector(entry["orientation"])
    translation = -rotation @ np.array(entry["position"], dtype=np.float64)
    return RigCamera(
        str(entry["name"]),
        width=round(float(entry["width"])),
        height=round(float(entry["height"])),
        lens=lens,
        world_to_camera=np.concatenate([rotation, translation[:, None]], axis=1),
    )
