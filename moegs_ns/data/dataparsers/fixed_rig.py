"""What parsers of fixed cameras share whose images are listed one by one."""

from abc import abstractmethod
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float

from moegs_ns.cameras import opengl_from_viewmats
from moegs_ns.data.dataparsers.listing import Listing
from moegs_ns.data.dataparsers.multiview import (
    MultiViewDataParser,
    ParsedImages,
    SceneParserConfig,
    checked_fps,
    scaled_size,
)
from moegs_ns.data.dataparsers.selection import check_complete, choose_numbers, divide_cameras
from moegs_ns.data.frames.decoding import FrameSource
from moegs_ns.data.frames.foregrounds import Foreground
from moegs_ns.data.frames.images import has_shape, read_image_size
from moegs_ns.data.frames.mask_files import ImageMask, image_mask_files, mask_files
from moegs_ns.data.frames.undistortion import Lens, Undistortion
from moegs_ns.data.points.initial import Frustums


@dataclass
class FixedRigParserConfig(SceneParserConfig):
    """Options of layouts of fixed cameras. Frames are those that the files are numbered by."""

    fps: float = 30.0
    """Frames per second of the recording."""
    downscale_factor: int | None = None
    """Divides the image size; by default the smallest power of two that makes the longer side at
    most 1600 pixels."""
    held_out_cameras: tuple[int, ...] | None = None
    """Indices, in alphabetical order, of the cameras that are never trained on; by default those
    that the data set itself holds out, else the first."""
    exclude_cameras: tuple[int, ...] = ()
    """Indices, in alphabetical order, of cameras that are not used at all; the indices of the
    others stay."""


@dataclass(frozen=True, eq=False)
class FixedCamera:
    """One camera, of a rig or of one image."""

    name: str
    lens: Lens
    viewmat: Float[np.ndarray, "4 4"]
    """World to camera in OpenCV axes."""
    width: int
    height: int
    """Of the images that the lens describes."""
    bounds: tuple[float, float] | None = None
    """Nearest and farthest depth of the scene; None where unknown."""

    def lens_at(self, width: int, height: int) -> Lens:
        """The lens where images have another size.

        Raises:
            ValueError: they have other proportions.
        """
        if not has_shape(width, height, of=(self.width, self.height)):
            raise ValueError(
                f"Expected images in the proportions of {self.width}x{self.height}, at which "
                f"{self.name} was calibrated, but they are {width}x{height}; use the images that "
                "were calibrated."
            )
        # Sizes that are odd make factors that are not quite whole.
        return self.lens.scaled(width / self.width, height / self.height)


@dataclass(frozen=True, eq=False)
class RigImages:
    """What a layout holds: cameras in the order of their indices, and their images."""

    cameras: list[FixedCamera]
    images: dict[tuple[int, int], Path]
    """By index of the camera and number of the frame."""
    num_recorded: int
    """Frames of the whole recording, counted from 0."""
    held_out: tuple[int, ...] = (0,)
    """Indices of the cameras that are held out where no option names others."""
    foregrounds: dict[tuple[int, int], Foreground] = field(default_factory=dict)
    """What is kept of images, the rest of which is made black."""
    masks: dict[tuple[int, int], Path] = field(default_factory=dict)
    """Of all images or of none, above 0 where pixels count."""


class FixedRigParser(MultiViewDataParser):
    """Fixed cameras, each with a lens of its own, and images of one size."""

    config: FixedRigParserConfig

    @abstractmethod
    def rig(self, data: Path) -> RigImages:
        """Read the cameras and find the images of the scene folder.

        Raises:
            FileNotFoundError: a part of the scene is missing.
            ValueError: a file cannot be read.
        """

    def read(self, split: str) -> tuple[ParsedImages, Frustums]:
        config, data = self.config, Path(self.config.data)
        if not data.exists():
            raise FileNotFoundError(
                f"Expected a scene folder at {data}, but there is none; set --data."
            )
        rig = self.rig(data)
        held_out = rig.held_out if config.held_out_cameras is None else config.held_out_cameras
        divided = divide_cameras(range(len(rig.cameras)), held_out, config.exclude_cameras)
        # Choose the frames, which all cameras must have.
        numbers = [frame for camera, frame in rig.images if camera in divided.used]
        frames = choose_numbers(config.frames, numbers)
        called = {camera: rig.cameras[camera].name for camera in divided.used}
        check_complete(rig.images.keys(), called, sorted(set(numbers) & set(frames)), data)
        listing = _listing(rig, divided.used, frames, config.downscale_factor, data)
        train = listing.only(np.isin(listing.cameras, divided.train))
        shown = listing.only(np.isin(listing.cameras, divided.of(split)))
        images = shown.parsed(frames, rig.num_recorded, checked_fps(config.fps))
        known = [rig.cameras[camera].bounds for camera in divided.train]
        bounds = [each for each in known if each is not None]
        return images, train.first_of_cameras().frustums(
            np.array(bounds) if len(bounds) == len(known) else None
        )


def _listing(
    rig: RigImages, used: list[int], frames: range, factor: int | None, data: Path
) -> Listing:
    """The images of the clip at the size that they are trained on."""
    rows = sorted(pair for pair in rig.images if pair[0] in used and pair[1] in frames)
    width, height = _common_size(rig, rows)
    size = scaled_size(width, height, factor)
    undistortions = {}
    for index in used:
        lens = rig.cameras[index].lens_at(width, height)
        undistortions[index] = Undistortion(lens, (width, height), (width, height))
    viewmats = np.stack([rig.cameras[camera].viewmat for camera, _ in rows])
    if rig.masks:
        of_images = [
            ImageMask(rig.masks[row], (width, height), undistortion=undistortions[row[0]].if_needed)
            for row in rows
        ]
        masks = image_mask_files(of_images, size, data)
    else:
        masks = mask_files([undistortions[camera] for camera, _ in rows], size, data)
    return Listing(
        sources=[
            FrameSource(
                rig.images[row],
                undistortion=undistortions[row[0]].if_needed,
                foreground=rig.foregrounds.get(row),
            )
            for row in rows
        ],
        cameras=np.array([camera for camera, _ in rows]),
        frames=np.array([frame for _, frame in rows]),
        camera_to_worlds=opengl_from_viewmats(viewmats),
        Ks=np.stack([undistortions[camera].pinhole.K for camera, _ in rows]),
        width=width,
        height=height,
        masks=masks,
    ).resized(*size)


def _common_size(rig: RigImages, rows: list[tuple[int, int]]) -> tuple[int, int]:
    """Width and height of all images, as the first one of each camera has them.

    Raises:
        ValueError: they differ.
    """
    firsts = {camera: rig.images[camera, frame] for camera, frame in reversed(rows)}
    sizes = {path: read_image_size(path)[:2] for path in firsts.values()}
    (first, size), *others = sizes.items()
    for path, other in others:
        if other != size:
            raise ValueError(
                f"Expected images of one size, but {first} is {size[0]}x{size[1]} and {path} is "
                f"{other[0]}x{other[1]}; use the images that were calibrated, all of one size."
            )
    return size
