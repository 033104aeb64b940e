"""One check of the cameras of every scene, whichever parser read them."""

import os
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs

from moegs_ns.data.points.initial import Frustums

_SKEWED = 1e-2
"""Largest error of the products of a rotation's columns; poses may be rounded to three digits."""
_ONE_PLACE = 1e-7
"""Distance between cameras, as a fraction of that from the origin, that single precision loses."""
_COARSEST = 1e-4
"""Largest step of single precision where the cameras stand, as a fraction of the scene's extent."""
_FEW = 0.05
"""Fraction of the initial points below which hardly any can be seen."""
_MOST_POINTS = 10_000
"""Points that are looked at for this."""


def check_scene(outputs: DataparserOutputs, data: Path, *, is_training: bool) -> None:
    """Raise unless cameras like these can have taken the images in the scene folder `data`.

    `is_training` says that these are all images of the training split, whose cameras must stand at
    more than one place.

    Raises:
        ValueError: some number is impossible, or an image lies outside of the scene folder.
    """
    names = [str(path) for path in outputs.image_filenames]
    if "frame_sources" in outputs.metadata:
        names = [str(source.path) for source in outputs.metadata["frame_sources"]]
    if not names:
        return
    _check_inside([*names, *map(str, outputs.mask_filenames or ())], data)
    cameras, count = outputs.cameras, len(names)
    poses = cameras.camera_to_worlds.double().numpy()
    focals = np.stack([cameras.fx.numpy(), cameras.fy.numpy()]).reshape(2, count)
    centers = np.stack([cameras.cx.numpy(), cameras.cy.numpy()]).reshape(2, count)
    times = np.zeros(count) if cameras.times is None else cameras.times.numpy().reshape(-1)
    numbers = np.concatenate([poses.reshape(count, -1).T, focals, centers, times[None]])
    _require(np.isfinite(numbers).all(0), names, "finite numbers", "NaN or infinity")
    check_rotations(poses[:, :, :3], names)
    _require((focals > 0.0).all(0), names, "a focal length above 0", "another one")
    sizes = np.stack([cameras.width.numpy(), cameras.height.numpy()]).reshape(2, count)
    _require((sizes > 0).all(0), names, "a width and height above 0", "others")
    if is_training:
        _check_places(poses[:, :, 3], outputs)
        _check_resolution(poses[:, :, 3], outputs)


def check_rotations(rotations: Float[np.ndarray, "M 3 3"], names: list[str]) -> None:
    """Raise a ValueError that names the camera's image unless all matrices are rotations."""
    products = np.einsum("mij,mik->mjk", rotations, rotations)
    is_orthonormal = np.abs(products - np.eye(3)).max((1, 2)) <= _SKEWED
    _require(is_orthonormal, names, "a rotation", "a matrix whose axes are skewed or scaled")
    is_mirrored = np.linalg.det(rotations) < 0.0
    _require(~is_mirrored, names, "a rotation", "a mirrored one (its determinant is -1)")


def view_warning(frustums: Frustums, xyz: Float[np.ndarray, "N 3"]) -> str:
    """One sentence if the cameras see hardly any of the initial points, else ""."""
    if not len(xyz):
        return ""
    chosen = xyz[np.linspace(0, len(xyz) - 1, min(len(xyz), _MOST_POINTS)).astype(int)]
    frustums = frustums.distinct()
    any_depth = np.tile(np.array([0.0, np.inf]), (len(frustums.Ks), 1))
    fraction = float(frustums.see(chosen.astype(np.float64), any_depth).any(0).mean())
    if fraction >= _FEW:
        return ""
    return (
        f"Warning: {100.0 * fraction:.3g} % of the initial points are in view of any training "
        "camera; check that points and poses belong to one world, or remove the file of points."
    )


def _require(is_good: Bool[np.ndarray, "M"], names: list[str], expected: str, got: str) -> None:
    if not is_good.all():
        first = int(np.argmin(is_good))
        others = len(set(np.array(names)[~is_good])) - 1
        more = f" (and {others} more)" if others else ""
        raise ValueError(
            f"Expected {expected} for the camera of every image, but that of {names[first]}{more} "
            f"has {got}; calibrate it again."
        )


def _check_places(positions: Float[np.ndarray, "M 3"], outputs: DataparserOutputs) -> None:
    # A parser that gives no cameras reads those of one that moves, one for each image.
    ids = outputs.metadata.get("camera_ids", range(len(positions)))
    count = len(set(ids))
    spread = np.ptp(positions, axis=0).max()
    if count > 1 and spread <= _ONE_PLACE * np.abs(positions).max():
        place = ", ".join(f"{value:g}" for value in positions[0])
        raise ValueError(
            f"Expected cameras at different places, but all {count} stand at ({place}), from where "
            "no depth can be told; calibrate them again, or, if only single precision has made "
            "them equal, move the origin of the world to them."
        )


def _check_resolution(positions: Float[np.ndarray, "M 3"], outputs: DataparserOutputs) -> None:
    """Raise if the cameras stand so far from the origin that single precision, in which parsers
    hand poses on and everything is trained, loses what tells them apart."""
    center = positions.mean(0)
    extent = float(np.linalg.norm(positions - center, axis=1).max())
    _require_fine(center, extent)
    # Some parsers move the origin to the cameras, but only after they have rounded the poses.
    transform = outputs.dataparser_transform.double().numpy()
    origin = -transform[:, :3].T @ transform[:, 3]
    _require_fine(origin, extent / (outputs.dataparser_scale or 1.0))


def _require_fine(center: Float[np.ndarray, "3"], extent: float) -> None:
    distance = float(np.abs(center).max())
    step = float(np.spacing(np.float32(distance)))
    if 0.0 < extent * _COARSEST < step:
        place = ", ".join(f"{value:.0f}" for value in center)
        raise ValueError(
            f"Expected a world with its origin near the cameras, but they stand around ({place}), "
            f"where single precision resolves steps of {step:.2g} only, for a scene of the extent "
            f"{extent:.3g}; subtract this place from the positions of cameras and points alike."
        )


def _check_inside(names: list[str], data: Path) -> None:
    """Raise if `..` leads from the scene folder to an image; links are followed."""
    # The data of some parsers are a file in the scene folder.
    folder = Path(os.path.abspath(data.parent if data.is_file() else data))
    for name in dict.fromkeys(names):
        if ".." in Path(name).parts and not Path(os.path.abspath(name)).is_relative_to(folder):
            raise ValueError(
                f"Expected images inside of the scene folder {data}, but the calibration names "
                f"{name}; move the images there and correct their names."
            )
