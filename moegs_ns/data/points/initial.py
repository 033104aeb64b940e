"""Initial points: from a file, at random inside the common view of the cameras, or both."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from moegs_ns.data.points.frustums import Frustums, points_in_box, points_in_common_view

__all__ = [
    "PREPARED_POINTS",
    "Frustums",
    "PointCloud",
    "PointOptions",
    "initial_points",
    "leak_warning",
    "load_points",
    "random_points",
]

PREPARED_POINTS = "moegs_points.npz"
"""File in a scene folder that `moegs prepare points` writes; parsers look for it first."""
MIN_POINTS_FOR_BOX = 100
"""Fewer points than this do not tell how large the scene is."""
OUTLIER_SHARE = 0.01
"""Share of the points at either end of each axis that the box of a cloud leaves out."""
BOX_MARGIN = 0.1
"""Enlargement of that box on every side, as a share of its size."""


@dataclass(frozen=True)
class PointOptions:
    """What a parser's configuration says about initial points."""

    folder: Path
    """The scene folder, where relative paths start."""
    points_file: Path | None
    """The file that the user named."""
    search: tuple[str, ...]
    """Files that are looked for otherwise; the first that exists is taken."""
    num_random_points: int
    min_points: int


@dataclass(frozen=True, eq=False)
class PointCloud:
    """Points in the world, and one sentence that says where they come from."""

    xyz: Float[np.ndarray, "N 3"]
    rgb: UInt8[np.ndarray, "N 3"]
    frames: Int[np.ndarray, "N"] | None
    """Frame of the clip at which a point was seen; None where the file does not say."""
    origin: str
    cameras: tuple[int, ...] = ()
    """Numbers of the cameras whose images the points were made of; empty where unknown."""

    def as_metadata(self) -> dict[str, Any]:
        """The keys under which nerfstudio and the recipes look for points."""
        metadata: dict[str, Any] = {
            "points3D_xyz": torch.from_numpy(np.ascontiguousarray(self.xyz, dtype=np.float32)),
            "points3D_rgb": torch.from_numpy(np.ascontiguousarray(self.rgb)),
            "points3D_origin": self.origin,
            "points3D_cameras": self.cameras,
        }
        if self.frames is not None:
            frames = np.ascontiguousarray(self.frames, dtype=np.int64)
            metadata["points3D_frames"] = torch.from_numpy(frames)
        return metadata


def initial_points(
    options: PointOptions, frustums: Frustums, frames: range, seed: int = 0
) -> PointCloud:
    """Points of the named or first found file, topped up at random; else random points.

    Raises:
        FileNotFoundError: the file that the user named does not exist.
        ValueError: a file cannot be understood.
    """
    path = _find(options)
    if path is None:
        points = random_points(frustums, options.num_random_points, seed=seed)
    else:
        points = _clip_frames(load_points(path), frames)
        if len(points.xyz) < options.min_points:
            points = _topped_up(points, frustums, options.min_points, seed)
    return points


def leak_warning(metadata: dict[str, Any], train_cameras: Iterable[int]) -> str:
    """One sentence if cameras that are not trained on helped to place the points, else "".

    Args:
        metadata: of a parser's outputs.
        train_cameras: numbers of the cameras that the run trains on.
    """
    leaked = sorted(set(metadata.get("points3D_cameras", ())) - set(train_cameras))
    if not leaked:
        return ""
    numbers = " ".join(str(camera) for camera in leaked)
    return (
        f"Warning: images of camera {numbers}, which this run does not train on, helped to place "
        "the initial points, so scores on them flatter; prepare the points again with "
        "--val-cameras."
    )


def load_points(path: Path) -> PointCloud:
    """All finite points of a .npz or .ply file, with their frames where the file has them.

    Raises:
        ValueError: the file holds no points, or arrays of other shapes.
        ImportError: a .ply file, but the package plyfile is not installed.
    """
    source, cameras = "", ()
    try:
        if path.suffix.lower() == ".ply":
            columns = _read_ply(path)
        else:
            columns = _read_npz(path)
            source, cameras = _read_provenance(path)
    except (OSError, KeyError, EOFError, ValueError) as error:
        raise ValueError(
            f"Expected points in {path} (arrays xyz [N,3], rgb [N,3] and perhaps frame [N]), but "
            f"they cannot be read ({error}); write the file again or remove it."
        ) from error
    xyz, rgb, frames = columns
    shapes_fit = xyz.ndim == 2 and xyz.shape[1] == 3 and rgb.shape == xyz.shape
    if not shapes_fit or (frames is not None and frames.shape != xyz.shape[:1]):
        raise ValueError(
            f"Expected xyz [N,3], rgb [N,3] and perhaps frame [N] in {path}, got xyz "
            f"{list(xyz.shape)}, rgb {list(rgb.shape)}, frame "
            f"{None if frames is None else list(frames.shape)}; write the file again."
        )
    finite = np.isfinite(xyz).all(1)
    if not finite.any():
        raise ValueError(
            f"Expected points in {path}, but it holds none; write it again or remove it."
        )
    return PointCloud(
        xyz=xyz[finite].astype(np.float32),
        rgb=_as_bytes(rgb[finite]),
        frames=None if frames is None else frames[finite].astype(np.int64),
        origin=f"Initial points: {int(finite.sum())} from {path}{source and ', ' + source}.",
        cameras=cameras,
    )


