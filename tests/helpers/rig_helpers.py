"""Known cameras, and files that tools write of them."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from data_helpers import test_image
from PIL import Image

from moegs_ns.data.frames.undistortion import Lens
from moegs_ns.data.rig_files import RIG, Rig, RigCamera, write_rig

POINTS = np.array([[0.0, 0, 0], [0.3, -0.2, 0.1], [-0.25, 0.15, -0.3], [0.1, 0.3, 0.2]])
"""In the view of all known cameras."""
DISTORTION = (-0.12, 0.03, 0.002, -0.001, 0.004)


@dataclass(frozen=True, eq=False)
class KnownCamera:
    """A camera in the terms of OpenCV, whose first pixel has its centre at (0, 0)."""

    name: str
    K: np.ndarray
    distortion: tuple[float, ...]
    R: np.ndarray
    t: np.ndarray
    width: int = 640
    height: int = 480
    is_fisheye: bool = False

    @property
    def vector(self) -> np.ndarray:
        return cv2.Rodrigues(self.R)[0][:, 0]

    @property
    def position(self) -> np.ndarray:
        return -self.R.T @ self.t

    @property
    def center(self) -> tuple[float, float]:
        """Principal point where the first pixel has its centre at (0.5, 0.5)."""
        return float(self.K[0, 2]) + 0.5, float(self.K[1, 2]) + 0.5

    @property
    def opengl(self) -> np.ndarray:
        """Camera to world, 4x4."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.R.T * (1.0, -1.0, -1.0)
        matrix[:3, 3] = self.position
        return matrix

    def pixels(self) -> np.ndarray:
        """Where `POINTS` are seen, in pixels whose first has its centre at (0.5, 0.5)."""
        project = cv2.fisheye.projectPoints if self.is_fisheye else cv2.projectPoints
        points, distortion = POINTS[:, None], np.array(self.distortion or (0.0,) * 4)
        if self.is_fisheye:
            flat, _ = project(points, self.vector, self.t, self.K, distortion)  # pyright: ignore
        else:
            flat, _ = project(points, self.vector, self.t, self.K, distortion)  # pyright: ignore
        return flat.reshape(-1, 2) + 0.5


def known_cameras(
    names: tuple[str, ...] = ("cam00", "cam01", "cam02"),
    distortion: tuple[float, ...] = DISTORTION,
    **changes,
) -> list[KnownCamera]:
    """Cameras on an arc that look at the origin, with principal points of their own."""
    cameras = []
    for number, name in enumerate(names):
        angle = 0.5 * number - 0.4
        position = np.array([3.0 * np.sin(angle), -0.4 - 0.1 * number, -3.0 * np.cos(angle)])
        forward = -position / np.linalg.norm(position)
        right = np.cross([0.0, 1.0, 0.0], forward)
        right /= np.linalg.norm(right)
        R = np.stack([right, np.cross(forward, right), forward])
        K = np.array([[600.0 + 9 * number, 0, 331.25 - 4 * number], [0, 603.0, 228.5], [0, 0, 1]])
        cameras.append(KnownCamera(name, K, distortion, R, -R @ position, **changes))
    return cameras


def centred(camera: KnownCamera) -> KnownCamera:
    """One focal length, no distortion, and the principal point in the middle of the image."""
    K = np.array([[600.0, 0, camera.width / 2 - 0.5], [0, 600.0, camera.height / 2 - 0.5]])
    return replace(camera, K=np.vstack([K, [0, 0, 1.0]]), distortion=())


def lens_of(camera: KnownCamera, width: int, height: int) -> Lens:
    """The lens of a camera whose images are resized."""
    lens = Lens(
        fx=float(camera.K[0, 0]),
        fy=float(camera.K[1, 1]),
        cx=camera.center[0],
        cy=camera.center[1],
        model="fisheye" if camera.is_fisheye else "opencv",
        distortion=camera.distortion,
    )
    return lens.scaled(width / camera.width, height / camera.height)


def rig_scene(
    folder: Path,
    cameras: list[KnownCamera] | None = None,
    *,
    sizes: tuple[tuple[int, int], ...] = ((24, 16), (24, 16), (24, 16)),
    num_frames: int = 4,
    ending: str = ".png",
) -> Path:
    """Folders of images whose cameras are known, and their rig file."""
    cameras = known_cameras(distortion=()) if cameras is None else cameras
    described = []
    for number, (camera, (width, height)) in enumerate(zip(cameras, sizes, strict=True)):
        images = folder / f"view {camera.name}"
        images.mkdir(parents=True)
        for frame in range(num_frames):
            image = Image.fromarray(test_image(number, frame, width, height))
            image.save(images / f"f{frame}{ending}")
        described.append(
            RigCamera(
                camera.name,
                images.name,
                width,
                height,
                lens_of(camera, width, height),
                np.c_[camera.R, camera.t],
                fps=25.0,
            )
        )
    write_rig(folder / RIG, Rig(tuple(described), "m"))
    return folder


def edit_rig(folder: Path, camera: int, **changes) -> None:
    """Change entries of one camera in a rig file."""
    content = json.loads((folder / RIG).read_text())
    content["cameras"][camera] |= changes
    (folder / RIG).write_text(json.dumps(content))
