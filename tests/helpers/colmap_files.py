"""COLMAP models as files, without COLMAP."""

import struct
from pathlib import Path

import numpy as np
from layouts import KnownCamera, dots
from scipy.spatial.transform import Rotation

MODEL_IDS = {"SIMPLE_PINHOLE": 0, "PINHOLE": 1, "SIMPLE_RADIAL": 2, "OPENCV": 4}


def parameters(camera: KnownCamera, model: str) -> list[float]:
    """A camera's numbers in the order of one of COLMAP's models."""
    k1, k2, p1, p2, _ = camera.distortion
    middle = [camera.cx, camera.cy]
    return {
        "SIMPLE_PINHOLE": [camera.fx, *middle],
        "PINHOLE": [camera.fx, camera.fy, *middle],
        "SIMPLE_RADIAL": [camera.fx, *middle, k1],
        "OPENCV": [camera.fx, camera.fy, *middle, k1, k2, p1, p2],
    }[model]


def write_model(
    folder: Path, cameras: dict[str, KnownCamera], model: str = "PINHOLE", *, text: bool = False
) -> None:
    """A model with one image of each camera, by its name, and the dots of frame 0 as points."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (name, camera) in enumerate(cameras.items(), start=1):
        x, y, z, w = Rotation.from_matrix(camera.R).as_quat()
        rows.append((number, camera, [w, x, y, z, *camera.t], name))
    if text:
        _write_text(folder, rows, model)
        return
    with (folder / "cameras.bin").open("wb") as file:
        file.write(struct.pack("<Q", len(rows)))
        for number, camera, _, _ in rows:
            file.write(struct.pack("<iiQQ", number, MODEL_IDS[model], camera.width, camera.height))
            numbers = parameters(camera, model)
            file.write(struct.pack(f"<{len(numbers)}d", *numbers))
    with (folder / "images.bin").open("wb") as file:
        file.write(struct.pack("<Q", len(rows)))
        for number, _, pose, name in rows:
            file.write(struct.pack("<i7di", number, *pose, number))
            file.write(name.encode() + b"\x00" + struct.pack("<Q", 0))
    with (folder / "points3D.bin").open("wb") as file:
        points = dots(0)
        file.write(struct.pack("<Q", len(points)))
        for number, point in enumerate(points):
            file.write(struct.pack("<Q3d3BdQ", number, *point, 200, 100, 50, 0.1, 0))


def _write_text(folder: Path, rows: list, model: str) -> None:
    lines = ["# Camera list with one line of data per camera:"]
    for number, camera, _, _ in rows:
        numbers = " ".join(f"{value:.12g}" for value in parameters(camera, model))
        lines.append(f"{number} {model} {camera.width} {camera.height} {numbers}")
    (folder / "cameras.txt").write_text("\n".join(lines) + "\n")
    lines = ["# Image list with two lines of data per image:"]
    for number, _, pose, name in rows:
        lines += [f"{number} {' '.join(f'{np.float64(v):.15g}' for v in pose)} {number} {name}", ""]
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
