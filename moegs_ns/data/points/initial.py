"""Initial points: from a file, at random inside the common view of the cameras, or both."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from moegs_ns.data.points.files import PointCloud, load_points

PREPARED_POINTS = "moegs_points.npz"
"""File in a scene folder that `moegs prepare points` writes; parsers look for it first."""
MAX_CAMERAS = 100
"""Cameras that decide where random points belong; more are subsampled evenly."""
MIN_POINTS_FOR_BOX = 100
"""Fewer points than this do not tell how large the scene is."""
OUTLIER_FRACTION = 0.01
"""Fraction of the points at either end of each axis that the box of a cloud leaves out."""
BOX_MARGIN = 0.1
"""Enlargement of that box on every side, as a fraction of its size."""
_ROUNDS = 200


@dataclass(frozen=True, eq=False)
class Frustums:
    """C pinhole cameras of one image size, camera to world in OpenGL axes."""

    camera_to_worlds: Float[np.ndarray, "C 3 4"]
    Ks: Float[np.ndarray, "C 3 3"]
    width: int
    height: int
    bounds: Float[np.ndarray, "C 2"] | None = None
    """Nearest and farthest depth of the scene per camera; None where unknown."""

    def distinct(self) -> "Frustums":
        """Every pose once, at most `MAX_CAMERAS` evenly spaced ones of them."""
        poses = self.camera_to_worlds.copy()
        # Rounded in units of the rig, whatever those of the world.
        poses[:, :, 3] -= poses[:, :, 3].mean(0)
        poses[:, :, 3] /= np.abs(poses[:, :, 3]).max() or 1.0
        flat = np.round(poses.reshape(len(self.Ks), -1), 6)
        rows = np.sort(np.unique(flat, axis=0, return_index=True)[1])
        if len(rows) > MAX_CAMERAS:
            rows = rows[np.linspace(0, len(rows) - 1, MAX_CAMERAS).astype(int)]
        bounds = None if self.bounds is None else self.bounds[rows]
        return replace(
            self, camera_to_worlds=self.camera_to_worlds[rows], Ks=self.Ks[rows], bounds=bounds
        )

    def depth_range(self) -> Float[np.ndarray, "C 2"]:
        """Per camera the known bounds, else half to one and a half times the depth of the point
        nearest to all optical axes, else a range from the spread of the cameras."""
        if self.bounds is not None:
            return self.bounds
        positions, forward = self.camera_to_worlds[:, :, 3], -self.camera_to_worlds[:, :, 2]
        system, moments = nearest_to_axes(self.camera_to_worlds)
        if np.linalg.cond(system) < 1e4:
            target = np.linalg.solve(system, moments)
            depths = np.einsum("ci,ci->c", target - positions, forward)
            if (depths > 0).mean() > 0.5:
                typical = np.median(depths[depths > 0])
                depths = np.where(depths > 0, depths, typical)
                return np.stack([0.5 * depths, 1.5 * depths], axis=1)
        # One camera, or parallel axes: only the size of the rig gives a scale for the depth.
        spread = float(np.linalg.norm(positions - positions.mean(0), axis=1).max()) or 1.0
        return np.tile(np.array([1.0, 10.0]) * spread, (len(positions), 1))

    def see(
        self, points: Float[np.ndarray, "N 3"], depth_range: Float[np.ndarray, "C 2"]
    ) -> Bool[np.ndarray, "C N"]:
        """Whether a point is inside a camera's image and depth range."""
        local = np.einsum(
            "cji,cnj->cni",
            self.camera_to_worlds[:, :, :3],
            points[None] - self.camera_to_worlds[:, None, :, 3],
        )
        depth = -local[:, :, 2]
        safe = np.where(depth > 0, depth, 1.0)
        fx, fy, cx, cy = (self.Ks[:, i, j, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
        u, v = fx * local[:, :, 0] / safe + cx, cy - fy * local[:, :, 1] / safe
        inside = (u >= 0) & (u < self.width) & (v >= 0) & (v < self.height)
        near, far = depth_range[:, :1], depth_range[:, 1:]
        return inside & (depth >= near) & (depth <= far) & (depth > 0)

    def sample(
        self, depth_range: Float[np.ndarray, "C 2"], count: int, random: np.random.Generator
    ) -> Float[np.ndarray, "N 3"]:
        """Points behind uniform pixels of random cameras, uniform in volume between the bounds."""
        camera = random.integers(len(self.Ks), size=count)
        near, far = np.maximum(depth_range[camera], 1e-6 * depth_range.max()).T
        depth = np.cbrt(near**3 + (far**3 - near**3) * random.random(count))
        K = self.Ks[camera]
        x = (random.random(count) * self.width - K[:, 0, 2]) / K[:, 0, 0]
        y = (random.random(count) * self.height - K[:, 1, 2]) / K[:, 1, 1]
        local = np.stack([x, -y, -np.ones(count)], axis=1) * depth[:, None]
        pose = self.camera_to_worlds[camera]
        return np.einsum("nij,nj->ni", pose[:, :, :3], local) + pose[:, :, 3]


def nearest_to_axes(
    camera_to_worlds: Float[np.ndarray, "C 3 4"],
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]]:
    """Normal equations A x = b of the point x nearest to all optical axes; A is singular where
    these are parallel."""
    axes = camera_to_worlds[:, :, 2]
    projectors = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    return projectors.sum(0), np.einsum("cij,cj->i", projectors, camera_to_worlds[:, :, 3])


def find_points(folder: Path, named: Path | None, search: Iterable[str]) -> Path | None:
    """The file that the user named, or the first of `search` that exists in the scene folder.

    Raises:
        FileNotFoundError: the file that the user named does not exist.
        ValueError: the first that exists is no file.
    """
    candidates = [folder / name for name in ([named] if named else search)]
    found = next((path for path in candidates if path.exists() or path.is_symlink()), None)
    if found is not None and not found.is_file():
        raise ValueError(
            f"Expected a file of initial points at {found}, but it is a folder, or a link that "
            "leads nowhere; remove it, or name another with --points-file."
        )
    if named and not found:
        raise FileNotFoundError(
            f"Expected initial points at {candidates[0]} (--points-file), but there is no such "
            "file; correct the path or leave the option out."
        )
    return found


def initial_points(
    path: Path | None,
    frustums: Frustums,
    frames: range,
    num_recorded: int,
    *,
    num_random_points: int,
    min_points: int,
    seed: int = 0,
    own: PointCloud | None = None,
) -> PointCloud:
    """Points of a file, or else the scene's `own`, topped up at random to `min_points`; without
    either, random points.

    Points of other frames than `frames`, which are some of the `num_recorded` frames of the
    recording, are left out; frames of `own` are counted from the first of these.

    Raises:
        ValueError: the file cannot be understood, or its frames are not those of the recording.
    """
    if path is not None:
        points = _clip_frames(load_points(path), frames, num_recorded, path)
    elif own is not None:
        points = own
    else:
        return random_points(frustums, num_random_points, seed=seed)
    if len(points.xyz) < min_points:
        points = _topped_up(points, frustums, min_points, seed)
    return points


def leak_warning(metadata: dict[str, Any], train_cameras: Iterable[int]) -> str:
    """One sentence if cameras that are not trained on helped to place the points, else ""; given
    the metadata of a parser's outputs and the numbers of the cameras that are trained on."""
    leaked = sorted(set(metadata.get("points3D_cameras", ())) - set(train_cameras))
    if not leaked:
        return ""
    return (
        f"Warning: images of camera {' '.join(map(str, leaked))}, which this run does not train "
        "on, helped to place the initial points, so scores on them flatter; prepare the points "
        "again with --val-cameras."
    )


def _clip_frames(points: PointCloud, frames: range, num_recorded: int, path: Path) -> PointCloud:
    """Points of the chosen frames only, counted from the first of these."""
    numbers, moving = points.frames, points.moving_frames
    if moving is not None:
        # A seed belongs to the frame in which it moves, other points to theirs, if they have any.
        others = frames.start if numbers is None else numbers
        numbers = np.where(moving >= 0, moving, others)
    if numbers is None:
        return points
    first, last = int(numbers.min()), int(numbers.max())
    keep = (numbers >= frames.start) & (numbers < frames.stop)
    if not (first >= 0 and last < num_recorded and keep.any()):
        raise ValueError(
            f"Expected points of the frames {frames.start} to {frames.stop - 1} in {path}, whose "
            f"recording has {num_recorded} frames, but they belong to {first} to {last}; make the "
            "points again from this clip, or name others with --points-file."
        )
    origin = points.origin
    if not keep.all():
        chosen = f"frames {frames.start} to {frames.stop - 1}"
        origin = f"{origin[:-1]}, of which {int(keep.sum())} belong to {chosen}."
    counted = replace(
        points,
        frames=None if points.frames is None else numbers - frames.start,
        moving_frames=None if moving is None else np.where(moving >= 0, moving - frames.start, -1),
        origin=origin,
    )
    return counted.select(keep)


# ---- random points ----


def random_points(frustums: Frustums, count: int, *, seed: int = 0) -> PointCloud:
    """Greyish points in the common view of the cameras; the same for the same seed.

    At least two cameras (one, if there is only one) see each point, and at least half as many as
    see the best seen points.
    """
    random = np.random.default_rng(seed)
    frustums = frustums.distinct()
    depth_range = frustums.depth_range()
    # Measure how many cameras see the best points once, so that the result does not depend on how
    # the rounds are cut.
    probe = frustums.sample(depth_range, 4096, random)
    best = int(frustums.see(probe, depth_range).sum(0).max())
    needed = max(min(2, len(frustums.Ks)), (best + 1) // 2)
    xyz = _accepted(
        lambda number: frustums.sample(depth_range, number, random),
        lambda points: frustums.see(points, depth_range).sum(0) >= needed,
        count,
    )
    origin = f"Initial points: {count} random ones inside the cameras' common view."
    return PointCloud(xyz.astype(np.float32), _greyish(random, count), None, origin)


def _points_in_box(
    frustums: Frustums, xyz: Float[np.ndarray, "N 3"], count: int, seed: int
) -> PointCloud:
    """Greyish points that at least two cameras see, in the enlarged box of most of `xyz`."""
    random = np.random.default_rng(seed)
    lower, upper = np.quantile(xyz, [OUTLIER_FRACTION, 1.0 - OUTLIER_FRACTION], axis=0)
    margin = BOX_MARGIN * (upper - lower)
    frustums = frustums.distinct()
    any_depth = np.tile(np.array([0.0, np.inf]), (len(frustums.Ks), 1))
    xyz = _accepted(
        lambda number: random.uniform(lower - margin, upper + margin, size=(number, 3)),
        lambda points: frustums.see(points, any_depth).sum(0) >= min(2, len(frustums.Ks)),
        count,
    )
    return PointCloud(xyz.astype(np.float32), _greyish(random, count), None, "")


def _accepted(
    sample: Callable[[int], np.ndarray], accept: Callable[[np.ndarray], np.ndarray], count: int
) -> Float[np.ndarray, "N 3"]:
    """Rejection sampling in rounds; what is still missing after many rounds is taken unseen."""
    found = np.empty((0, 3))
    for _ in range(_ROUNDS):
        points = sample(min(max(2 * count, 1024), 20_000))
        found = np.concatenate([found, points[accept(points)]])
        if len(found) >= count:
            return found[:count]
    # The views of the cameras hardly overlap: points that one camera sees must do.
    return np.concatenate([found, sample(count - len(found))])


def _greyish(random: np.random.Generator, count: int) -> UInt8[np.ndarray, "N 3"]:
    return random.integers(96, 160, size=(count, 3), dtype=np.uint8)


def _topped_up(points: PointCloud, frustums: Frustums, min_points: int, seed: int) -> PointCloud:
    missing = min_points - len(points.xyz)
    if len(points.xyz) < MIN_POINTS_FOR_BOX:
        extra, where = random_points(frustums, missing, seed=seed), "in the cameras' common view"
    else:
        # The walls of a room lie outside of the view that most cameras share, but inside the box of
        # the triangulated points.
        extra, where = _points_in_box(frustums, points.xyz, missing, seed), "in their box"
    frames = points.frames
    if frames is not None:
        # Random points belong to no frame; spread them over the frames of the file, so that they do
        # not crowd a single one.
        covered = np.unique(frames) if len(frames) else np.zeros(1, dtype=np.int64)
        random = np.random.default_rng(seed + 1)
        frames = np.concatenate([frames, random.choice(covered, size=missing)])
    moving, velocities = points.moving_frames, points.velocities
    if moving is not None and velocities is not None:
        moving = np.concatenate([moving, np.full(missing, -1)])
        velocities = np.concatenate([velocities, np.zeros((missing, 3), np.float32)])
    return replace(
        points,
        xyz=np.concatenate([points.xyz, extra.xyz]),
        rgb=np.concatenate([points.rgb, extra.rgb]),
        frames=frames,
        moving_frames=moving,
        velocities=velocities,
        origin=f"{points.origin[:-1]}; {missing} random ones added {where}.",
    )
