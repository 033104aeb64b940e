"""Initial points made ahead of training: frames triangulated one by one, merged and thinned out.

Each frame's points are a file in a folder beside the result, written atomically, so that an
interrupted run resumes with the missing frames.
"""

import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.utils.rich_utils import CONSOLE
from PIL import Image
from rich.progress import Progress

from moegs_ns.atomic_files import atomic_write
from moegs_ns.cameras import check_undistorted
from moegs_ns.data.calibration import check_scene
from moegs_ns.data.frames.dataset import with_image_ids
from moegs_ns.data.points.files import load_points
from moegs_ns.data.points.moving_seeds import (
    MovingSeeds,
    MovingSeedsOptions,
    find_moving_seeds,
)
from moegs_ns.data.points.scene_images import SceneImages
from moegs_ns.data.points.thinning import evenly_chosen
from moegs_ns.data.points.triangulation import (
    Triangulated,
    TriangulationOptions,
    require_pycolmap,
    triangulate,
)
from moegs_ns.data.points.visual_hull import visual_hull
from moegs_ns.progress import track

Method = Literal["auto", "features", "hull", "keep"]
FEW_POINTS = 300
"""Points of a frame below which features have not told where its surfaces are."""


@dataclass
class PreparedPointsOptions:
    """How a scene's initial points are made."""

    every: int = 0
    """0 triangulates the first frame; K the frames 0, K, 2K, ... and merges them."""
    method: Method = "auto"
    """Features that are triangulated; or the visual hull of what moves, for cameras that stand too
    far apart to find the same features; auto adds the hull where features give fewer than 300
    points. keep has the points that training starts from now, to which --moving adds seeds."""
    max_points: int | None = 100_000
    """Merged points beyond this number are thinned out, evenly in space; seeds not counted."""
    moving: bool = False
    """Also seed what moves, for cameras that stand still: at key frames the surface of all that
    differs from the background, with its time and velocity. Takes the place of other hulls."""
    key_frames_every: int = 5
    """Frames between two key frames of --moving."""
    seeds_per_key_frame: int = 2000
    """Most seeds of one key frame of --moving."""
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
        if self.method == "keep" and not self.moving:
            raise ValueError(
                "--method keep leaves the points as they are, so it expects --moving, which adds "
                "seeds to them; name both, or another method."
            )
        self.triangulation.check()
        self.moving_seeds.check()

    @property
    def moving_seeds(self) -> MovingSeedsOptions:
        """The options of --moving."""
        return MovingSeedsOptions(self.key_frames_every, self.seeds_per_key_frame, self.seed)


@dataclass(frozen=True)
class PreparedPoints:
    """What was written."""

    count: int
    origin: str
    """A sentence without its end."""
    per_camera: dict[int, int]
    """Number of the points, of all frames and before any are left out, that each camera has helped
    to find."""
    seeds: MovingSeeds | None = None
    """What moves, if it was wanted."""


def prepare_points(
    outputs: DataparserOutputs,
    options: PreparedPointsOptions,
    output: Path,
    folder: Path,
    present: Path | None = None,
    *,
    may_be_fewer: bool = True,
) -> PreparedPoints:
    """Find points of frames of a parser's training images, without validation cameras, and write
    them as initial points.

    The file, a .npz that is replaced if it exists, holds `xyz`, `rgb`, the numbers of the `cameras`
    used, the `origin` as a sentence and, where several frames were used, the `frame` of each point.
    Points of a single frame stand for the whole clip, so they have no frame. With seeds of what
    moves, it also holds the `moving_frame` of each point (-1 for others) and its `velocity` in
    world units per second, and a picture of them lies beside it. `folder` is the scene folder.
    `present` is the file of points that training starts from now; unless there may be fewer, it
    must not have more of them.

    Raises:
        ImportError: pycolmap is not installed.
        ValueError: the cameras do not allow it, no point was found or fewer than must be, there are
            none to keep, or an image is broken.
        OSError: the file cannot be written.
    """
    # Check options and cameras before any image is decoded.
    options.check()
    if options.method in ("auto", "features"):
        require_pycolmap()
    outputs = with_image_ids(outputs)
    _check_cameras(outputs)
    check_scene(outputs, folder, is_training=True)
    kept = _kept_points(present, folder) if options.method == "keep" else None
    # Triangulate each frame, or load what an interrupted run has left.
    images = SceneImages(outputs, options.every)
    seeds = _moving_seeds(outputs, options)
    work = output.with_name(f".{output.name}-frames")
    parts: dict[int, Triangulated] = {}
    if kept is None:
        parts, note = _found_points(images, options, work, folder)
        is_empty_allowed = seeds is not None and len(seeds) > 0
        kept = _merge(list(parts.values()), images, options, note, is_empty_allowed)
    # Merge the frames, thin the points out, and write them.
    arrays = kept if seeds is None else _with_seeds(kept, seeds)
    if not may_be_fewer:
        _check_count(len(arrays["xyz"]), present)
    if seeds is not None:
        _save_picture(seeds_picture(output), seeds)
    _save(output, arrays)
    shutil.rmtree(work, ignore_errors=True)
    per_camera: dict[int, int] = defaultdict(int)
    for frame, part in parts.items():
        for index, count in zip(images.frames[frame], part.per_camera.tolist(), strict=True):
            per_camera[images.camera_ids[index]] += count
    for camera, count in (seeds.per_camera if seeds else {}).items():
        per_camera[camera] += count
    return PreparedPoints(len(arrays["xyz"]), str(arrays["origin"]), dict(per_camera), seeds)


