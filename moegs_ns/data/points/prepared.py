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
from typing import Literal

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
from moegs_ns.data.points.visual_hull import visual_hull
from moegs_ns.progress import track

Method = Literal["auto", "features", "hull"]
FEW_POINTS = 300
"""Points of a frame below which features have not told where its surfaces are."""
_BACKGROUND_FRAMES = 15
"""Frames whose median is a camera's still background; more take longer."""
_FORMAT = 2
"""Raised whenever the same images and options would give other points."""
_VOXEL_STEPS = 40
_MAX_VOXELS = 2**20
"""Voxels along one axis; three such numbers fit into one integer of 64 bits."""


@dataclass
class PreparedPointsOptions:
    """How a scene's initial points are made."""

    every: int = 0
    """0 triangulates the first frame; K the frames 0, K, 2K, ... and merges them."""
    method: Method = "auto"
    """Features that are triangulated; or the visual hull of what moves, for cameras that stand too
    far apart to find the same features; auto adds the hull where features give fewer than 300
    points."""
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


@dataclass(frozen=True)
class PreparedPoints:
    """What was written."""

    count: int
    origin: str
    """A sentence without its end."""
    per_camera: dict[int, int]
    """Number of the points, of all frames and before any are left out, that each camera has helped
    to find."""


def prepare_points(
    outputs: DataparserOutputs,
    options: PreparedPointsOptions,
    output: Path,
    folder: Path,
    replaced: Path | None = None,
) -> PreparedPoints:
    """Find points of frames of a parser's training images, without validation cameras, and write
    them as initial points.

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
    if options.method != "hull":
        require_pycolmap()
    outputs = with_image_ids(outputs)
    _check_cameras(outputs)
    check_scene(outputs, folder, is_training=True)
    # Triangulate each frame, or load what an interrupted run has left.
    images = _Images(outputs, options.every)
    work = output.with_name(f".{output.name}-frames")
    if options.method == "hull":
        parts = {frame: _no_points(len(of)) for frame, of in images.frames.items()}
    else:
        parts = _triangulate_all(images, options.triangulation, work, folder)
    poor = [frame for frame, part in parts.items() if len(part.xyz) < FEW_POINTS]
    note = ""
    if options.method != "features" and poor:
        parts, note = _with_hulls(parts, poor, images)
    # Merge the frames, thin the points out, and write them.
    arrays = _merge(list(parts.values()), images, options, note)
    _check_count(len(arrays["xyz"]), replaced)
    _save(output, arrays)
    shutil.rmtree(work, ignore_errors=True)
    per_camera: dict[int, int] = defaultdict(int)
    for frame, part in parts.items():
        for index, count in zip(images.frames[frame], part.per_camera.tolist(), strict=True):
            per_camera[images.camera_ids[index]] += count
    return PreparedPoints(len(arrays["xyz"]), str(arrays["origin"]), dict(per_camera))


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

    def backgrounds(self) -> dict[int, UInt8[np.ndarray, "H W 3"]] | None:
        """Of each camera the median of frames all over the clip, which shows what stands still;
        None where a camera moves or frames are too few."""
        images_of: dict[int, list[int]] = defaultdict(list)
        for index, camera in enumerate(self.camera_ids):
            images_of[camera].append(index)
        for indices in images_of.values():
            poses = self.view.viewmats[indices]
            if len(indices) < 3 or bool((poses != poses[:1]).any()):
                return None
        found = {}
        for camera, indices in track(images_of.items(), "Looking for what stands still"):
            places = np.linspace(0, len(indices) - 1, min(len(indices), _BACKGROUND_FRAMES))
            group = self.group([indices[place] for place in places.round().astype(int)])
            shown = np.stack(list(decode_group(group, threads=1)))
            found[camera] = np.median(shown, axis=0).astype(np.uint8)
        return found

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
) -> dict[int, Triangulated]:
    """Points of each frame by its number, from the files of an earlier run where it left any."""
    paths = {f: work / f"{f:06d}-{images.key(f, options, folder)}.npz" for f in images.frames}
    missing = [frame for frame, path in paths.items() if not path.is_file()]
    with Progress(console=CONSOLE, transient=True) as progress:
        done = len(paths) - len(missing)
        task = progress.add_task("Triangulating frames", total=len(paths), completed=done)
        for frame, shown in zip(missing, images.read(missing), strict=True):
            cameras = images.view.select(images.view.camera_ids.new_tensor(images.frames[frame]))
            points = triangulate(shown, cameras, options)
            _save(paths[frame], vars(points))
            progress.advance(task)
    return {frame: Triangulated(**np.load(path)) for frame, path in paths.items()}


def _no_points(num_cameras: int) -> Triangulated:
    counts = np.zeros(num_cameras, np.int64)
    return Triangulated(np.empty((0, 3), np.float32), np.empty((0, 3), np.uint8), counts)


def _with_hulls(
    parts: dict[int, Triangulated], frames: Sequence[int], images: _Images
) -> tuple[dict[int, Triangulated], str]:
    """With the visual hulls of some frames added, and what to say about them."""
    backgrounds = images.backgrounds()
    if backgrounds is None:
        return parts, ", without a visual hull, which needs cameras that stand still for 3 frames"
    parts, added = dict(parts), 0
    shown = images.read(frames)
    for frame in track(frames, "Carving what moves"):
        indices, part = images.frames[frame], parts[frame]
        still = [backgrounds[images.camera_ids[index]] for index in indices]
        cameras = images.view.select(images.view.camera_ids.new_tensor(indices))
        hull = visual_hull(next(shown), still, cameras)
        added += len(hull.xyz)
        parts[frame] = Triangulated(
            np.concatenate([part.xyz, hull.xyz]),
            np.concatenate([part.rgb, hull.rgb]),
            part.per_camera + hull.per_camera,
        )
    return parts, f", {added} of them on the visual hull of what moves"


def _merge(
    parts: list[Triangulated], images: _Images, options: PreparedPointsOptions, note: str
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
            f"--triangulation.max-error{note}."
        )
    how = "carved" if options.method == "hull" else "triangulated"
    origin = f"{how} from {len(cameras)} cameras at {where}, {found} points{note}"
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
