"""`panoptic-data`: PanopticSports layout, one JPEG per camera and frame, JSON calibration.

Imports neither datamanagers nor models, see `multiview`.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from moegs_ns.cameras import opengl_from_viewmats
from moegs_ns.data.dataparsers.multiview import (
    MultiViewDataParser,
    MultiViewParserConfig,
    ParsedImages,
    check_poses,
    checked_fps,
    choose_frames,
    scaled_size,
)
from moegs_ns.data.frames.decoding import FrameSource
from moegs_ns.data.points.initial import Frustums


@dataclass
class PanopticDataParserConfig(MultiViewParserConfig):
    """PanopticSports layout: `train_meta.json`, `test_meta.json`, `ims/<camera>/<frame>.jpg` and
    perhaps initial points in init_pt_cld.npz, init_sift_all.npz or init_sift_t0.npz."""

    _target: type = field(default_factory=lambda: PanopticDataParser)
    """Target class to instantiate."""
    data: Path = Path("data/panoptic")
    """Folder of the scene."""
    fps: float = 30.0
    """Frames per second of the recording."""
    downscale_factor: int = 1
    """Divides the image size."""
    min_points: int = 40_000
    """A file with fewer points is topped up to this number at random."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """One JSON file: M images, camera by camera and in order of time within a camera."""

    width: int
    height: int
    num_frames: int
    cameras: Int[np.ndarray, "M"]
    frames: Int[np.ndarray, "M"]
    Ks: Float[np.ndarray, "M 3 3"]
    viewmats: Float[np.ndarray, "M 4 4"]
    filenames: list[str]

    def cameras_at(
        self, rows: np.ndarray, width: int, height: int
    ) -> tuple[Float[np.ndarray, "M 3 4"], Float[np.ndarray, "M 3 3"]]:
        """Camera to world (OpenGL) and intrinsics, at another image size, of some images."""
        scale = np.array([width / self.width, height / self.height, 1.0])
        return opengl_from_viewmats(self.viewmats[rows]), self.Ks[rows] * scale[:, None]


class PanopticDataParser(MultiViewDataParser):
    """Fixed cameras in a dome; metres, world y down, principal points off-centre."""

    config: PanopticDataParserConfig
    point_files = ("init_pt_cld.npz", "init_sift_all.npz", "init_sift_t0.npz")

    def read(self, split: str) -> tuple[ParsedImages, Frustums]:
        config, data = self.config, Path(self.config.data)
        # Read the calibration; the held-out cameras have their own file.
        train = read_calibration(data / "train_meta.json")
        shown = train if split == "train" else read_calibration(data / "test_meta.json")
        # Choose frames and image size.
        frames = choose_frames(config.frames, train.num_frames)
        size = scaled_size(shown.width, shown.height, config.downscale_factor)
        fps = checked_fps(config.fps)
        # Select the images of the clip.
        rows = np.flatnonzero(np.isin(shown.frames, frames))
        images = ParsedImages(
            frames,
            fps,
            *size,
            *shown.cameras_at(rows, *size),
            camera_ids=shown.cameras[rows].tolist(),
            frame_ids=(shown.frames[rows] - frames.start).tolist(),
            sources=[FrameSource(data / "ims" / shown.filenames[row]) for row in rows],
        )
        at_first = np.flatnonzero(train.frames == frames.start)
        return images, Frustums(*train.cameras_at(at_first, *size), *size)


def read_calibration(path: Path) -> Calibration:
    """Cameras and file names of one split, sorted by camera, then by frame.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no such JSON, its lists differ in length, or a pose is not finite.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected the calibration {path}, but there is no such file; set --data to a "
            "PanopticSports scene."
        )
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
        width, height = int(meta["w"]), int(meta["h"])
        cameras = [int(camera) for at_time in meta["cam_id"] for camera in at_time]
        frames = [time for time, at_time in enumerate(meta["cam_id"]) for _ in at_time]
        names = [str(name) for at_time in meta["fn"] for name in at_time]
        Ks, viewmats = (
            np.array([matrix for at_time in meta[key] for matrix in at_time], dtype=np.float64)
            for key in ("k", "w2c")
        )
        counts = {len(cameras), len(names), len(Ks), len(viewmats)}
        if len(counts) != 1 or Ks.shape[1:] != (3, 3) or viewmats.shape[1:] != (4, 4):
            raise ValueError(f"lists of {sorted(counts)} entries")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"Expected w, h and equally long lists k, w2c, fn, cam_id in {path}, but they cannot "
            f"be read ({type(error).__name__}: {error}); download the file again."
        ) from error
    check_poses(viewmats, path)
    check_poses(Ks, path)
    order = np.lexsort((frames, cameras))
    return Calibration(
        width=width,
        height=height,
        num_frames=len(meta["cam_id"]),
        cameras=np.array(cameras)[order],
        frames=np.array(frames)[order],
        Ks=Ks[order],
        viewmats=viewmats[order],
        filenames=[names[row] for row in order],
    )


panoptic_dataparser = DataParserSpecification(
    config=PanopticDataParserConfig(),
    description="PanopticSports layout: images per camera and train_meta.json, test_meta.json.",
)
