"""`zju-data`: ZJU-MoCap as NeuralBody (Peng et al., CVPR 2021) stores it: fixed cameras round a
person, and masks of the person.

Imports neither datamanagers nor models, see `multiview`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from moegs_ns.data.calibration import check_rotations
from moegs_ns.data.calibrations.neuralbody import ANNOTATIONS, read_annotations
from moegs_ns.data.dataparsers.fixed_rig import (
    FixedCamera,
    FixedRigParser,
    FixedRigParserConfig,
    RigImages,
)
from moegs_ns.data.dataparsers.selection import check_max_frames
from moegs_ns.data.frames.foregrounds import Foreground
from moegs_ns.data.frames.images import read_image_size
from moegs_ns.data.rig_files import RigCamera

TRAINING_CAMERAS = (0, 6, 12, 18)
"""Of NeuralBody's scores; the others are held out."""
MASK_FOLDERS = ("mask_cihp", "mask")
"""Folders of masks; NeuralBody's scores are of the first."""
_BORDER = 2
"""Pixels around a mask that NeuralBody leaves as they are: it cannot tell whose they are."""

Background = Literal["black", "masked", "kept"]
"""What happens to pixels outside of the person's mask."""


@dataclass
class ZJUDataParserConfig(FixedRigParserConfig):
    """ZJU-MoCap in NeuralBody's layout: `annots.npy` with cameras and names of images, images
    `Camera_B1/000000.jpg` (or `Camera (1)/..._0001_....jpg`) and masks of the same names in
    `mask_cihp/` or `mask/`. Frames and cameras are numbered by their places in annots.npy, from 0.
    """

    _target: type = field(default_factory=lambda: ZJUDataParser)
    """Target class to instantiate."""
    data: Path = Path("data/zju")
    """Folder of the capture, as CoreView_377."""
    fps: float = 30.0
    """Frames per second of the recording, which the data set does not tell."""
    downscale_factor: int | None = 2
    """Divides the image size; NeuralBody's scores are of images that are halved."""
    max_frames: int | None = 300
    """Without --frames, the clip is the first so many frames, as in NeuralBody's scores of most
    captures; None takes all."""
    held_out_cameras: tuple[int, ...] | None = None
    """Numbers of the cameras that are never trained on; by default all but 0 6 12 18, as for
    NeuralBody's scores."""
    exclude_cameras: tuple[int, ...] = ()
    """Numbers of cameras that are not used at all."""
    background: Background = "black"
    """What lies outside of the person's mask is black, as for NeuralBody's scores; or masked, so
    that it counts neither in losses nor in figures; or kept as it was recorded."""


class ZJUDataParser(FixedRigParser):
    """Fixed cameras on a ring; metres."""

    config: ZJUDataParserConfig
    point_files = ("points3D.npz", "points3D.ply")

    def rig(self, data: Path) -> RigImages:
        config = self.config
        check_max_frames(config.max_frames)
        path = data / ANNOTATIONS
        if not path.is_file():
            raise FileNotFoundError(
                f"Expected cameras and names of images at {path}, but there is no such file; set "
                "--data to the folder of one capture, as CoreView_377."
            )
        annotations = read_annotations(path)
        described = annotations.rig.cameras
        images = {
            (camera, frame): data / name
            for frame, names in enumerate(annotations.images)
            for camera, name in enumerate(names)
            if config.frames is not None or config.max_frames is None or frame < config.max_frames
        }
        cameras = [_fixed(camera, images[number, 0]) for number, camera in enumerate(described)]
        check_rotations(
            np.stack([camera.viewmat[:3, :3] for camera in cameras]),
            [str(images[number, 0]) for number in range(len(cameras))],
        )
        held_out = config.held_out_cameras
        if held_out is None:
            held_out = _held_out(range(len(cameras)), config.exclude_cameras, path)
        masks = {} if config.background == "kept" else _masks(images, data)
        black = config.background == "black"
        return RigImages(
            cameras,
            images,
            len(annotations.images),
            held_out=held_out,
            foregrounds={row: Foreground(each, _BORDER) for row, each in masks.items() if black},
            masks={} if black else masks,
        )


def _fixed(camera: RigCamera, first: Path) -> FixedCamera:
    """A camera at the size of its images."""
    assert camera.lens is not None and camera.world_to_camera is not None, camera.name
    width, height, _ = read_image_size(first)
    viewmat = np.eye(4)
    viewmat[:3] = camera.world_to_camera
    return FixedCamera(camera.name, camera.lens, viewmat, width, height)


def _held_out(cameras: range, excluded: Iterable[int], path: Path) -> tuple[int, ...]:
    """All cameras that NeuralBody does not train on.

    Raises:
        ValueError: there are too few cameras.
    """
    if len(cameras) <= max(TRAINING_CAMERAS):
        raise ValueError(
            f"Expected at least {max(TRAINING_CAMERAS) + 1} cameras in {path}, of which 0 6 12 18 "
            f"are trained on, got {len(cameras)}; complete the capture, or name cameras with "
            "--held-out-cameras after the parser's name."
        )
    return tuple(sorted(set(cameras) - set(TRAINING_CAMERAS) - set(excluded)))


def _masks(images: dict[tuple[int, int], Path], data: Path) -> dict[tuple[int, int], Path]:
    """The mask of each image.

    Raises:
        FileNotFoundError: there is no folder of masks, or a mask is missing.
    """
    folder = next((data / name for name in MASK_FOLDERS if (data / name).is_dir()), None)
    if folder is None:
        raise FileNotFoundError(
            f"Expected masks of the person in {data / MASK_FOLDERS[0]}, but there is no such "
            "folder; complete the capture, or use images as they are with --background kept after "
            "the parser's name, which no paper does."
        )
    return {
        row: (folder / path.relative_to(data)).with_suffix(".png") for row, path in images.items()
    }


zju_dataparser = DataParserSpecification(
    config=ZJUDataParserConfig(),
    description="ZJU-MoCap in NeuralBody's layout: annots.npy, images and masks of a person.",
)
