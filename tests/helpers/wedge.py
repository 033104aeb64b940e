"""A wall and a floor with known geometry, on disk in PanopticSports layout."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

FLOOR = 1.0
"""Height y (down) of the floor."""
WIDTH, HEIGHT = 160, 120


def wall(frame: int) -> float:
    """Depth z of the wall, which steps back from frame to frame."""
    return 4.0 + 0.4 * frame


def wedge_scene(folder: Path, num_frames: int = 3, num_cameras: int = 7) -> Path:
    """Camera 2 is held out, the others train; no two have the same principal point."""
    rig = [_WedgeCamera(number, num_cameras) for number in range(num_cameras)]
    for split in ("train", "test"):
        cameras = [camera for camera in rig if (camera.number == 2) == (split == "test")]
        meta: dict = {"w": WIDTH, "h": HEIGHT, "k": [], "w2c": [], "fn": [], "cam_id": []}
        for frame in range(num_frames):
            meta["k"].append([camera.K.tolist() for camera in cameras])
            meta["w2c"].append([camera.viewmat.tolist() for camera in cameras])
            meta["fn"].append([f"{camera.number}/{frame:06d}.png" for camera in cameras])
            meta["cam_id"].append([camera.number for camera in cameras])
            for camera in cameras:
                path = folder / "ims" / f"{camera.number}" / f"{frame:06d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(camera.image(frame)).save(path)
        (folder / f"{split}_meta.json").write_text(json.dumps(meta))
    return folder


def distances(xyz: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Of points to the nearer of the two surfaces of their frame."""
    to_wall = np.abs(xyz[:, 2] - np.array([wall(frame) for frame in frames]))
    return np.minimum(to_wall, np.abs(xyz[:, 1] - FLOOR))


@dataclass(frozen=True)
class _WedgeCamera:
    number: int
    num_cameras: int

    @property
    def K(self) -> np.ndarray:
        shift = 7.0 * (self.number - 3)
        return np.array([[150.0, 0, 80 + shift], [0, 155.0, 60 - 0.5 * shift], [0, 0, 1]])

    @property
    def viewmat(self) -> np.ndarray:
        side = self.number / (self.num_cameras - 1) - 0.5
        angle = 0.5 * side  # the cameras stand on an arc and look inwards
        rotation = np.array(
            [
                [np.cos(angle), 0, np.sin(angle)],
                [0, 1, 0],
                [-np.sin(angle), 0, np.cos(angle)],
            ]
        )
        viewmat = np.eye(4)
        viewmat[:3, :3] = rotation
        viewmat[:3, 3] = -rotation @ np.array([2.4 * side, 0.15 * (-1) ** self.number, 0.0])
        return viewmat

    def image(self, frame: int) -> np.ndarray:
        """The nearer surface along the ray of every sub-pixel, four of them in a pixel."""
        to_world = np.linalg.inv(self.viewmat)
        y, x = (np.mgrid[: 2 * HEIGHT, : 2 * WIDTH] + 0.5) / 2
        local = np.stack([x, y, np.ones_like(x)], axis=-1) @ np.linalg.inv(self.K).T
        directions, origin = local @ to_world[:3, :3].T, to_world[:3, 3]
        at_wall = (wall(frame) - origin[2]) / directions[..., 2]
        down = np.maximum(directions[..., 1], 1e-9)
        depth = np.minimum(at_wall, (FLOOR - origin[1]) / down)
        points = origin + depth[..., None] * directions
        is_wall = depth == at_wall
        across, along = points[..., 0], np.where(is_wall, points[..., 1], points[..., 2] + 20.0)
        gray = texture(across, along)
        color = np.stack([gray, 0.9 * gray, np.where(is_wall, 0.3, 0.8) * gray], axis=-1)
        blocks = color.reshape(HEIGHT, 2, WIDTH, 2, 3).mean((1, 3))
        return (255 * blocks + 0.5).astype(np.uint8)


def texture(across: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Smooth random spots, a few pixels wide."""
    noise = np.random.default_rng(0).random((256, 256))
    u, v = 12.0 * across % 256, 12.0 * along % 256
    i, j = u.astype(int), v.astype(int)
    a, b = u - i, v - j
    upper = (1 - b) * noise[i, j] + b * noise[i, (j + 1) % 256]
    lower = (1 - b) * noise[(i + 1) % 256, j] + b * noise[(i + 1) % 256, (j + 1) % 256]
    return (1 - a) * upper + a * lower
