"""`nvidia-data`: NVIDIA's Dynamic Scenes (Yoon et al., CVPR 2020) as NSFF and DynamicNeRF store
them: twelve fixed cameras, one image of which is trained on at each time.

Imports neither datamanagers nor models, see `multiview`.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from moegs_ns.cameras import opengl_from_viewmats
from moegs_ns.data.dataparsers.fixed_rig import FixedCamera
from moegs_ns.data.dataparsers.listing import Listing
from moegs_ns.data.dataparsers.llff import read_llff_cameras
from moegs_ns.data.dataparsers.multiview import (
    MultiViewDataParser,
    ParsedImages,
    SceneParserConfig,
    checked_fps,
    scaled_size,
)
from moegs_ns.data.dataparsers.n3v import POSES_BOUNDS
from moegs_ns.data.dataparsers.recordings import images_in
from moegs_ns.data.dataparsers.selection import choose_numbers
from moegs_ns.data.frames.decoding import FrameSource
from moegs_ns.data.frames.images import read_image_size
from moegs_ns.data.points.initial import Frustums

_REMEDY = "set --data to a scene as NSFF or DynamicNeRF store it"
NUM_CAMERAS = 12
"""Of the rig; image i of a scene is that of camera i modulo this number."""
_TRUTH, _VIEW = re.compile(r"v([0-9]+)_t([0-9]+)\.png"), re.compile(r"cam([0-9]+)\.jpg")


@dataclass
class NvidiaDataParserConfig(SceneParserConfig):
    """NVIDIA's Dynamic Scenes: `dense/images_512x288`, `dense/mv_images/00000/cam01.jpg` and
    `dense/poses_bounds.npy` (NSFF), or `images/000.png`, `poses_bounds.npy` and the held-out images
    `v000_t000.png` (DynamicNeRF)."""

    _target: type = field(default_factory=lambda: NvidiaDataParser)
    """Target class to instantiate."""
    data: Path = Path("data/nvidia")
    """Folder of the scene."""
    held_out_images: Path = Path("gt")
    """Folder of DynamicNeRF's images v000_t000.png, absolute or inside the scene folder."""
    fps: float | None = None
    """Frames per second of the recording, which the data set does not tell."""
    downscale_factor: int | None = None
    """Divides the size of the images; by default that of papers: NSFF's smaller images as they are,
    DynamicNeRF's halved."""


@dataclass(frozen=True, eq=False)
class _Scene:
    """The images of one form of the data set."""

    training: list[Path]
    """Image i shows time i."""
    held_out: dict[tuple[int, int], Path]
    """By camera and time."""
    cameras: list[FixedCamera]
    """Of each training image; those of the first twelve are the rig's."""
    factor: int
    """By which papers divide the size of the training images."""


class NvidiaDataParser(MultiViewDataParser):
    """A rig of twelve cameras, seen as one that jumps from each to the next; the world is
    COLMAP's."""

    config: NvidiaDataParserConfig
    point_files = ("points3D.npz", "points3D.ply")

    def read(self, split: str) -> tuple[ParsedImages, Frustums]:
        config, data = self.config, Path(self.config.data)
        scene = _read_nsff(data) if _dense(data) else _read_dynamicnerf(data, config)
        count = len(scene.training)
        frames = choose_numbers(config.frames, range(count))
        # Images of both splits get the size of the training images, divided.
        width, height, _ = read_image_size(scene.training[0])
        factor = scene.factor if config.downscale_factor is None else config.downscale_factor
        size = scaled_size(width, height, factor)
        train = _listing(
            {(time % NUM_CAMERAS, time): path for time, path in enumerate(scene.training)},
            dict(enumerate(scene.cameras)),
            (width, height),
            by_time=True,
        )
        train = train.only(np.isin(train.frames, frames)).resized(*size)
        shown = train
        if split != "train":
            rig = dict(enumerate(scene.cameras[:NUM_CAMERAS]))
            shown = _listing(scene.held_out, rig, (width, height), by_time=False)
            shown = shown.only(np.isin(shown.frames, frames)).resized(*size)
        fps = 0.0 if config.fps is None else checked_fps(config.fps)
        bounds = np.array([scene.cameras[time].bounds for time in train.frames.tolist()])
        return shown.parsed(frames, count, fps), train.frustums(bounds)


def _dense(data: Path) -> Path | None:
    """The folder of NSFF's form, if it is one."""
    return next((each for each in (data / "dense", data) if (each / "mv_images").is_dir()), None)


def _read_nsff(data: Path) -> _Scene:
    """Every camera at every time is there; those that are not trained on are held out."""
    folder = _dense(data)
    assert folder is not None, data
    small = sorted(folder.glob("images_*x*"))
    training = images_in(small[0] if small else folder / "images", _REMEDY)
    cameras = read_llff_cameras(folder / POSES_BOUNDS, [path.name for path in training])
    held_out = {}
    for time in range(len(training)):
        for path in sorted((folder / "mv_images" / f"{time:05d}").glob("cam*.jpg")):
            # Names count from 1.
            camera = int(match[1]) - 1 if (match := _VIEW.fullmatch(path.name)) else NUM_CAMERAS
            if camera < min(NUM_CAMERAS, len(cameras)) and camera != time % NUM_CAMERAS:
                held_out[camera, time] = path
    if not held_out:
        raise FileNotFoundError(
            f"Expected images 00000/cam01.jpg, ... of the held-out cameras in "
            f"{folder / 'mv_images'}, but found none; complete the scene."
        )
    return _Scene(training, held_out, cameras, factor=1)


def _read_dynamicnerf(data: Path, config: NvidiaDataParserConfig) -> _Scene:
    """Camera 0 at all times is held out."""
    training = images_in(data / "images", _REMEDY)
    cameras = read_llff_cameras(data / POSES_BOUNDS, [path.name for path in training])
    folder = data / config.held_out_images
    matches = [(path, _TRUTH.fullmatch(path.name)) for path in sorted(folder.glob("v*.png"))]
    held_out = {(int(match[1]), int(match[2])): path for path, match in matches if match}
    strange = [path for (camera, _), path in held_out.items() if camera >= len(cameras)]
    if not held_out or strange:
        what = f"found {strange[0].name}" if strange else "found none"
        raise FileNotFoundError(
            f"Expected the held-out images v000_t000.png, ... in {folder}, but {what}; name their "
            "folder with --held-out-images after the parser's name."
        )
    return _Scene(training, held_out, cameras, factor=2)


def _listing(
    images: dict[tuple[int, int], Path],
    cameras: dict[int, FixedCamera],
    size: tuple[int, int],
    *,
    by_time: bool,
) -> Listing:
    """Images by camera and time; `cameras` belong to times or to the numbers of cameras."""
    rows = sorted(images)
    chosen = [cameras[time if by_time else camera] for camera, time in rows]
    return Listing(
        sources=[FrameSource(images[row]) for row in rows],
        cameras=np.array([camera for camera, _ in rows]),
        frames=np.array([time for _, time in rows]),
        camera_to_worlds=opengl_from_viewmats(np.stack([camera.viewmat for camera in chosen])),
        Ks=np.stack([camera.lens_at(*size).K for camera in chosen]),
        width=size[0],
        height=size[1],
    )


nvidia_dataparser = DataParserSpecification(
    config=NvidiaDataParserConfig(),
    description="NVIDIA's Dynamic Scenes as NSFF and DynamicNeRF store them.",
)
