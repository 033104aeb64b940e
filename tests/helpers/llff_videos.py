"""Videos of one camera with LLFF poses: moving, as of NSFF, and still, as of EndoNeRF."""

from pathlib import Path

import numpy as np
from layouts import KnownCamera, known_camera
from PIL import Image

from moegs_ns.cameras import llff_from_opengl

DEPTH = 150
"""Of the plane in depth maps."""


def write_rows(path: Path, cameras: list[KnownCamera], poses: np.ndarray) -> None:
    """One row for each image; poses [N, 3, 4] are LLFF's."""
    sizes = [np.array([[c.height], [c.width], [c.fx]]) for c in cameras]
    rows = np.concatenate([poses, np.stack(sizes)], axis=2).reshape(-1, 15)
    np.save(path, np.concatenate([rows, np.tile([1.0, 9.0], (len(rows), 1))], axis=1))


def moving_video(folder: Path, count: int = 11) -> Path:
    """A camera that moves from each place to the next."""
    (folder / "images").mkdir(parents=True)
    cameras = [known_camera(number) for number in range(count)]
    for frame, camera in enumerate(cameras):
        camera.image(frame).save(folder / "images" / f"{frame:05d}.png")
    poses = llff_from_opengl(np.stack([camera.opengl[:3] for camera in cameras]))
    write_rows(folder / "poses_bounds.npy", cameras, poses)
    return folder


def still_video(folder: Path, count: int = 11) -> Path:
    """Identity poses. A tool, 255 in the masks, hides a third of each image: the left one until
    frame 5, the right one from there on. The scene is a plane of one depth and colour."""
    for name in ("images", "masks", "depth"):
        (folder / name).mkdir(parents=True)
    camera = known_camera(0, width=48, height=36)
    for frame in range(count):
        image = np.full((36, 48, 3), (180, 90, 60), np.uint8)
        mask = np.zeros((36, 48), np.uint8)
        mask[:, slice(0, 16) if frame < 5 else slice(32, 48)] = 255
        image[mask > 0] = 220
        depth = np.where(mask > 0, 20, DEPTH).astype(np.uint8)
        for name, kind, pixels in (
            ("images", "color", image),
            ("masks", "mask", mask),
            ("depth", "depth", depth),
        ):
            Image.fromarray(pixels).save(folder / name / f"frame-{frame:06d}.{kind}.png")
    write_rows(folder / "poses_bounds.npy", [camera] * count, np.tile(np.eye(4)[:3], (count, 1, 1)))
    return folder
