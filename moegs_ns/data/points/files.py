"""Clouds of points, and the files that hold them."""

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8

from moegs_ns.data.damaged_files import POINTS, damage_as_value_error

MOST_BROKEN = 0.01
"""Fraction of a file's points that may be NaN or infinite, and are left out."""
LARGEST_EXPANSION = 20
"""Bytes of points to one of the file at most; positions hardly deflate."""
ALWAYS_INFLATED = 2**26
"""Bytes of points that are read whatever the size of their file."""
PER_POINT = ("xyz", "rgb", "frames", "moving_frames", "velocities")
"""What a cloud has of each point."""


@dataclass(frozen=True, eq=False)
class PointCloud:
    """Points in the world, and one sentence that says where they come from."""

    xyz: Float[np.ndarray, "N 3"]
    rgb: UInt8[np.ndarray, "N 3"]
    frames: Int[np.ndarray, "N"] | None
    """Frame of the clip at which a point was seen; None where the file does not say."""
    origin: str
    cameras: tuple[int, ...] = ()
    """Numbers of the cameras whose images the points were made from; empty where unknown."""
    moving_frames: Int[np.ndarray, "N"] | None = None
    """Frame of the clip at which a seed of something that moves is where it is; -1 for points that
    stand still. None if all do."""
    velocities: Float[np.ndarray, "N 3"] | None = None
    """Of moving seeds, in world units per second; 0 for points that stand still. Never without
    `moving_frames`."""

    def select(self, keep: Bool[np.ndarray, "N"]) -> "PointCloud":
        """Some of the points; without what belongs to moving seeds if none is among them."""
        arrays = {name: getattr(self, name) for name in PER_POINT}
        chosen = {name: None if value is None else value[keep] for name, value in arrays.items()}
        if chosen["moving_frames"] is not None and not (chosen["moving_frames"] >= 0).any():
            chosen |= {"moving_frames": None, "velocities": None}
        return replace(self, **chosen)

    def as_metadata(self) -> dict[str, Any]:
        """The keys under which nerfstudio and the recipes look for points."""
        metadata: dict[str, Any] = {
            "points3D_xyz": torch.from_numpy(np.ascontiguousarray(self.xyz, dtype=np.float32)),
            "points3D_rgb": torch.from_numpy(np.ascontiguousarray(self.rgb)),
            "points3D_origin": self.origin,
            "points3D_cameras": self.cameras,
        }
        if self.frames is not None:
            metadata["points3D_frames"] = torch.from_numpy(self.frames.astype(np.int64))
        if self.moving_frames is not None and self.velocities is not None:
            moving = torch.from_numpy(self.moving_frames.astype(np.int64))
            velocities = torch.from_numpy(np.ascontiguousarray(self.velocities, dtype=np.float32))
            metadata |= {"points3D_moving_frames": moving, "points3D_velocities": velocities}
        return metadata


def load_points(path: Path) -> PointCloud:
    """All finite points of a .npz, .ply, .npy (positions alone, which become grey) or .bin file
    (COLMAP's), with their frames, and of moving seeds the velocities, where the file has them.

    Raises:
        ValueError: the file holds no points, or arrays of other shapes.
    """
    try:
        arrays = _READERS.get(path.suffix.lower(), _read_npz)(path)
        xyz, rgb, frames = arrays["xyz"], arrays["rgb"], arrays.get("frame")
    except (OSError, KeyError, EOFError, ValueError, MemoryError) as error:
        raise ValueError(
            f"Expected points in {path} (arrays xyz [N,3], rgb [N,3] and perhaps frame [N]), but "
            f"they cannot be read ({error}); write the file again or remove it."
        ) from error
    shapes_fit = xyz.ndim == 2 and xyz.shape[1] == 3 and rgb.shape == xyz.shape
    if not shapes_fit or (frames is not None and frames.shape != xyz.shape[:1]):
        raise ValueError(
            f"Expected xyz [N,3], rgb [N,3] and perhaps frame [N] in {path}, got xyz "
            f"{list(xyz.shape)}, rgb {list(rgb.shape)}, frame "
            f"{None if frames is None else list(frames.shape)}; write the file again."
        )
    _check_numbers(path, xyz, rgb, frames)
    finite = np.isfinite(xyz).all(1)
    if not finite.any():
        raise ValueError(
            f"Expected points in {path}, but it holds none; write it again or remove it."
        )
    if finite.mean() < 1.0 - MOST_BROKEN:
        raise ValueError(
            f"Expected finite points in {path}, but {int((~finite).sum())} of {len(xyz)} are NaN "
            "or infinite; write it again or remove it."
        )
    _check_colours(path, rgb[finite])
    moving_frames, velocities = _moving_seeds(path, arrays, len(xyz))
    # `moegs prepare points` also says how, and from which cameras, the points were made.
    source = f", {arrays['origin']}" if "origin" in arrays else ""
    cameras = _cameras(path, arrays)
    return PointCloud(
        xyz=xyz[finite].astype(np.float32),
        rgb=_as_bytes(rgb[finite]),
        frames=None if frames is None else frames[finite].astype(np.int64),
        origin=f"Initial points: {int(finite.sum())} from {path}{source}.",
        cameras=cameras,
        moving_frames=None if moving_frames is None else moving_frames[finite],
        velocities=None if velocities is None else velocities[finite],
    )


