"""ZJU-MoCap in the form of NeuralBody's release: annots.npy, images, masks."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from layouts import KnownCamera, known_camera
from PIL import Image

DISTORTION = (0.2, 0.05, 0.003, -0.002, 0.01)
NUM_CAMERAS = 19
"""The fewest that have NeuralBody's training cameras."""
SIZE = 128


def zju_cameras(count: int = NUM_CAMERAS) -> list[KnownCamera]:
    """Square images, principal points off-centre, and lenses that distort: those of even numbers
    see more than is kept, others leave pixels of undistorted images empty."""
    k1, k2, p1, p2, k3 = DISTORTION
    return [
        known_camera(
            number,
            width=SIZE,
            height=SIZE,
            shift=(3.0 - 0.2 * number, 0.3 * number - 2.0),
            distortion=(k1 if number % 2 else -k1, k2, p1, p2, k3),
        )
        for number in range(count)
    ]


def image_name(camera: int, frame: int, *, is_313: bool = False) -> str:
    """As of most captures, or as of CoreView_313 and 315."""
    if is_313:
        inside = f"Camera ({camera + 1})"
        return (
            f"{inside}/CoreView_313_Camera_({camera + 1})_{frame + 1:04d}_2019-08-23_16-08-50.jpg"
        )
    return f"Camera_B{camera + 1}/{frame:06d}.jpg"


def annotations(
    cameras: list[KnownCamera], num_frames: int, *, is_313: bool = False
) -> dict[str, Any]:
    """Pixels are counted from the centre of the first one, lengths are in millimetres."""
    shift = np.array([[0.0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    return {
        "cams": {
            "K": [camera.K - shift for camera in cameras],
            "D": [np.array(camera.distortion)[:, None] for camera in cameras],
            "R": [camera.R for camera in cameras],
            "T": [1000.0 * camera.t[:, None] for camera in cameras],
        },
        "ims": [
            {
                "ims": [image_name(n, frame, is_313=is_313) for n in range(len(cameras))],
                "kpts2d": np.zeros((len(cameras), 25, 3), np.float32),
            }
            for frame in range(num_frames)
        ],
    }


def write_annotations(path: Path, content: Any, protocol: int = 4) -> None:
    """As numpy.save writes an object, whose protocol hangs on numpy's version."""
    array = np.empty((), dtype=object)
    array[()] = content
    with path.open("wb") as file:
        header = {"descr": "|O", "fortran_order": False, "shape": ()}
        np.lib.format.write_array_header_1_0(file, header)
        pickle.dump(array, file, protocol=protocol)


def zju_scene(
    folder: Path, num_frames: int = 2, *, is_313: bool = False, masks: str = "mask_cihp"
) -> Path:
    """Masks keep all but the last eight columns; values are those of parts of a body."""
    cameras = zju_cameras()
    mask = np.full((SIZE, SIZE), 13, np.uint8)
    mask[:, -8:] = 0
    for number, camera in enumerate(cameras):
        for frame in range(num_frames):
            name = Path(image_name(number, frame, is_313=is_313))
            for file, image in (
                (folder / name, camera.image(frame)),
                ((folder / masks / name).with_suffix(".png"), Image.fromarray(mask)),
            ):
                file.parent.mkdir(parents=True, exist_ok=True)
                image.save(file, quality=98)
    write_annotations(folder / "annots.npy", annotations(cameras, num_frames, is_313=is_313))
    return folder
