"""`rig-data`: any multi-camera footage whose cameras are described in `rig.json`.

Imports neither datamanagers nor models, see `multiview`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float
from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from moegs_ns.cameras import opengl_from_viewmats
from moegs_ns.data.dataparsers.multiview import (
    MultiViewDataParser,
    MultiViewParserConfig,
    ParsedImages,
    checked_fps,
    scaled_size,
)
from moegs_ns.data.dataparsers.recordings import Recording
from moegs_ns.data.dataparsers.rig_recordings import has_starts, open_recordings, shared_clip
from moegs_ns.data.dataparsers.selection import CameraSplit, divide_cameras
from moegs_ns.data.frames.bars import Bars
from moegs_ns.data.frames.decoding import FrameSource
from moegs_ns.data.frames.mask_files import mask_files
from moegs_ns.data.frames.undistortion import Lens, Undistortion
from moegs_ns.data.points.initial import Frustums
from moegs_ns.data.rig_files import RIG, RigCamera, read_rig


@dataclass
class RigDataParserConfig(MultiViewParserConfig):
    """Videos or image folders of any names and sizes, and `rig.json`, which describes the cameras
    (`moegs prepare rig`, `moegs prepare calibrate`). Images are undistorted when they are decoded.
    """

    _target: type = field(default_factory=lambda: RigDataParser)
    """Target class to instantiate."""
    data: Path = Path("data/rig")
    """Folder of the scene."""
    fps: float | None = None
    """Frames per second of the recording; by default what the rig file or the videos say."""
    downscale_factor: int | None = None
    """Divides the image size; by default the smallest power of two that makes the longer side at
    most 1600 pixels."""
    held_out_cameras: tuple[str, ...] = ()
    """Names of the cameras that are never trained on. Without any, evaluation shows the first
    training camera."""
    exclude_cameras: tuple[str, ...] = ()
    """Names of cameras that are left out altogether, as one that is out of step."""
    focal_scale: float = 1.0
    """Focal lengths of undistorted images, as a fraction of the lens's: below 1, more of what a
    wide lens sees is kept, and pixels beyond it are masked."""


@dataclass(frozen=True, eq=False)
class _Camera:
    """A calibrated camera and its recording."""

    number: int
    """Place in the rig file."""
    recording: Recording
    lens: Lens
    """At the size of the recording."""
    bars: Bars
    """At the size of the recording."""
    world_to_camera: Float[np.ndarray, "3 4"]


class RigDataParser(MultiViewDataParser):
    """Fixed cameras, each with a lens of its own; the world is the one of `rig.json`."""

    config: RigDataParserConfig

    def read(self, split: str) -> tuple[ParsedImages, Frustums]:
        config, data = self.config, Path(self.config.data)
        # Open the recordings of the calibrated cameras, and choose the frames.
        described, divided = _chosen(read_rig(data / RIG).cameras, config)
        is_started = has_starts([camera for _, camera in described])
        recordings = open_recordings([camera for _, camera in described], data)
        cameras = [_calibrated(*each, of) for each, of in zip(described, recordings, strict=True)]
        clip = shared_clip(recordings, config.frames, config.align, is_started=is_started)
        fps = clip.fps if config.fps is None else checked_fps(config.fps)
        # Undistort onto one canvas for all, so that cameras of several sizes make one batch.
        sizes = [(each.recording.width, each.recording.height) for each in cameras]
        canvas = (max(width for width, _ in sizes), max(height for _, height in sizes))
        size = scaled_size(*canvas, config.downscale_factor)
        undistortions = [_undistortion(each, canvas, config.focal_scale) for each in cameras]
        masks = mask_files(undistortions, size, data)
        # Pinholes of the canvas, at the size of the images.
        scale = np.array([size[0] / canvas[0], size[1] / canvas[1], 1.0])
        Ks = np.stack([each.pinhole.K for each in undistortions]) * scale[:, None]
        viewmats = np.tile(np.eye(4), (len(cameras), 1, 1))
        viewmats[:, :3] = [each.world_to_camera for each in cameras]
        camera_to_worlds = opengl_from_viewmats(viewmats)
        # Repeat each camera of the split for all its frames.
        train, shown, note = _split([camera.name for _, camera in described], divided, split)
        rows = [row for row in shown for _ in clip.shared]
        images = ParsedImages(
            clip.frames,
            fps,
            *size,
            camera_to_worlds=camera_to_worlds[rows],
            Ks=Ks[rows],
            camera_ids=[cameras[row].number for row in rows],
            frame_ids=[frame - clip.frames.start for frame in clip.shared] * len(shown),
            sources=[
                _source(cameras[row], image, undistortions[row])
                for row in shown
                for image in clip.images[row].tolist()
            ],
            num_recorded=clip.num_recorded,
            note=f"{clip.note} {note}".strip(),
            masks=None if masks is None else [masks[row] for row in rows],
        )
        return images, Frustums(camera_to_worlds[train], Ks[train], *size)


def _chosen(
    cameras: tuple[RigCamera, ...], config: RigDataParserConfig
) -> tuple[list[tuple[int, RigCamera]], CameraSplit[str]]:
    """Cameras that are not excluded, with their places in the rig file, and how they are divided.

    Raises:
        ValueError: an option names what is not there, or a camera is not calibrated.
    """
    names = [camera.name for camera in cameras]
    divided = divide_cameras(
        names, config.held_out_cameras, config.exclude_cameras, may_hold_none=True
    )
    chosen = [pair for pair in enumerate(cameras) if pair[1].name not in config.exclude_cameras]
    missing = [camera.name for _, camera in chosen if not camera.is_calibrated]
    if missing:
        raise ValueError(
            f"Expected calibrated cameras in {config.data / RIG}, but {', '.join(missing)} "
            f"{'has' if len(missing) == 1 else 'have'} no lens or pose; run `moegs prepare "
            "calibrate`, or leave them out with --exclude-cameras after the parser's name."
        )
    return chosen, divided


def _split(
    names: Sequence[str], divided: CameraSplit[str], split: str
) -> tuple[list[int], list[int], str]:
    """Rows of the cameras that are trained on and of those of the split, and a note."""
    train = [row for row, name in enumerate(names) if name in divided.train]
    if split != "train":
        held_out = [row for row, name in enumerate(names) if name in divided.held_out]
        return train, held_out or train[:1], ""
    if divided.held_out:
        return train, train, ""
    note = (
        f"No camera is held out: evaluation shows {names[train[0]]}, which is trained on; name "
        "others with --held-out-cameras after the parser's name."
    )
    return train, train, note


def _calibrated(number: int, camera: RigCamera, recording: Recording) -> _Camera:
    """Lens and bars at the size of the recording."""
    assert camera.lens is not None and camera.world_to_camera is not None, camera.name
    lens, bars = camera.lens, camera.bars
    if camera.width is not None and camera.height is not None:
        x, y = recording.width / camera.width, recording.height / camera.height
        lens, bars = lens.scaled(x, y), bars.scaled(x, y)
    return _Camera(number, recording, lens, bars, camera.world_to_camera)


def _undistortion(camera: _Camera, canvas: tuple[int, int], focal_scale: float) -> Undistortion:
    if not 0.0 < focal_scale < float("inf"):
        raise ValueError(
            f"--focal-scale expects a number above 0, got {focal_scale:g}; 1 keeps the focal "
            "lengths."
        )
    size = (camera.recording.width, camera.recording.height)
    return Undistortion(camera.lens, size, canvas, focal_scale, camera.bars)


def _source(camera: _Camera, image: int, undistortion: Undistortion) -> FrameSource:
    return replace(camera.recording.source(image), undistortion=undistortion.if_needed)


rig_dataparser = DataParserSpecification(
    config=RigDataParserConfig(),
    description="Videos or images of any rig, described in rig.json.",
)
