"""Initial points made ahead of training: frames triangulated one by one, merged and thinned out.

Each frame's points are a file in a folder beside the result, written under a temporary name first,
so that an interrupted run goes on with the frames that are missing.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.utils.rich_utils import CONSOLE
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from moegs_ns.atomic_files import atomic_write
from moegs_ns.cameras import View, check_undistorted, view_from_cameras
from moegs_ns.data.frames.dataset import with_image_ids
from moegs_ns.data.frames.decoding import FrameGroup, decode_group
from moegs_ns.data.points.triangulation import (
    Triangulated,
    TriangulationOptions,
    require_pycolmap,
    triangulate,
)

_FORMAT = 1
"""Raised whenever the same images and options would give other points."""
_VOXEL_STEPS = 40
_MAX_VOXELS = 2**20
"""Voxels along one axis; three such numbers fit into one integer of 64 bits."""


@dataclass(frozen=True)
class PreparedPointsOptions:
    """How a scene's initial points are made."""

    every: int = 0
    """Frames between two that are triangulated; 0 takes the first frame of the clip alone."""
    max_points: int | None = None
    """Largest number of points of the result; None for all."""
    seed: int = 0
    """Seed of the choice among the points."""
    triangulation: TriangulationOptions = field(default_factory=TriangulationOptions)

    def check(self) -> None:
        """Raise a ValueError for numbers that make no sense."""
        if self.every < 0:
            raise ValueError(
                f"--every expects 0 (first frame alone) or a number of frames, got {self.every}."
            )
        if self.max_points is not None and self.max_points < 1:
            raise ValueError(
                f"--max-points expects at least 1, got {self.max_points}; leave it out for all."
            )
        self.triangulation.check()


@dataclass(frozen=True)
class _Instant:
    """The images of one frame, one of each camera."""

    frame: int
    """The recording's own number."""
    rows: tuple[int, ...]


class _Images:
    """Training images of a parser, read frame by frame from all cameras side by side."""

    def __init__(self, outputs: DataparserOutputs) -> None:
        self.sources = outputs.metadata["frame_sources"]
        self.camera_ids: list[int] = outputs.metadata["camera_ids"]
        self.frame_ids: list[int] = outputs.metadata["frame_ids"]
        self.first_frame = int(outputs.metadata.get("first_frame", 0))
        self.view: View = view_from_cameras(outputs.cameras)

    def instants(self, every: int) -> list[_Instant]:
        """The frames 0, every, 2 every, ... of the clip; the first alone for 0."""
        rows: dict[int, list[int]] = {}
        for row, frame in enumerate(self.frame_ids):
            rows.setdefault(frame, []).append(row)
        frames = [min(rows)] if every == 0 else [f for f in sorted(rows) if f % every == 0]
        return [_Instant(self.first_frame + frame, tuple(rows[frame])) for frame in frames]

    def group(self, rows: Sequence[int]) -> FrameGroup:
        """Images of one camera in order of time, to be decoded together."""
        sources = tuple(self.sources[row] for row in rows)
        size = (self.view.width, self.view.height)
        return FrameGroup(sources[0].group, sources, *size, background=None)

    def read(self, instants: Sequence[_Instant]) -> Iterator[list[UInt8[np.ndarray, "H W 3"]]]:
        """The images of each instant; every video is decoded once, up to the last frame asked."""
        rows_of: dict[int, list[int]] = {}
        for row in (row for instant in instants for row in instant.rows):
            rows_of.setdefault(self.camera_ids[row], []).append(row)
        streams = {
            camera: decode_group(self.group(rows), threads=1) for camera, rows in rows_of.items()
        }
        for instant in instants:
            yield [next(streams[self.camera_ids[row]]) for row in instant.rows]

    def key(self, instant: _Instant, options: TriangulationOptions, folder: Path) -> str:
        """Changes with everything that the points of an instant depend on."""
        rows = list(instant.rows)
        description = [
            _FORMAT,
            [self.camera_ids[row] for row in rows],
            [self.group([row]).key(folder) for row in rows],
            self.view.viewmats[rows].tolist(),
            self.view.Ks[rows].tolist(),
            asdict(options),
        ]
        return hashlib.sha256(json.dumps(description).encode()).hexdigest()[:16]


def prepare_points(
    outputs: DataparserOutputs, options: PreparedPointsOptions, output: Path, folder: Path
) -> str:
    """Triangulate frames of a parser's training images and write them as initial points.

    The file holds `xyz`, `rgb`, the numbers of the `cameras` used, the `origin` in words and, where
    several frames were used, the `frame` of each point. Points of a single frame stand for the
    whole clip, so they bear no frame.

    Args:
        outputs: of a parser's training split, without validation cameras.
        options: which frames, and how many points.
        output: the .npz file to write; replaced if it exists.
        folder: the scene folder.

    Returns:
        What the file says about the origin of its points.

    Raises:
        ImportError: pycolmap is not installed.
        ValueError: the cameras do not allow it, no point was found, or an image is broken.
        OSError: the file cannot be written.
    """
    options.check()
    require_pycolmap()
    outputs = with_image_ids(outputs)
    _check_cameras(outputs)
    images = _Images(outputs)
    instants = images.instants(options.every)
    work = output.with_name(f".{output.name}-frames")
    parts = _triangulate_all(images, instants, options, work, folder)
    arrays = _merge(parts, instants, images, options)
    _save(output, arrays)
    shutil.rmtree(work, ignore_errors=True)
    return str(arrays["origin"])


