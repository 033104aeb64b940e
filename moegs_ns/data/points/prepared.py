"""Initial points made ahead of training: frames triangulated one by one, merged and thinned out.

Each frame's points are a file in a folder beside the result, written atomically, so that an
interrupted run resumes with the missing frames.
"""

import hashlib
import json
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.utils.rich_utils import CONSOLE
from rich.progress import Progress

from moegs_ns.atomic_files import atomic_write
from moegs_ns.cameras import View, check_undistorted, view_from_cameras
from moegs_ns.data.calibration import check_scene
from moegs_ns.data.frames.dataset import with_image_ids
from moegs_ns.data.frames.decoding import FrameGroup, decode_group
from moegs_ns.data.points.files import load_points
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


@dataclass
class PreparedPointsOptions:
    """How a scene's initial points are made."""

    every: int = 0
    """0 triangulates the first frame; K the frames 0, K, 2K, ... and merges them."""
    max_points: int | None = 100_000
    """Merged points beyond this number are thinned out, evenly in space."""
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


def prepare_points(
    outputs: DataparserOutputs,
    options: PreparedPointsOptions,
    output: Path,
    folder: Path,
    replaced: Path | None = None,
) -> str:
    """Triangulate frames of a parser's training images, without validation cameras, and write them
    as initial points; returns the sentence about their origin.

    The file, a .npz that is replaced if it exists, holds `xyz`, `rgb`, the numbers of the `cameras`
    used, the `origin` as a sentence and, where several frames were used, the `frame` of each point.
    Points of a single frame stand for the whole clip, so they have no frame. `folder` is the scene
    folder. `replaced` is a file of points that will not be read any more, and that must not have
    more of them.

    Raises:
        ImportError: pycolmap is not installed.
        ValueError: the cameras do not allow it, no point was found or fewer than are replaced, or
            an image is broken.
        OSError: the file cannot be written.
    """
    # Check options and cameras before any image is decoded.
    options.check()
    require_pycolmap()
    outputs = with_image_ids(outputs)
    _check_cameras(outputs)
    check_scene(outputs, folder, is_training=True)
    # Triangulate each frame, or load what an interrupted run has left.
    images = _Images(outputs, options.every)
    work = output.with_name(f".{output.name}-frames")
    parts = _triangulate_all(images, options.triangulation, work, folder)
    # Merge the frames, thin the points out, and write them.
    arrays = _merge(parts, images, options)
    _check_count(len(arrays["xyz"]), replaced)
    _save(output, arrays)
    shutil.rmtree(work, ignore_errors=True)
    return str(arrays["origin"])


class _Images:
    """Training images of a parser, read frame by frame from all cameras in parallel."""

    def __init__(self, outputs: DataparserOutputs, every: int) -> None:
        metadata = outputs.metadata
        self.sources = metadata["frame_sources"]
        self.camera_ids: list[int] = metadata["camera_ids"]
        self.view: View = view_from_cameras(outputs.cameras)
        indices: dict[int, list[int]] = defaultdict(list)
        for index, frame in enumerate(metadata["frame_ids"]):
            indices[frame].append(index)
        chosen = [min(indices)] if every == 0 else [f for f in sorted(indices) if f % every == 0]
        first = int(metadata.get("first_frame", 0))
        self.frames = {first + frame: indices[frame] for frame in chosen}
        """Images of each chosen frame, one per camera, by the recording's own frame number."""

    def group(self, indices: Sequence[int]) -> FrameGroup:
        """Images of one camera in order of time, to be decoded together."""
        sources = tuple(self.sources[index] for index in indices)
        size = (self.view.width, self.view.height)
        return FrameGroup(sources[0].group, sources, *size, background=None)

    def read(self, frames: Sequence[int]) -> Iterator[list[UInt8[np.ndarray, "H W 3"]]]:
        """The images of each frame; every video is decoded once, up to the last of them."""
        images_of: dict[int, list[int]] = defaultdict(list)
        for index in (index for frame in frames for index in self.frames[frame]):
            images_of[self.camera_ids[index]].append(index)
        streams = {
            camera: decode_group(self.group(indices), threads=1)
            for camera, indices in images_of.items()
        }
        for frame in frames:
            yield [next(streams[self.camera_ids[index]]) for index in self.frames[frame]]

    def key(self, frame: int, options: TriangulationOptions, folder: Path) -> str:
        """Changes with everything that the points of a frame depend on."""
        indices = self.frames[frame]
        description = [
            _FORMAT,
            [self.camera_ids[index] for index in indices],
            [self.group([index]).key(folder) for index in indices],
            self.view.viewmats[indices].tolist(),
            self.view.Ks[indices].tolist(),
            asdict(options),
        ]
        return hashlib.sha256(json.dumps(description).encode()).hexdigest()[:16]


