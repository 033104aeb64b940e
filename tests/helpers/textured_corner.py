"""The corner of a room with textured walls, recorded by known cameras."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from wedge import texture

WIDTH, HEIGHT = 240, 180


@dataclass(frozen=True)
class CornerCamera:
    """A pinhole, or a lens with one coefficient of distortion, that looks into the corner."""

    number: int
    num_cameras: int
    is_alike: bool = False
    """Whether its lens is that of all others, and has no distortion."""

    @property
    def name(self) -> str:
        return f"cam{self.number:02d}"

    @property
    def focal(self) -> float:
        """A zoom of its own, unless all are alike."""
        return 240.0 if self.is_alike else 215.0 + 12.0 * self.number

    @property
    def k1(self) -> float:
        return 0.0 if self.is_alike else -0.08 + 0.02 * self.number

    @property
    def position(self) -> np.ndarray:
        angle = self.number / (self.num_cameras - 1) - 0.5
        radius = 4.0 + 0.3 * (self.number % 3)
        height = -0.5 + 0.5 * (self.number % 2)
        return np.array([radius * np.sin(angle), height, -radius * np.cos(angle)])

    @property
    def rotation(self) -> np.ndarray:
        """World to camera, OpenCV axes; y is down."""
        forward = np.array([0.0, 0.4, 0.6]) - self.position
        forward /= np.linalg.norm(forward)
        right = np.cross([0.0, 1.0, 0.0], forward)
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(forward, right), forward])

    def images(self, num_frames: int) -> list[np.ndarray]:
        """Two walls, which meet at the back, a floor, and a board that moves and has another
        texture at each instant."""
        directions, origin = self._rays(), self.position
        # Planes with a normal n and n x = d, and two axes for their textures.
        half = np.sqrt(0.5)
        planes = [
            ([half, 0.0, half], 2.0, [half, 0.0, -half], [0.0, 1.0, 0.0]),
            ([-half, 0.0, half], 2.0, [half, 0.0, half], [0.0, 1.0, 0.0]),
            ([0.0, 1.0, 0.0], 1.3, [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]),
        ]
        depth = np.full(directions.shape[:2], np.inf)
        gray = np.zeros(depth.shape)
        for number, (normal, offset, right, down) in enumerate(planes):
            toward = directions @ normal
            at = (offset - origin @ normal) / np.where(toward > 1e-6, toward, 1e-6)
            is_nearer = (toward > 1e-6) & (at < depth)
            points = origin + at[is_nearer][:, None] * directions[is_nearer]
            gray[is_nearer] = texture(points @ right + 5.0 * number, points @ down + 10.0)
            depth = np.where(is_nearer, at, depth)
        return [self._with_board(gray, depth, directions, frame) for frame in range(num_frames)]

    def _rays(self) -> np.ndarray:
        """Directions in the world through the pixels, undistorted by fixed-point steps."""
        y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
        flat = np.stack([x - WIDTH / 2, y - HEIGHT / 2], axis=-1) / self.focal
        ray = flat.copy()
        for _ in range(20):
            ray = flat / (1.0 + self.k1 * (ray**2).sum(-1, keepdims=True))
        return np.concatenate([ray, np.ones_like(ray[..., :1])], axis=-1) @ self.rotation

    def _with_board(
        self, gray: np.ndarray, depth: np.ndarray, directions: np.ndarray, frame: int
    ) -> np.ndarray:
        at = (0.3 + 0.1 * frame - self.position[2]) / directions[..., 2]
        points = self.position + at[..., None] * directions
        across, along = points[..., 0] - 0.3 * (frame - 1), points[..., 1] - 0.4
        is_board = (np.abs(across) < 0.5) & (np.abs(along) < 0.5) & (at > 0) & (at < depth)
        shown = gray.copy()
        shown[is_board] = texture(across[is_board] + 3.0 + 4.0 * frame, along[is_board] + 7.0)
        return np.repeat((255 * shown + 0.5).astype(np.uint8)[..., None], 3, axis=2)


def record_corner(
    folder: Path, num_cameras: int = 6, num_frames: int = 3, *, are_alike: bool = False
) -> list[CornerCamera]:
    """A folder of images for each camera."""
    cameras = [CornerCamera(number, num_cameras, are_alike) for number in range(num_cameras)]
    for camera in cameras:
        (folder / camera.name).mkdir(parents=True)
        for frame, image in enumerate(camera.images(num_frames)):
            Image.fromarray(image).save(folder / camera.name / f"{frame:04d}.png")
    return cameras
