"""NeuralBody's `annots.npy` of ZJU-MoCap: cameras, and the images of every frame.

Facts: zju3dv/neuralbody, lib/datasets/light_stage/multi_view_dataset.py.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float

from moegs_ns.data.calibrations.reading import OPENCV_SHIFT, padded, reading
from moegs_ns.data.pickled_arrays import PickledArray, read_pickled_array
from moegs_ns.data.rig_files import Rig, RigCamera, lens_from_matrix, pose_from

ANNOTATIONS = "annots.npy"
_MILLIMETRES = 1000.0
_LONGEST = 16
"""Numbers in a list that stands for a matrix, or a row of one."""


@dataclass(frozen=True, eq=False)
class Annotations:
    """Cameras of a capture, and what they recorded."""

    rig: Rig
    """Named by the folders of their images; metres."""
    images: list[list[PurePosixPath]]
    """Of every frame the image of every camera, relative to the folder of the capture."""


def read_neuralbody(path: Path) -> Rig:
    """The cameras of an `annots.npy`; see `read_annotations` for errors."""
    return read_annotations(path).rig


def read_annotations(path: Path) -> Annotations:
    """What an `annots.npy` holds. It is a pickle, of which nothing is executed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, holds something else, or names what is no part of an array.
    """
    with reading(path, "NeuralBody's cams and ims"):
        contents = read_pickled_array(path)
        content = contents[0] if len(contents) == 1 else None
        if not isinstance(content, dict):
            raise ValueError("it holds no dictionary")
        cameras = content["cams"]
        matrices = [_listed(cameras[key]) for key in "KDRT"]
        counts = sorted({len(each) for each in matrices})
        if len(counts) != 1 or counts == [0]:
            raise ValueError(f"lists K, D, R and T of {counts} cameras")
        images = [_images(row, counts[0]) for row in _listed(content["ims"])]
        if not images:
            raise ValueError("it lists no frames")
        folders = [name.parent.name for name in images[0]]
        found = [
            _camera(name, *(_numbers(each) for each in rows))
            for name, *rows in zip(folders, *matrices, strict=True)
        ]
        return Annotations(Rig(tuple(found), unit="m"), images)


def _camera(name: str, K: Any, D: Any, R: Any, T: Any) -> RigCamera:
    lens = lens_from_matrix(K.reshape(3, 3), padded(D, 4), shift=OPENCV_SHIFT)
    return RigCamera(name, lens=lens, world_to_camera=pose_from(R, T / _MILLIMETRES))


def _images(entry: Any, count: int) -> list[PurePosixPath]:
    names = _listed(entry["ims"])
    if len(names) != count:
        raise ValueError(f"{len(names)} images of {count} cameras in one frame")
    paths = [PurePosixPath(str(name)) for name in names]
    for path in paths:
        if path.is_absolute() or ".." in path.parts or not path.name:
            raise ValueError(f"the image {path}, which is outside of the capture")
    return paths


def _listed(values: Any) -> list[Any]:
    """A list, which may be stored as an array."""
    if isinstance(values, PickledArray):
        return list(values.values)
    if not isinstance(values, list | tuple):
        raise ValueError(f"{type(values).__name__} instead of a list")
    return list(values)


def _numbers(values: Any, depth: int = 2) -> Float[np.ndarray, "..."]:
    """An array of numbers, which may be stored as lists of rows."""
    if isinstance(values, PickledArray):
        values = values.values
    if isinstance(values, list | tuple):
        if depth == 0 or len(values) > _LONGEST:
            raise ValueError("a list that is no matrix")
        values = [_numbers(each, depth - 1) for each in values]
    array = np.asarray(values, dtype=np.float64)
    if array.size > _LONGEST or not np.isfinite(array).all():
        raise ValueError("a matrix with too many numbers, or with NaN or infinity")
    return array