def _kept_points(present: Path | None, folder: Path) -> dict[str, np.ndarray]:
    """The arrays of the points that training starts from now, without earlier seeds."""
    if present is None:
        raise ValueError(
            f"--method keep expects a file of points in {folder}, which has none; leave --method "
            "out to make them."
        )
    points = load_points(present)
    if points.moving_frames is not None:
        points = points.select(points.moving_frames < 0)
    arrays = {
        "xyz": points.xyz, "rgb": points.rgb, "cameras": np.array(points.cameras, dtype=np.int64),
        "origin": np.array(f"{len(points.xyz)} points of {present.name}"),
    }  # fmt: skip
    return arrays if points.frames is None else arrays | {"frame": points.frames.astype(np.int32)}


def _found_points(
    images: SceneImages, options: PreparedPointsOptions, work: Path, folder: Path
) -> tuple[dict[int, Triangulated], str]:
    """Points of each frame, and what to say about them."""
    if options.method == "hull":
        parts = {frame: _no_points(len(of)) for frame, of in images.frames.items()}
    else:
        parts = _triangulate_all(images, options.triangulation, work, folder)
    poor = [frame for frame, part in parts.items() if len(part.xyz) < FEW_POINTS]
    if options.method != "features" and poor and not options.moving:
        return _with_hulls(parts, poor, images)
    return parts, ""


def _moving_seeds(outputs: DataparserOutputs, options: PreparedPointsOptions) -> MovingSeeds | None:
    """Seeds of what moves, if they are wanted."""
    if not options.moving:
        return None
    fps = float(outputs.metadata.get("fps", 0.0))
    return find_moving_seeds(SceneImages(outputs, 1), fps, options.moving_seeds)


def seeds_picture(output: Path) -> Path:
    """The picture of the moving seeds of a file of points."""
    return output.with_name(f"{output.stem}_moving.png")


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
    images: SceneImages, options: TriangulationOptions, work: Path, folder: Path
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
    parts: dict[int, Triangulated], frames: Sequence[int], images: SceneImages
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
    parts: list[Triangulated],
    images: SceneImages,
    options: PreparedPointsOptions,
    note: str,
    is_empty_allowed: bool,
) -> dict[str, np.ndarray]:
    """The arrays of the result."""
    xyz = np.concatenate([part.xyz for part in parts])
    rgb = np.concatenate([part.rgb for part in parts])
    frames = np.repeat(np.array(list(images.frames)), [len(part.xyz) for part in parts])
    found = len(xyz)
    cameras = sorted({images.camera_ids[i] for indices in images.frames.values() for i in indices})
    is_single = len(parts) == 1
    where = f"frame {next(iter(images.frames))}" if is_single else f"{len(parts)} frames"
    if not found and not is_empty_allowed:
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


def _with_seeds(arrays: dict[str, np.ndarray], seeds: MovingSeeds) -> dict[str, np.ndarray]:
    """The arrays of the result with seeds of what moves behind the other points."""
    count = len(arrays["xyz"])
    merged = arrays | {
        "xyz": np.concatenate([arrays["xyz"], seeds.xyz]),
        "rgb": np.concatenate([arrays["rgb"], seeds.rgb]),
        "moving_frame": np.concatenate([np.full(count, -1), seeds.frames]).astype(np.int32),
        "velocity": np.concatenate([np.zeros((count, 3), np.float32), seeds.velocities]),
        "cameras": np.union1d(arrays["cameras"], np.array(list(seeds.per_camera))),
        "origin": np.array(
            f"{arrays['origin']}, and {len(seeds)} seeds of what moves at "
            f"{len(seeds.per_frame)} key frames"
        ),
    }
    if "frame" in arrays:
        merged["frame"] = np.concatenate([arrays["frame"], seeds.frames]).astype(np.int32)
    return merged


def _save_picture(path: Path, seeds: MovingSeeds) -> None:
    with atomic_write(path, "picture of the seeds", "name another --output") as file:
        Image.fromarray(seeds.picture).save(file, format="PNG")


def _check_count(count: int, replaced: Path | None) -> None:
    before = 0 if replaced is None else len(load_points(replaced).xyz)
    if count < before:
        raise ValueError(
            f"Expected at least as many points as the {before:,} of {replaced}, which training "
            f"would not read any more, but found {count:,}; nothing was changed. Add --fewer to "
            "train from these all the same, or write them to another --output to compare."
        )


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with atomic_write(path, "points", "name another --output") as file:
        np.savez(file, **arrays)
