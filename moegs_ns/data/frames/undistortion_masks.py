"""Files of valid pixels, for images that were undistorted."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

from moegs_ns.atomic_files import atomic_write
from moegs_ns.data.frames.folders import FRAMES_FOLDER, writable_folder
from moegs_ns.data.frames.undistortion import Undistortion

_FORMAT = 1
"""Raised whenever the same undistortion would give another mask."""


def mask_files(
    undistortions: list[Undistortion], size: tuple[int, int], data: Path
) -> list[Path] | None:
    """One file (.png, 255 where a pixel is valid, else 0) for each of these cameras, whose images
    have this width and height; None if all pixels of all are valid.

    Files lie beside the decoded frames of the scene folder `data`; those that exist are used.

    Raises:
        OSError: a file cannot be written.
    """
    if all(undistortion.if_needed is None for undistortion in undistortions):
        return None
    paths = [_mask_file(undistortion, size, data) for undistortion in undistortions]
    masks = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in dict.fromkeys(paths)]
    return None if all(mask.min() == 255 for mask in masks) else paths


def _mask_file(undistortion: Undistortion, size: tuple[int, int], data: Path) -> Path:
    description = json.dumps([_FORMAT, asdict(undistortion), size])
    name = f"{hashlib.sha256(description.encode()).hexdigest()[:16]}.png"
    # A mask that came with read-only data is used where it is.
    path = data / FRAMES_FOLDER / "masks" / name
    if not path.is_file():
        path = writable_folder(data) / "masks" / name
    if not path.is_file():
        _, png = cv2.imencode(".png", undistortion.mask(size))
        with atomic_write(path, "mask", "make the scene folder writable") as file:
            file.write(np.asarray(png).tobytes())
    return path
