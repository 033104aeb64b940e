"""Rigs of known cameras that look at known moving dots, for tests that write them in some layout.

A parser is right if the dots stand where its cameras project them to, in the images as they are
decoded for training: that takes in poses, intrinsics, distortion, scaling and the order of images.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from PIL import Image

from moegs_ns.cameras import view_from_cameras
from moegs_ns.data.datamanager import MoegsDataManager, MoegsDataManagerConfig
from moegs_ns.data.dataparsers.multiview import SceneParserConfig
from moegs_ns.data.frames.dataset import FrameDataset

BLUR = 1.3
"""Standard deviation of a dot in pixels."""
WINDOW = 5
"""Pixels to each side of where a dot is expected in which its centre is measured."""


@dataclass(frozen=True, eq=False)
class KnownCamera:
    """A camera in OpenCV axes, world to camera; pixel centres at half-integers."""

    R: np.ndarray
    t: np.ndarray
    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int
    distortion: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0)
    """k1, k2, p1, p2, k3, as OpenCV orders them."""

    @property
    def center(self) -> np.ndarray:
        return -self.R.T @ self.t

    @property
    def viewmat(self) -> np.ndarray:
        viewmat = np.eye(4)
        viewmat[:3, :3], viewmat[:3, 3] = self.R, self.t
        return viewmat

    @property
    def opengl(self) -> np.ndarray:
        """Camera to world [4, 4] with x right, y up, z back."""
        return np.linalg.inv(self.viewmat) @ np.diag([1.0, -1.0, -1.0, 1.0])

    @property
    def K(self) -> np.ndarray:
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1.0]])

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Where the lens shows points [N, 3] of the world, [N, 2]."""
        local = points @ self.R.T + self.t
        x, y = (local[:, :2] / local[:, 2:]).T
        k1, k2, p1, p2, k3 = self.distortion
        r2 = x * x + y * y
        radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
        u = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
        v = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
        return np.stack([self.fx * u + self.cx, self.fy * v + self.cy], axis=1)

    def image(self, frame: int) -> Image.Image:
        """The dots at one frame, white on black."""
        columns, rows = np.arange(self.width) + 0.5, np.arange(self.height) + 0.5
        image = np.zeros((self.height, self.width))
        for u, v in self.pixels(dots(frame)):
            squared = (columns[None] - u) ** 2 + (rows[:, None] - v) ** 2
            image = np.maximum(image, np.exp(-squared / (2 * BLUR**2)))
        return Image.fromarray((255 * image).round().astype(np.uint8)).convert("RGB")


def dots(frame: int) -> np.ndarray:
    """Known points of the world [N, 3] at the frame with this number in the files."""
    x, y = np.meshgrid([-0.9, 0.0, 0.9], [-0.6, 0.0, 0.6])
    z = [0.4, -0.3, 0.2, -0.4, 0.1, 0.3, -0.2, 0.5, -0.1]
    shift = 0.04 * (frame % 10) * np.array([1.0, -0.7, 0.4])
    return np.stack([x.ravel(), y.ravel(), z], axis=1) + shift + np.array([0.3, -0.2, 0.5])


def known_camera(
    number: int,
    *,
    width: int = 160,
    height: int = 120,
    shift: tuple[float, float] = (0.0, 0.0),
    ratio: float = 1.0,
    distortion: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0),
) -> KnownCamera:
    """A camera near (2, 1, -4) that looks at the dots, a little rolled; `shift` is that of its
    principal point from the centre, `ratio` fy / fx."""
    center = np.array([2.0 - 0.23 * (number % 4), 1.0 - 0.19 * (number // 4), -4.0])
    forward = np.array([0.3, -0.2, 0.5]) - center
    forward /= np.linalg.norm(forward)
    right = np.cross([0.05 * (number % 3), 1.0, 0.1], forward)
    right /= np.linalg.norm(right)
    R = np.stack([right, np.cross(forward, right), forward])
    focal = (1.5 + 0.02 * number) * width
    middle = width / 2 + shift[0], height / 2 + shift[1]
    return KnownCamera(
        R, -R @ center, focal, focal * ratio, *middle, width, height, distortion=distortion
    )


def assert_dots_where_expected(
    outputs: DataparserOutputs, store: Path, largest: float = 0.5
) -> None:
    """Fail unless the dots of every decoded image are where its camera projects the points of its
    frame to, within `largest` pixels."""
    dataset = FrameDataset(outputs, data=store, frame_store_dir=store)
    first = int(outputs.metadata["first_frame"])
    seen = 0
    for index in range(len(dataset)):
        view = view_from_cameras(dataset.cameras[index : index + 1])
        frame = first + int(dataset.frame_table.frame_ids[index])
        points = torch.from_numpy(dots(frame)).float()
        local = points @ view.viewmats[0, :3, :3].T + view.viewmats[0, :3, 3]
        projected = (local @ view.Ks[0].T).numpy()
        image = dataset.get_numpy_image(index)[:, :, 0].astype(float)
        for u, v, depth in projected:
            found = _centroid(image, u / depth, v / depth)
            if found is not None:
                distance = np.hypot(found[0] - u / depth, found[1] - v / depth)
                assert distance < largest, f"{outputs.image_filenames[index]}: {distance} pixels"
                seen += 1
    # Some dots of most images must have been looked at, or nothing was tested.
    assert seen >= 3 * len(dataset), f"{seen} dots in {len(dataset)} images"


def assert_served(parser: SceneParserConfig) -> MoegsDataManager:
    """Fail unless training and evaluation images and points reach a method."""
    datamanager = MoegsDataManagerConfig(dataparser=parser).setup(device="cpu", test_mode="val")
    camera, batch = datamanager.next_train(0)
    height, width = int(camera.height[0, 0]), int(camera.width[0, 0])
    assert batch["image"].shape == (1, height, width, 3)
    for index in range(len(datamanager.eval_dataset)):
        camera, batch = datamanager.eval_item(index)
        assert batch["image"].shape == (int(camera.height[0, 0]), int(camera.width[0, 0]), 3)
    assert len(datamanager.train_dataset.metadata["points3D_xyz"]) > 0
    assert datamanager.train_dataset.metadata["scene"].num_frames > 1
    return datamanager


def _centroid(image: np.ndarray, u: float, v: float) -> tuple[float, float] | None:
    """Centre of what is bright near a pixel; None at the border of the image."""
    column, row = int(u), int(v)
    size = 2 * WINDOW + 1
    patch = image[max(row - WINDOW, 0) : row + WINDOW + 1, max(column - WINDOW, 0) :][:, :size]
    if row < WINDOW or column < WINDOW or patch.shape != (size, size):
        return None
    assert patch.max() > 60, f"no dot near {u:.1f}, {v:.1f}"
    weights = patch / patch.sum()
    offsets = np.arange(size) - WINDOW + 0.5
    return column + float(weights.sum(0) @ offsets), row + float(weights.sum(1) @ offsets)
