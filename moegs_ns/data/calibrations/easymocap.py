"""EasyMocap and EasyVolcap: `intri.yml` and `extri.yml`, written by OpenCV's FileStorage."""

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float

from moegs_ns.data.calibrations.reading import OPENCV_SHIFT, padded, reading, rotation_from_vector
from moegs_ns.data.rig_files import Rig, RigCamera, lens_from_matrix, pose_from

INTRINSICS, EXTRINSICS = "intri.yml", "extri.yml"


def read_easymocap(path: Path) -> Rig:
    """The cameras of two files in one folder, given the folder or one of the files.

    Names are those of the matrices (`K_01`): the list `names` loses the zeros of unquoted ones. The
    world is the files' own.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is no such calibration.
    """
    folder = path if path.is_dir() else path.parent
    intrinsics, extrinsics = folder / INTRINSICS, folder / EXTRINSICS
    for file in (intrinsics, extrinsics):
        if not file.is_file():
            raise FileNotFoundError(
                f"Expected {INTRINSICS} and {EXTRINSICS} in {folder}, but {file.name} is missing; "
                "export both, or set --from to their folder."
            )
    with reading(intrinsics, "an EasyMocap calibration"):
        lenses = _open(intrinsics)
    with reading(extrinsics, "an EasyMocap calibration"):
        poses = _open(extrinsics)
    with reading(folder, f"{INTRINSICS} and {EXTRINSICS} of EasyMocap"):
        keys = lenses.root().keys()
        names = [key[2:] for key in keys if key.startswith("K_")]
        if not names:
            raise ValueError(f"{INTRINSICS} has no matrix K_...")
        return Rig(tuple(_camera(name, lenses, poses) for name in names))


def _open(path: Path) -> cv2.FileStorage:
    try:
        storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_READ)
    except SystemError as error:
        # OpenCV's constructor returns and raises at once.
        raise ValueError("it is no YAML of OpenCV, or cut off") from error
    if not storage.isOpened():
        raise ValueError("it is no YAML of OpenCV")
    return storage


def _camera(name: str, lenses: cv2.FileStorage, poses: cv2.FileStorage) -> RigCamera:
    K, distortion = _matrix(lenses, f"K_{name}"), None
    for key in (f"dist_{name}", f"D_{name}"):
        distortion = _matrix(lenses, key) if distortion is None else distortion
    rotation = _matrix(poses, f"Rot_{name}")
    if rotation is None:
        vector = _matrix(poses, f"R_{name}")
        rotation = None if vector is None else rotation_from_vector(vector)
    translation = _matrix(poses, f"T_{name}")
    if K is None or rotation is None or translation is None:
        raise ValueError(f"camera {name} lacks K, R and Rot, or T")
    return RigCamera(
        name,
        width=_size(lenses, f"W_{name}"),
        height=_size(lenses, f"H_{name}"),
        lens=lens_from_matrix(
            K, () if distortion is None else padded(distortion, 4), shift=OPENCV_SHIFT
        ),
        world_to_camera=pose_from(rotation, translation),
    )


def _matrix(storage: cv2.FileStorage, key: str) -> Float[np.ndarray, "..."] | None:
    node = storage.getNode(key)
    matrix = None if node.empty() else node.mat()
    return None if matrix is None else np.asarray(matrix, dtype=np.float64)


def _size(storage: cv2.FileStorage, key: str) -> int | None:
    node = storage.getNode(key)
    return None if node.empty() else round(node.real())