def _check_cameras(outputs: DataparserOutputs) -> None:
    """Whether several undistorted cameras see the same instants."""
    metadata = outputs.metadata
    count = len(set(metadata["camera_ids"]))
    if count < 2:
        raise ValueError(
            f"Triangulation expects at least 2 training cameras, got {count}; hold out fewer "
            "cameras, or train from random points."
        )
    if len(set(metadata["frame_ids"])) == len(metadata["frame_ids"]):
        raise ValueError(
            "Triangulation expects several images of one instant, but every one of the "
            f"{len(metadata['frame_ids'])} training images shows another one: what moves in a "
            "monocular video cannot be triangulated. Train without prepared points; the run "
            "starts from random ones."
        )
    check_undistorted(outputs.cameras)


def _triangulate_all(
    images: _Images,
    instants: list[_Instant],
    options: PreparedPointsOptions,
    work: Path,
    folder: Path,
) -> list[Triangulated]:
    """Points of each instant, from the files of an earlier run where it left any."""
    how = options.triangulation
    paths = [work / f"{i.frame:06d}-{images.key(i, how, folder)}.npz" for i in instants]
    missing = [(i, path) for i, path in zip(instants, paths, strict=True) if not path.is_file()]
    columns = (
        TextColumn("Triangulating frames"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=CONSOLE, transient=True) as progress:
        task = progress.add_task("", total=len(paths), completed=len(paths) - len(missing))
        pictures = images.read([instant for instant, _ in missing])
        for (instant, path), shown in zip(missing, pictures, strict=True):
            rows = images.view.camera_ids.new_tensor(instant.rows)
            points = triangulate(shown, images.view.select(rows), how)
            _save(path, {"xyz": points.xyz, "rgb": points.rgb})
            progress.advance(task)
    return [_load(path) for path in paths]


def _merge(
    parts: list[Triangulated],
    instants: list[_Instant],
    images: _Images,
    options: PreparedPointsOptions,
) -> dict[str, np.ndarray]:
    """The arrays of the result."""
    xyz, rgb = (np.concatenate([getattr(part, name) for part in parts]) for name in ("xyz", "rgb"))
    found = len(xyz)
    cameras = sorted({images.camera_ids[row] for instant in instants for row in instant.rows})
    is_single = len(instants) == 1
    place = f"frame {instants[0].frame}" if is_single else f"{len(instants)} frames"
    if not found:
        raise ValueError(
            f"Expected points that several of the {len(cameras)} cameras see, but none was found "
            f"at {place}: check that the poses belong to the images, or try a larger "
            "--triangulation.max-error."
        )
    frames = np.repeat([instant.frame for instant in instants], [len(part.xyz) for part in parts])
    origin = f"triangulated from {len(cameras)} cameras at {place}, {found} points"
    if options.max_points is not None and found > options.max_points:
        kept = evenly_chosen(xyz, options.max_points, options.seed)
        xyz, rgb, frames = xyz[kept], rgb[kept], frames[kept]
        origin += f", down-sampled to {len(kept)}"
    arrays = {"xyz": xyz, "rgb": rgb, "cameras": np.array(cameras), "origin": np.array(origin)}
    return arrays if is_single else arrays | {"frame": frames.astype(np.int32)}


def evenly_chosen(xyz: Float[np.ndarray, "N 3"], count: int, seed: int) -> Int[np.ndarray, "M"]:
    """Rows of `count` points that cover the space of all, in order; the same for the same seed.

    One random point of every voxel, in the finest grid with at most `count` occupied voxels, then
    any others. Where something stands still, its points of many frames count as one.
    """
    if len(xyz) <= count:
        return np.arange(len(xyz))
    order = np.random.default_rng(seed).permutation(len(xyz))
    offsets = xyz[order].astype(np.float64) - xyz.min(0)
    largest = max(float(offsets.max()), 1e-12)
    low, high = np.log(largest / (_MAX_VOXELS - 1)), np.log(2.0 * largest)
    for _ in range(_VOXEL_STEPS):
        middle = 0.5 * (low + high)
        if len(_one_of_each_voxel(offsets, np.exp(middle))) > count:
            low = middle
        else:
            high = middle
    chosen = _one_of_each_voxel(offsets, np.exp(high))
    others = np.setdiff1d(np.arange(len(xyz)), chosen)[: count - len(chosen)]
    return np.sort(order[np.concatenate([chosen, others])])


def _one_of_each_voxel(offsets: Float[np.ndarray, "N 3"], size: float) -> Int[np.ndarray, "M"]:
    """The first row in each occupied voxel."""
    x, y, z = np.floor(offsets / size).astype(np.int64).T
    return np.unique((x * _MAX_VOXELS + y) * _MAX_VOXELS + z, return_index=True)[1]


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write under a temporary name, then rename."""
    with atomic_write(path, "points", "name another --output") as file:
        np.savez(file, **arrays)


def _load(path: Path) -> Triangulated:
    with np.load(path, allow_pickle=False) as arrays:
        return Triangulated(arrays["xyz"], arrays["rgb"])