def _moving_seeds(
    path: Path, arrays: dict[str, np.ndarray], count: int
) -> tuple[Int[np.ndarray, "N"] | None, Float[np.ndarray, "N 3"] | None]:
    """Frame and velocity of each moving seed, if a file has both."""
    moving, velocities = arrays.get("moving_frame"), arrays.get("velocity")
    if moving is None and velocities is None:
        return None, None
    shapes = [None if array is None else array.shape for array in (moving, velocities)]
    if moving is None or velocities is None or shapes != [(count,), (count, 3)]:
        raise ValueError(
            f"Expected moving_frame [N] and velocity [N,3] together for the {count} points of "
            f"{path}, got {shapes[0]} and {shapes[1]}; write the file again."
        )
    if moving.dtype.kind not in "iu" or velocities.dtype.kind not in "fiu":
        raise ValueError(
            f"Expected moving_frame as whole and velocity as real numbers in {path}, got "
            f"{moving.dtype} and {velocities.dtype}; write the file again."
        )
    if not np.isfinite(velocities).all() or moving.min(initial=0) < -1:
        raise ValueError(
            "Expected finite velocities, and frames from 0 (or -1 for points that stand still), "
            f"in {path}, but some are not; write the file again."
        )
    return moving.astype(np.int64), velocities.astype(np.float32)


def _cameras(path: Path, arrays: dict[str, np.ndarray]) -> tuple[int, ...]:
    """Numbers of the cameras that a file names, if it does."""
    cameras = arrays.get("cameras", np.zeros(0, int))
    if cameras.dtype.kind not in "iu":
        raise ValueError(
            f"Expected whole numbers of cameras in {path}, got {cameras.dtype}; write the file "
            "again."
        )
    return tuple(cameras.reshape(-1).tolist())


def _check_numbers(path: Path, xyz: np.ndarray, rgb: np.ndarray, frames: np.ndarray | None) -> None:
    """Raise unless points and colours are real numbers, and frames whole ones."""
    found = f"{xyz.dtype} and {rgb.dtype}"
    is_good = xyz.dtype.kind in "fiu" and rgb.dtype.kind in "fiu"
    if frames is not None and not (
        frames.dtype.kind in "fiu" and (frames == np.rint(frames)).all()
    ):
        is_good, found = False, f"{found}, and frames that are not whole"
    if not is_good:
        raise ValueError(
            f"Expected xyz and rgb as real and frame as whole numbers in {path}, got {found}; "
            "write the file again."
        )


def _check_colours(path: Path, rgb: np.ndarray) -> None:
    """Raise unless all colours can be bytes, or fractions of white."""
    if rgb.size and not (np.isfinite(rgb).all() and rgb.min() >= 0 and rgb.max() <= 255):
        raise ValueError(
            f"Expected rgb from 0 to 255, or from 0 to 1, in {path}, got {rgb.min():g} to "
            f"{rgb.max():g}; write the file again."
        )


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    if not zipfile.is_zipfile(path):
        raise ValueError("it is no .npz archive, or not a whole one")
    with damage_as_value_error(), np.load(path, allow_pickle=False) as arrays:
        inflated = sum(entry.file_size for entry in arrays.zip.infolist())
        if inflated > max(LARGEST_EXPANSION * path.stat().st_size, ALWAYS_INFLATED):
            raise ValueError(f"the file inflates to {inflated:,} bytes")
        if "data" in arrays and "xyz" not in arrays:  # PanopticSports: x y z r g b and a label.
            return {"xyz": arrays["data"][:, :3], "rgb": arrays["data"][:, 3:6]}
        names = ("xyz", "rgb", "frame", "origin", "cameras", "moving_frame", "velocity")
        return {name: arrays[name] for name in names if name in arrays}


def _read_ply(path: Path) -> dict[str, np.ndarray]:
    from plyfile import PlyData, PlyParseError

    try:
        vertices = PlyData.read(str(path))["vertex"]
    except PlyParseError as error:
        raise ValueError(str(error)) from error
    names = {prop.name for prop in vertices.properties}
    arrays = {"xyz": np.stack([np.asarray(vertices[axis]) for axis in "xyz"], axis=1)}
    arrays["rgb"] = np.full(arrays["xyz"].shape, 128, dtype=np.uint8)
    channels = ("red", "green", "blue")
    if set(channels) <= names:
        arrays["rgb"] = np.stack([np.asarray(vertices[name]) for name in channels], axis=1)
    if "frame" in names:
        arrays["frame"] = np.asarray(vertices["frame"])
    return arrays


def _read_npy(path: Path) -> dict[str, np.ndarray]:
    with damage_as_value_error():
        xyz = np.load(path, allow_pickle=False)
    return {"xyz": xyz, "rgb": np.full(xyz.shape, 128, dtype=np.uint8)}


def _read_colmap(path: Path) -> dict[str, np.ndarray]:
    from nerfstudio.data.utils.colmap_parsing_utils import read_points3D_binary

    with damage_as_value_error():
        POINTS.check(path)
        points = read_points3D_binary(path).values()
    xyz = np.array([point.xyz for point in points]).reshape(-1, 3)
    return {"xyz": xyz, "rgb": np.array([point.rgb for point in points], np.uint8).reshape(-1, 3)}


_READERS = {".ply": _read_ply, ".npy": _read_npy, ".bin": _read_colmap}


def _as_bytes(rgb: np.ndarray) -> UInt8[np.ndarray, "N 3"]:
    """Colours as 0 to 255; floats up to 1 are taken for fractions."""
    rgb = np.nan_to_num(rgb)
    if np.issubdtype(rgb.dtype, np.floating) and rgb.max(initial=0.0) <= 1.0:
        rgb = rgb * 255.0
    return np.clip(np.round(rgb), 0, 255).astype(np.uint8)
