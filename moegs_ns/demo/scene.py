"""The demo scene: a small moving world, ray-traced analytically and written in N3V layout.

A textured room with a glossy column, a turning crate, a ball in fast straight flight, a tentacle of
spheres whose axis bends, and a lamp that appears and vanishes. Everything is a function of the time
in [0, 1], so short and long clips show the same motions. World: metres, z up, the cameras look
along +y.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from moegs_ns.atomic_files import atomic_write
from moegs_ns.cameras import llff_from_opengl
from moegs_ns.data.camera_paths import look_at
from moegs_ns.demo.tracing import Rays
from moegs_ns.demo.world import trace, trace_still

SUPERSAMPLING = 3
NUM_POINTS = 4000
"""Initial points, unless others are asked for."""
_FIELD_OF_VIEW = np.deg2rad(62.0)
_TARGET = np.array([0.0, 0.45, 0.95])
_FPS = 12
_NEAR_FAR = (1.5, 9.0)


@dataclass(frozen=True, eq=False)
class DemoRig:
    """C cameras of one size, camera to world in OpenCV axes (right, down, forward)."""

    rotations: Float[np.ndarray, "C 3 3"]
    positions: Float[np.ndarray, "C 3"]
    focal: float
    width: int
    height: int

    def rays(self, camera: int, samples: int) -> Rays:
        """`samples` x `samples` rays through every pixel, row by row."""
        x, y = (
            (np.arange(size * samples, dtype=np.float32) + 0.5) / samples
            for size in (self.width, self.height)
        )
        u, v = np.meshgrid((x - self.width / 2) / self.focal, (y - self.height / 2) / self.focal)
        local = np.stack([u, v, np.ones_like(u)], axis=-1).reshape(-1, 3)
        local /= np.linalg.norm(local, axis=1, keepdims=True)
        directions = local @ self.rotations[camera].T.astype(np.float32)
        return Rays(self.positions[camera].astype(np.float32), np.ascontiguousarray(directions))

    def poses_bounds(self) -> Float[np.ndarray, "C 17"]:
        """LLFF rows: columns (down, right, back, centre, size and focal length), near, far."""
        columns = np.empty((len(self.positions), 3, 5))
        opengl = np.dstack([self.rotations * [1, -1, -1], self.positions])
        columns[:, :, :4] = llff_from_opengl(opengl)
        columns[:, :, 4] = self.height, self.width, self.focal
        return np.hstack([columns.reshape(-1, 15), np.tile(_NEAR_FAR, (len(columns), 1))])


def demo_rig(num_cameras: int, width: int, height: int) -> DemoRig:
    """Cameras on an arc in two alternating rows; camera 0 stands between the others."""
    others = num_cameras - 1
    angles = np.concatenate([[0.04], np.linspace(-0.52, 0.52, others)])
    heights = np.concatenate([[1.45], np.where(np.arange(others) % 2 == 0, 1.1, 1.8)])
    radii = np.concatenate([[4.2], np.where(np.arange(others) % 3 == 0, 4.1, 4.35)])
    positions = np.stack(
        [radii * np.sin(angles), _TARGET[1] - radii * np.cos(angles), heights], axis=1
    )
    opengl = look_at(positions, _TARGET, np.array([0.0, 0.0, 1.0]))
    rotations = opengl[:, :, :3] * [1, -1, -1]
    focal = width / 2 / np.tan(_FIELD_OF_VIEW / 2)
    return DemoRig(rotations, positions, float(focal), width, height)


def write_demo_scene(
    folder: Path,
    *,
    num_cameras: int = 10,
    num_frames: int = 24,
    width: int = 160,
    height: int = 120,
    num_points: int = NUM_POINTS,
    seed: int = 0,
) -> None:
    """Write `cam00.mp4` ..., `poses_bounds.npy` and `points3D.npz` into `folder`, replacing files.

    The same arguments give the same scene. Camera 0 is meant to be held out; the motions span the
    whole clip. There are at most as many points as the training cameras have pixels; `seed`
    decides which, and their noise.

    Raises:
        ValueError: too few cameras, frames or points, or an odd image size.
    """
    if num_cameras < 3 or num_frames < 1 or width % 2 or height % 2 or min(width, height) < 8:
        raise ValueError(
            "The demo scene needs at least 3 cameras, 1 frame and an even size of at least 8x8, "
            f"got {num_cameras} cameras, {num_frames} frames, {width}x{height}; choose others."
        )
    if num_points < 1:
        raise ValueError(f"The demo scene needs at least 1 point, got {num_points}; choose more.")
    folder.mkdir(parents=True, exist_ok=True)
    rig = demo_rig(num_cameras, width, height)

    def write_camera(camera: int) -> None:
        _write_video(folder / f"cam{camera:02d}.mp4", render_clip(rig, camera, num_frames))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(write_camera, range(num_cameras)))
    xyz, rgb = _surface_points(rig, num_points, np.random.default_rng(seed))
    np.savez(folder / "points3D.npz", xyz=xyz, rgb=rgb)
    # The poses come last: a folder without them is not taken for a scene.
    np.save(folder / "poses_bounds.npy", rig.poses_bounds())


def render_clip(rig: DemoRig, camera: int, num_frames: int) -> UInt8[np.ndarray, "F H W 3"]:
    """All frames of one camera."""
    rays = rig.rays(camera, SUPERSAMPLING)
    clip = np.empty((num_frames, rig.height, rig.width, 3), dtype=np.uint8)
    still = trace_still(rays)
    for frame in range(num_frames):
        colors = trace(rays, frame / max(num_frames - 1, 1), still).colors
        blocks = colors.reshape(rig.height, SUPERSAMPLING, rig.width, SUPERSAMPLING, 3)
        clip[frame] = np.clip(blocks.mean((1, 3)) * 255.0 + 0.5, 0, 255).astype(np.uint8)
    return clip


def _surface_points(
    rig: DemoRig, num_points: int, random: np.random.Generator
) -> tuple[Float[np.ndarray, "N 3"], UInt8[np.ndarray, "N 3"]]:
    """Noisy surface points at the first frame, as the training cameras see them."""
    xyz, rgb, moving = [], [], []
    for camera in range(1, len(rig.positions)):
        rays = rig.rays(camera, 1)
        hits = trace(rays, 0.0, trace_still(rays))
        xyz.append(rays.origin + rays.directions * hits.depths[:, None])
        rgb.append(hits.colors)
        moving.append(hits.is_moving)
    points, colors, is_moving = (np.concatenate(parts) for parts in (xyz, rgb, moving))
    # Moving shapes are small in the image; a quarter of the points covers them.
    weights = np.where(is_moving, 0.25 / max(is_moving.sum(), 1), 0.75 / (~is_moving).sum())
    count = min(num_points, len(points))
    chosen = random.choice(len(points), size=count, replace=False, p=weights / weights.sum())
    noisy = points[chosen] + random.normal(scale=0.01, size=(count, 3))
    return noisy.astype(np.float32), np.clip(colors[chosen] * 255, 0, 255).astype(np.uint8)


def _write_video(path: Path, clip: UInt8[np.ndarray, "F H W 3"]) -> None:
    """H.264 with full colour resolution, near-lossless."""
    import av

    # One thread: with several, x264 may cut the work differently on another machine.
    options = {"crf": "4", "preset": "medium", "threads": "1"}
    with (
        atomic_write(path, "video", "name another folder") as file,
        av.open(file, mode="w", format="mp4") as container,
    ):
        stream = container.add_stream("libx264", rate=_FPS, options=options)
        stream.height, stream.width = clip.shape[1:3]
        stream.pix_fmt = "yuv444p"
        for image in clip:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
