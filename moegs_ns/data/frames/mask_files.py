"""Files of which pixels count: of lenses that were undistorted, and of masks that data bring."""

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from moegs_ns.atomic_files import atomic_write
from moegs_ns.data.frames.folders import FRAMES_FOLDER, writable_folder
from moegs_ns.data.frames.images import decode_mask, missing_file
from moegs_ns.data.frames.undistortion import Undistorter, Undistortion, only_whole

_FORMAT = 1
"""Raised whenever the same description would give another mask."""


@dataclass(frozen=True)
class ImageMask:
    """A mask that a data set brings, of the size of its image."""

    path: Path
    image_size: tuple[int, int]
    """Width and height."""
    is_inverted: bool = False
    """Whether pixels above 0 are those that do not count."""
    undistortion: Undistortion | None = None
    """Of the image, or None."""

    def counting(
        self, size: tuple[int, int], undistort: Undistorter | None
    ) -> UInt8[np.ndarray, "H W"]:
        """255 where a pixel of the image counts after it is undistorted and resized, else 0.

        Raises:
            FileNotFoundError: there is no such mask.
            ValueError: it is none, or has another size.
        """
        counts = decode_mask(self.path, self.image_size) != self.is_inverted
        mask = np.where(counts, np.uint8(255), np.uint8(0))
        return only_whole(mask if undistort is None else undistort(mask), size)


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
    # Thousands of images may share a few lenses.
    paths = {
        each: _stored([_FORMAT, asdict(each), size], data, lambda each=each: each.mask(size))
        for each in dict.fromkeys(undistortions)
    }
    masks = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths.values()]
    if all(mask.min() == 255 for mask in masks):
        return None
    return [paths[each] for each in undistortions]


def image_mask_files(masks: list[ImageMask], size: tuple[int, int], data: Path) -> list[Path]:
    """One file (.png, 255 where a pixel counts, else 0) for each of these masks, whose images are
    undistorted and then have this width and height; see `mask_files`.

    Raises:
        FileNotFoundError: a mask is missing.
        OSError: a file cannot be written.
        ValueError: a mask is none, or has another size than its image.
    """
    lenses = {mask.undistortion for mask in masks if mask.undistortion is not None}
    undistorters = {lens: Undistorter(lens) for lens in lenses}

    def stored(mask: ImageMask) -> Path:
        if not mask.path.is_file():
            raise missing_file(mask.path, "a mask")
        status, lens = mask.path.stat(), mask.undistortion
        inside = mask.path.relative_to(data) if mask.path.is_relative_to(data) else mask.path
        described = [inside.as_posix(), status.st_size, status.st_mtime_ns, mask.is_inverted]
        described += [None if lens is None else asdict(lens), size]
        undistort = None if lens is None else undistorters[lens]
        return _stored([_FORMAT, *described], data, lambda: mask.counting(size, undistort))

    with ThreadPoolExecutor() as pool:
        return list(pool.map(stored, masks))


def _stored(
    description: list[Any], data: Path, make: Callable[[], UInt8[np.ndarray, "H W"]]
) -> Path:
    """The file of a mask, which is made if it is not there."""
    name = f"{hashlib.sha256(json.dumps(description).encode()).hexdigest()[:16]}.png"
    # A mask that came with read-only data is used where it is.
    path = data / FRAMES_FOLDER / "masks" / name
    if not path.is_file():
        path = writable_folder(data) / "masks" / name
    if not path.is_file():
        _, png = cv2.imencode(".png", make())
        with atomic_write(path, "mask", "make the scene folder writable") as file:
            file.write(np.asarray(png).tobytes())
    return path
