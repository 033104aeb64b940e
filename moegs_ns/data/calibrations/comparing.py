"""How far a calibration is from a better one, in the world and the unit of the better one."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float

from moegs_ns.data.rig_files import Rig, RigCamera


@dataclass(frozen=True, eq=False)
class Similarity:
    """A map x -> scale R x + t from one world to another."""

    scale: float
    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, "3"]

    def moved(self, camera: RigCamera) -> Float[np.ndarray, "3 4"]:
        """World to camera of a calibrated camera in the other world; depths there are `scale` times
        as large."""
        assert camera.world_to_camera is not None, camera.name
        rotation = camera.world_to_camera[:, :3] @ self.rotation.T
        position = self.scale * self.rotation @ camera.position + self.translation
        return np.concatenate([rotation, -(rotation @ position)[:, None]], axis=1)


@dataclass(frozen=True, eq=False)
class Differences:
    """Of the C cameras that both calibrations have, in the order of `names`."""

    names: tuple[str, ...]
    centers: Float[np.ndarray, "C"]
    """Distances between the centres, in units of the reference's world."""
    degrees: Float[np.ndarray, "C"]
    """Angles between the orientations."""
    focals: Float[np.ndarray, "C"]
    """|f / f_reference - 1|, of the mean focal lengths."""


def similarity_between(found: Rig, reference: Rig) -> Similarity:
    """The map from the world of `found` that brings the centres of its cameras nearest to those of
    the cameras of the same names in `reference` (Umeyama 1991).

    Raises:
        ValueError: both share fewer than 3 calibrated cameras.
    """
    pairs = _pairs(found, reference)
    if len(pairs) < 3:
        raise ValueError(
            f"Expected at least 3 cameras that both calibrations have, got {len(pairs)}; compare "
            "calibrations of one rig."
        )
    source = np.array([camera.position for camera, _ in pairs])
    target = np.array([camera.position for _, camera in pairs])
    affine, scale = cv2.estimateAffine3D(source, target, force_rotation=True)
    return Similarity(float(scale), affine[:, :3], affine[:, 3])


def differences(found: Rig, reference: Rig) -> Differences:
    """What is left between two calibrations once one is moved onto the other.

    Raises:
        ValueError: both share fewer than 3 calibrated cameras.
    """
    similarity, pairs = similarity_between(found, reference), _pairs(found, reference)
    moved = [similarity.moved(one) for one, _ in pairs]
    centers = [
        -pose[:, :3].T @ pose[:, 3] - two.position
        for pose, (_, two) in zip(moved, pairs, strict=True)
    ]
    return Differences(
        names=tuple(one.name for one, _ in pairs),
        centers=np.linalg.norm(centers, axis=1),
        degrees=np.array([_degrees(m, two) for m, (_, two) in zip(moved, pairs, strict=True)]),
        focals=np.array([abs(_focal(one) / _focal(two) - 1.0) for one, two in pairs]),
    )


def _pairs(found: Rig, reference: Rig) -> list[tuple[RigCamera, RigCamera]]:
    known = {camera.name: camera for camera in reference.cameras if camera.is_calibrated}
    return [(c, known[c.name]) for c in found.cameras if c.is_calibrated and c.name in known]


def _degrees(pose: Float[np.ndarray, "3 4"], camera: RigCamera) -> float:
    assert camera.world_to_camera is not None, camera.name
    turn = pose[:, :3] @ camera.world_to_camera[:, :3].T
    return float(np.rad2deg(np.linalg.norm(cv2.Rodrigues(turn)[0])))


def _focal(camera: RigCamera) -> float:
    assert camera.lens is not None, camera.name
    return 0.5 * (camera.lens.fx + camera.lens.fy)
