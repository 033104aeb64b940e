"""`llff-video-data`: the video of one camera with a row of LLFF's `poses_bounds.npy` for each
image, as NSFF (Li et al., CVPR 2021) and EndoNeRF (Wang et al., MICCAI 2022) store it.

Imports neither datamanagers nor models, see `multiview`.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float
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
from moegs_ns.data.dataparsers.n3v import POSES_BOUNDS, read_poses_bounds
from moegs_ns.data.dataparsers.recordings import check_order, images_in
from moegs_ns.data.dataparsers.selection import choose_numbers
from moegs_ns.data.frames.decoding import FrameSource
from moegs_ns.data.frames.images import read_image_size
from moegs_ns.data.frames.mask_files import ImageMask, image_mask_files
from moegs_ns.data.points.depth_maps import DepthImage, points_of_depth_maps
from moegs_ns.data.points.files import PointCloud
from moegs_ns.data.points.initial import Frustums
from moegs_ns.seeds import run_seed

IMAGES, MASKS, DEPTHS = "images", Path("masks"), "depth"
"""Folders of a scene, of which the last two may be missing."""
_MASKS_REMEDY = "complete the scene, or name another --masks-folder, or None"
_DEPTHS_REMEDY = "complete the scene, or remove that folder"
_SAME = 1e-6
"""Difference of poses that rounding explains."""


@dataclass
class LLFFVideoDataParserConfig(SceneParserConfig):
    """One camera, moving or still: `images/`, `poses_bounds.npy` with a row for each image in
    alphabetical order, perhaps `masks/` (above 0 on what does not count, as surgical tools) and
    `depth/` (EndoNeRF). Frames are the places of images, from 0."""

    _target: type = field(default_factory=lambda: LLFFVideoDataParser)
    """Target class to instantiate."""
    data: Path = Path("data/llff_video")
    """Folder of the scene."""
    fps: float | None = None
    """Frames per second of the recording, which the layout does not tell."""
    downscale_factor: int | None = None
    """Divides the image size; by default the smallest power of two that makes the longer side at
    most 1600 pixels."""
    held_out_every: int | None = 8
    """One of so many images is held out, from the second on, as by EndoGaussian and
    SurgicalGaussian; None trains on all of them, as EndoNeRF."""
    masks_folder: Path | None = MASKS
    """Folder of masks in the scene folder; what they mark counts neither in losses nor in figures.
    None uses none."""
    depth_scale: float = 100.0
    """Units of the depth maps in a unit of the world; that of SurgicalGaussian makes EndoNeRF's
    scenes about as deep as the extent of 1 that one still camera has."""
    max_depth_points: int = 30_000
    """Most initial points made of depth maps, which are used if the camera stands still."""


@dataclass(frozen=True, eq=False)
class _Video:
    """Files of a scene; lists have an entry for each image."""

    images: list[Path]
    cameras: list[FixedCamera]
    masks: list[Path] | None
    depths: list[Path] | None
    is_still: bool
    """Whether all images were taken from one place."""
    size: tuple[int, int]
    """Width and height of the images."""


class LLFFVideoDataParser(MultiViewDataParser):
    """A still camera is one camera; a moving one has as many as images, numbered by frames. The
    world is that of the rows; where all of them are the identity, the camera's (OpenCV axes)."""

    config: LLFFVideoDataParserConfig
    point_files = ("points3D.npz", "points3D.ply")

    def read(self, split: str) -> tuple[ParsedImages, Frustums]:
        config, data = self.config, Path(self.config.data)
        video = _read_video(data, config.masks_folder)
        count = len(video.images)
        frames = choose_numbers(config.frames, range(count))
        trained, held_out = divide_frames(frames, config.held_out_every)
        size = scaled_size(*video.size, config.downscale_factor)
        fps = 0.0 if config.fps is None else checked_fps(config.fps)
        train = _listing(video, trained, size, data)
        shown = train if split == "train" else _listing(video, held_out or trained, size, data)
        bounds = np.array([video.cameras[frame].bounds for frame in trained])
        return shown.parsed(frames, count, fps), train.frustums(bounds)

    def own_points(self) -> PointCloud | None:
        config = self.config
        video = _read_video(Path(config.data), config.masks_folder)
        if video.depths is None or not video.is_still:
            return None
        for name, value in (
            ("depth-scale", config.depth_scale),
            ("max-depth-points", config.max_depth_points),
        ):
            if not 0 < value < float("inf"):
                raise ValueError(f"--{name} expects a number above 0, got {value:g}.")
        frames = choose_numbers(config.frames, range(len(video.images)))
        masks = video.masks or [None] * len(video.images)
        images = [
            DepthImage(video.images[frame], video.depths[frame], masks[frame])
            for frame in divide_frames(frames, config.held_out_every)[0]
        ]
        camera = video.cameras[0]
        return points_of_depth_maps(
            images,
            camera.lens_at(*video.size),
            video.size,
            camera.viewmat,
            depth_scale=config.depth_scale,
            count=config.max_depth_points,
            seed=run_seed(),
        )