def random_points(frustums: Frustums, count: int, *, seed: int = 0) -> PointCloud:
    """Greyish points where many cameras look; the same for the same seed."""
    random = np.random.default_rng(seed)
    xyz = points_in_common_view(frustums, count, random)
    origin = f"Initial points: {count} random ones inside the cameras' common view."
    return PointCloud(xyz.astype(np.float32), _greyish(random, count), None, origin)


def _random_points_around(
    points: PointCloud, frustums: Frustums, count: int, seed: int
) -> PointCloud:
    """Greyish points in the box that holds most of `points`, a little enlarged."""
    random = np.random.default_rng(seed)
    lower, upper = np.quantile(points.xyz, [OUTLIER_SHARE, 1.0 - OUTLIER_SHARE], axis=0)
    margin = BOX_MARGIN * (upper - lower)
    xyz = points_in_box(frustums, lower - margin, upper + margin, count, random)
    return PointCloud(xyz.astype(np.float32), _greyish(random, count), None, "")


def _greyish(random: np.random.Generator, count: int) -> UInt8[np.ndarray, "N 3"]:
    return random.integers(96, 160, size=(count, 3), dtype=np.uint8)


def _find(options: PointOptions) -> Path | None:
    if options.points_file is not None:
        path = options.folder / options.points_file
        if not path.is_file():
            raise FileNotFoundError(
                f"Expected initial points at {path} (--points-file), but there is no such file; "
                "correct the path or leave the option out."
            )
        return path
    candidates = (options.folder / name for name in options.search)
    return next((path for path in candidates if path.is_file()), None)


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    with np.load(path, allow_pickle=False) as arrays:
        if "data" in arrays and "xyz" not in arrays:  # PanopticSports: x y z r g b and a label.
            data = arrays["data"]
            return data[:, :3], data[:, 3:6], None
        return arrays["xyz"], arrays["rgb"], arrays.get("frame")


def _read_provenance(path: Path) -> tuple[str, tuple[int, ...]]:
    """What `moegs prepare points` says about its points; nothing for files of others."""
    with np.load(path, allow_pickle=False) as arrays:
        source = str(arrays["origin"]) if "origin" in arrays else ""
        cameras = arrays["cameras"].reshape(-1).tolist() if "cameras" in arrays else []
    return source, tuple(int(camera) for camera in cameras)


def _read_ply(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    try:
        from plyfile import PlyData, PlyParseError
    except ImportError as error:
        raise ImportError(
            f"Reading {path} needs the package plyfile; run `pip install plyfile` or give the "
            "points as .npz with xyz and rgb."
        ) from error
    try:
        vertices = PlyData.read(str(path))["vertex"]
    except PlyParseError as error:
        raise ValueError(str(error)) from error
    names = {prop.name for prop in vertices.properties}
    xyz = np.stack([np.asarray(vertices[axis]) for axis in ("x", "y", "z")], axis=1)
    if {"red", "green", "blue"} <= names:
        rgb = np.stack([np.asarray(vertices[name]) for name in ("red", "green", "blue")], axis=1)
    else:
        rgb = np.full(xyz.shape, 128, dtype=np.uint8)
    return xyz, rgb, np.asarray(vertices["frame"]) if "frame" in names else None


def _as_bytes(rgb: np.ndarray) -> UInt8[np.ndarray, "N 3"]:
    """Colours as 0 to 255; floats up to 1 are taken for fractions."""
    rgb = np.nan_to_num(rgb)
    if np.issubdtype(rgb.dtype, np.floating) and rgb.max(initial=0.0) <= 1.0:
        rgb = rgb * 255.0
    return np.clip(np.round(rgb), 0, 255).astype(np.uint8)


def _clip_frames(points: PointCloud, frames: range) -> PointCloud:
    """Points of the chosen frames only, counted from the first of these."""
    if points.frames is None:
        return points
    keep = (points.frames >= frames.start) & (points.frames < frames.stop)
    kept = int(keep.sum())
    if kept == len(keep):
        origin = points.origin
    else:
        chosen = f"frames {frames.start} to {frames.stop - 1}"
        origin = f"{points.origin[:-1]}, of which {kept} belong to {chosen}."
    new_frames = points.frames[keep] - frames.start
    return replace(
        points, xyz=points.xyz[keep], rgb=points.rgb[keep], frames=new_frames, origin=origin
    )


def _topped_up(points: PointCloud, frustums: Frustums, min_points: int, seed: int) -> PointCloud:
    missing = min_points - len(points.xyz)
    if len(points.xyz) < MIN_POINTS_FOR_BOX:
        extra, place = random_points(frustums, missing, seed=seed), "in the cameras' common view"
    else:
        # The walls of a room lie outside of the view that most cameras share, but inside the box of
        # what could be triangulated.
        extra, place = _random_points_around(points, frustums, missing, seed), "in their box"
    frames = points.frames
    if frames is not None:
        # Random points belong to no frame; spread over those that the file covers, they do not
        # crowd a single instant.
        covered = np.unique(frames) if len(frames) else np.zeros(1, dtype=np.int64)
        random = np.random.default_rng(seed + 1)
        frames = np.concatenate([frames, random.choice(covered, size=missing)])
    return replace(
        points,
        xyz=np.concatenate([points.xyz, extra.xyz]),
        rgb=np.concatenate([points.rgb, extra.rgb]),
        frames=frames,
        origin=f"{points.origin[:-1]}; {missing} random ones added {place}.",
    )
