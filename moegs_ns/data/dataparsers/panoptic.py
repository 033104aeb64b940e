"""`panoptic-data`: PanopticSports layout, one JPEG per camera and frame, JSON calibration.

This module may import neither datamanagers nor models (see `n3v_dataparser`).
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from nerfstudio.data.dataparsers.base_dataparser import (
    DataParser,
    DataParserConfig,
    DataparserOutputs,
)
from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from moegs_ns.cameras import opengl_from_viewmats
from moegs_ns.data.dataparsers.multiview import (
    Clip,
    ParsedImages,
    build_outputs,
    check_poses,
    checked_fps,
    choose_frames,
    scaled_size,
)
from moegs_ns.data.frames.sources import FrameSource
from moegs_ns.data.points.initial import (
    PREPARED_POINTS,
    Frustums,
    PointOptions,
    initial_points,
)
from moegs_ns.seeds import run_seed

POINT_FILES = (PREPARED_POINTS, "init_pt_cld.npz", "init_sift_all.npz", "init_sift_t0.npz")


@dataclass
class PanopticDataParserConfig(DataParserConfig):
    """PanopticSports layout: `train_meta.json`, `test_meta.json` and `ims/<camera>/<frame>.jpg`."""

    _target: type = field(default_factory=lambda: PanopticDataParser)
    """Target class to instantiate."""
    data: Path = Path("data/panoptic")
    """Folder of the scene."""
    frames: tuple[int, int] | None = None
    """First and last frame of the clip, both included; by default the whole recording."""
    fps: float = 30.0
    """Frames per second of the recording."""
    downscale_factor: int = 1
    """Divides the image size."""
    points_file: Path | None = None
    """Initial points (.npz with xyz, rgb and perhaps frame, or .ply), absolute or inside the scene
    folder; by default the moegs_points.npz of `moegs prepare points`, then
    init_pt_cld.npz, init_sift_all.npz or init_sift_t0.npz."""
    num_random_points: int = 20_000
    """Number of random points where there is no file of points."""
    min_points: int = 40_000
    """A file with fewer points is topped up to this number at random."""


@dataclass(frozen=True, eq=False)
class _Calibration:
    """One JSON file, flattened camera by camera."""

    width: int
    height: int
    num_frames: int
    cameras: np.ndarray
    frames: np.ndarray
    Ks: np.ndarray
    viewmats: np.ndarray
    filenames: list[str]


@dataclass
class PanopticDataParser(DataParser):
    """Fixed cameras in a dome; metres, world y down, principal points off-centre."""

    config: PanopticDataParserConfig
    includes_time: bool = True

    def __init__(self, config: PanopticDataParserConfig):
        super().__init__(config=config)
        self.includes_time = True

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs) -> DataparserOutputs:
        config, data = self.config, Path(self.config.data)
        train = read_calibration(data / "train_meta.json")
        shown = train if split == "train" else read_calibration(data / "test_meta.json")
        first, last = choose_frames(config.frames, train.num_frames)
        width, height = scaled_size(shown.width, shown.height, config.downscale_factor)
        clip = Clip(first, last, checked_fps(config.fps), width, height)

        at_first = train.frames == first
        frustums = Frustums(
            opengl_from_viewmats(train.viewmats[at_first]),
            _scaled(train.Ks[at_first], train, width, height),
            width,
            height,
        )
        options = PointOptions(
            data, config.points_file, POINT_FILES, config.num_random_points, config.min_points
        )
        points = initial_points(options, frustums, clip.frames, run_seed())
        rows = np.flatnonzero((shown.frames >= first) & (shown.frames <= last))
        paths = [data / "ims" / shown.filenames[row] for row in rows]
        images = ParsedImages(
            camera_to_worlds=opengl_from_viewmats(shown.viewmats[rows]),
            Ks=_scaled(shown.Ks[rows], shown, width, height),
            camera_ids=shown.cameras[rows].tolist(),
            frame_ids=(shown.frames[rows] - first).tolist(),
            sources=[FrameSource(path) for path in paths],
            filenames=paths,
        )
        return build_outputs(images, clip, points)


def read_calibration(path: Path) -> _Calibration:
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
    return _Calibration(
        width=width,
        height=height,
        num_frames=len(meta["cam_id"]),
        cameras=np.array(cameras)[order],
        frames=np.array(frames)[order],
        Ks=Ks[order],
        viewmats=viewmats[order],
        filenames=[names[row] for row in order],
    )


def _scaled(Ks: np.ndarray, calibration: _Calibration, width: int, height: int) -> np.ndarray:
    scale = np.array([width / calibration.width, height / calibration.height, 1.0])
    return Ks * scale[:, None]


panoptic_dataparser = DataParserSpecification(
    config=PanopticDataParserConfig(),
    description="PanopticSports layout: images per camera and train_meta.json, test_meta.json.",
)