def divide_frames(frames: range, held_out_every: int | None) -> tuple[list[int], list[int]]:
    """The frames of the clip that are trained on, and those that are held out.

    Raises:
        ValueError: none would be left to train on.
    """
    if held_out_every is None:
        return list(frames), []
    if held_out_every < 2:
        raise ValueError(
            f"--held-out-every expects None, which holds no image out, or a number of at least 2, "
            f"got {held_out_every}."
        )
    held_out = [frame for frame in frames if frame % held_out_every == 1]
    trained = [frame for frame in frames if frame % held_out_every != 1]
    if not trained:
        raise ValueError(
            f"Expected images to train on among the frames {frames.start} to {frames.stop - 1}, "
            "but all are held out; choose other --frames, or --held-out-every None."
        )
    return trained, held_out


def _read_video(data: Path, masks_folder: Path | None) -> _Video:
    """Find the files of a scene and read its poses; no image is decoded.

    Raises:
        FileNotFoundError: the images, their poses or a folder that was named are missing.
        ValueError: there are other numbers of poses, masks or depth maps than of images.
    """
    images = images_in(data / IMAGES, "set --data to the scene folder")
    check_order(images, "images")
    path, names = data / POSES_BOUNDS, [image.name for image in images]
    cameras = read_llff_cameras(path, names)
    poses = read_poses_bounds(path, names)[:, :15].reshape(-1, 3, 5)[:, :, :4]
    if np.abs(poses - np.eye(4)[:3]).max() <= _SAME:
        # Programs of 3D Gaussian splatting take this for the identity, not for LLFF's axes.
        cameras = [replace(each, viewmat=np.eye(4)) for each in cameras]
    width, height, _ = read_image_size(images[0])
    masks = None
    if masks_folder is not None and (masks_folder != MASKS or (data / MASKS).is_dir()):
        masks = _beside(data / masks_folder, images, _MASKS_REMEDY)
    depths = _beside(data / DEPTHS, images, _DEPTHS_REMEDY) if (data / DEPTHS).is_dir() else None
    return _Video(images, cameras, masks, depths, _is_still(poses), (width, height))


def _is_still(poses: Float[np.ndarray, "M 3 4"]) -> bool:
    return bool(np.abs(poses - poses[:1]).max() <= _SAME * max(1.0, float(np.abs(poses).max())))


def _beside(folder: Path, images: list[Path], remedy: str) -> list[Path]:
    """The files of a folder that belong to the images, in the same order."""
    found = images_in(folder, remedy)
    check_order(found, "images")
    if len(found) != len(images):
        raise ValueError(
            f"Expected as many files in {folder} as in {images[0].parent}, {len(images)}, got "
            f"{len(found)}; complete the scene."
        )
    return found


def _listing(video: _Video, frames: list[int], size: tuple[int, int], data: Path) -> Listing:
    """Images of some frames at the size that they are trained on."""
    cameras = [video.cameras[frame] for frame in frames]
    width, height = video.size
    listing = Listing(
        sources=[FrameSource(video.images[frame]) for frame in frames],
        cameras=np.zeros(len(frames), int) if video.is_still else np.array(frames),
        frames=np.array(frames),
        camera_to_worlds=opengl_from_viewmats(np.stack([each.viewmat for each in cameras])),
        Ks=np.stack([each.lens_at(width, height).K for each in cameras]),
        width=width,
        height=height,
    ).resized(*size)
    if video.masks is None:
        return listing
    masks = [ImageMask(video.masks[frame], video.size, is_inverted=True) for frame in frames]
    return listing.masked(image_mask_files(masks, size, data))


llff_video_dataparser = DataParserSpecification(
    config=LLFFVideoDataParserConfig(),
    description="One camera with LLFF poses for each image, as of NSFF and EndoNeRF.",
)