def _check_cameras(outputs: DataparserOutputs) -> None:
    """Raise unless several undistorted cameras see the same frames."""
    metadata = outputs.metadata
    count = len(set(metadata["camera_ids"]))
    if count < 2:
        raise ValueError(
            f"Triangulation expects at least 2 training cameras, got {count}; hold out fewer "
            "cameras, or train from random points."
        )
    if len(set(metadata["frame_ids"])) == len(metadata["frame_ids"]):
        raise ValueError(
            "Triangulation expects several images of one time, but every one of the "
            f"{len(metadata['frame_ids'])} training images shows another one: what moves in a "
            "monocular video cannot be triangulated. Train without prepared points; the run "
            "starts from random ones."
        )
    check_undistorted(outputs.cameras)


def _triangulate_all(
    images: _Images, options: TriangulationOptions, work: Path, folder: Path
) -> list[Triangulated]:
    """Points of each frame, from the files of an earlier run where it left any."""
    paths = {f: work / f"{f:06d}-{images.key(f, options, folder)}.npz" for f in images.frames}
    missing = [frame for frame, path in paths.items() if not path.is_file()]
    with Progress(console=CONSOLE, transient=True) as progress:
        done = len(paths) - len(missing)
        task = progress.add_task("Triangulating frames", total=len(paths), completed=done)
        for frame, shown in zip(missing, images.read(missing), strict=True):
            cameras = images.view.select(images.view.camera_ids.new_tensor(images.frames[frame]))
            points = triangulate(shown, cameras, options)
            _save(paths[frame], {"xyz": points.xyz, "rgb": points.rgb})
            progress.advance(task)
    return [Triangulated(**np.load(path)) for path in paths.values()]


def _merge(
    parts: list[Triangulated], images: _Images, options: PreparedPointsOptions
) -> dict[str, np.ndarray]:
    """The arrays of the result."""
    xyz = np.concatenate([part.xyz for part in parts])
    rgb = np.concatenate([part.rgb for part in parts])
    frames = np.repeat(np.array(list(images.frames)), [len(part.xyz) for part in parts])
    found = len(xyz)
    cameras = sorted({images.camera_ids[i] for indices in images.frames.values() for i in indices})
    is_single = len(parts) == 1
    where = f"frame {next(iter(images.frames))}" if is_single else f"{len(parts)} frames"
    if not found:
        raise ValueError(
            f"Expected points that several of the {len(cameras)} cameras see, but none was found "
            f"at {where}: check that the poses belong to the images, or try a larger "
            "--triangulation.max-error."
        )
    origin = f"triangulated from {len(cameras)} cameras at {where}, {found} points"
    if options.max_points is not None and found > options.max_points:
        kept = evenly_chosen(xyz, options.max_points, options.seed)
        xyz, rgb, frames = xyz[kept], rgb[kept], frames[kept]
        origin += f", down-sampled to {len(kept)}"
    arrays = {"xyz": xyz, "rgb": rgb, "cameras": np.array(cameras), "origin": np.array(origin)}
    return arrays if is_single else arrays | {"frame": frames.astype(np.int32)}


def _check_count(count: int, replaced: Path | None) -> None:
    before = 0 if replaced is None else len(load_points(replaced).xyz)
    if count < before:
        raise ValueError(
            f"Expected at least as many points as the {before:,} of {replaced}, which training "
            f"would not read any more, but found {count:,}; nothing was changed. Add --fewer to "
            "train from these all the same, or write them to another --output to compare."
        )


def evenly_chosen(xyz: Float[np.ndarray, "N 3"], count: int, seed: int) -> Int[np.ndarray, "M"]:
    """Indices of `count` points that cover the space of all, ascending; fixed by the seed.

    One random point of every voxel, in the finest grid with at most `count` occupied voxels, then
    any others. Where something stands still, its points of many frames count as one.
    """
    if len(xyz) <= count:
        return np.arange(len(xyz))
    order = np.random.default_rng(seed).permutation(len(xyz))
    offsets = xyz[order].astype(np.float64) - xyz.min(0)
    largest = max(float(offsets.max()), 1e-12)
    low, high = np.log(largest / (_MAX_VOXELS - 1)), np.log(2.0 * largest)
    # Bisect the logarithm of the voxel size.
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
    """The first point in each occupied voxel."""
    x, y, z = np.floor(offsets / size).astype(np.int64).T
    return np.unique((x * _MAX_VOXELS + y) * _MAX_VOXELS + z, return_index=True)[1]


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with atomic_write(path, "points", "name another --output") as file:
        np.savez(file, **arrays)
