"""`technicolor-data`: the undistorted light-field videos of Sabater et al. (CVPR workshops 2017).

Imports neither datamanagers nor models, see `multiview`.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float
from nerfstudio.data.utils.colmap_parsing_utils import qvec2rotmat
from nerfstudio.plugins.registry_dataparser import DataParserSpecification

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
from moegs_ns.data.frames.images import is_truncated_png, read_image_size
from moegs_ns.data.points.initial import Frustums

PARAMETERS = "cameras_parameters.txt"
"""File in the scene folder: a header line, then one row for each camera."""
_COLUMNS = 12
"""f cu cv ar sk, a quaternion (w first) and a translation, both world to camera (OpenCV)."""
_ORIGINAL_COLUMNS = 14
"""Distorted images come with two coefficients of the lens after sk."""
_IMAGE = re.compile(r"(?P<scene>.+_undist)_(?P<frame>[0-9]+)_(?P<camera>[0-9]{2})\.png")
_PUBLISHED_FRAMES = 50
"""Length of the clips that papers give scores of."""
_NOT_UNIT = 1e-2
"""Difference from 1 of the length of a quaternion that rounding does not explain."""
_LARGEST_SKEW = 0.5
"""Pixels by which pixels that are no rectangles may shift the border of an image."""


@dataclass
class TechnicolorDataParserConfig(SceneParserConfig):
    """Technicolor layout, undistorted release: `SCENE_undist_FRAME_CAMERA.png` in the scene folder
    or in images/, `cameras_parameters.txt`, and perhaps initial points in points3D.npz or
    points3D.ply. Frames are those in the names."""

    _target: type = field(default_factory=lambda: TechnicolorDataParser)
    """Target class to instantiate."""
    data: Path = Path("data/technicolor")
    """Folder of the scene."""
    fps: float = 30.0
    """Frames per second of the recording."""
    downscale_factor: int = 1
    """Divides the image size."""
    held_out_cameras: tuple[int, ...] = (10,)
    """Numbers in the file names of the cameras that are never trained on."""
    exclude_cameras: tuple[int, ...] = ()
    """Numbers of cameras that are not used at all."""
    pixel_aspect_ratio: bool = True
    """Use the column ar, the height of a pixel over its width; several papers take pixels for
    squares."""
    max_truncated: int = 1
    """Image files that end too early, as one of the release does, are left out, but not more than
    so many."""


class TechnicolorDataParser(MultiViewDataParser):
    """A grid of fixed cameras with principal points off-centre; the world is the data set's."""

    config: TechnicolorDataParserConfig
    point_files = ("points3D.npz", "points3D.ply")

    def read(self, split: str) -> tuple[ParsedImages, Frustums]:
        config, data = self.config, Path(self.config.data)
        # Read the cameras and find the images.
        names = find_images(data)
        camera_to_worlds, Ks = read_parameters(data / PARAMETERS, config.pixel_aspect_ratio)
        cameras, numbers = np.array(list(names)).T
        _check_numbers(sorted(set(cameras.tolist())), len(Ks), data)
        width, height, _ = read_image_size(next(iter(names.values())))
        _check_skew(Ks, height, data / PARAMETERS)
        Ks[:, 0, 1] = 0.0
        divided = divide_cameras(
            set(cameras.tolist()), config.held_out_cameras, config.exclude_cameras
        )
        listing = Listing(
            sources=[FrameSource(path) for path in names.values()],
            cameras=cameras,
            frames=numbers,
            camera_to_worlds=camera_to_worlds[cameras],
            Ks=Ks[cameras],
            width=width,
            height=height,
        )
        # Choose the frames, and leave images out that are cut short.
        frames = choose_numbers(config.frames, numbers.tolist())
        listing = listing.only(np.isin(numbers, frames) & np.isin(cameras, divided.used))
        called = {camera: f"camera {camera}" for camera in divided.used}
        check_complete(names.keys(), called, np.unique(listing.frames).tolist(), data)
        truncated = [source.path for source in listing.sources if is_truncated_png(source.path)]
        notes = [_truncated_note(truncated, config.max_truncated)]
        if config.frames is None and len(frames) > _PUBLISHED_FRAMES:
            notes.append(
                f"All {len(frames)} frames are used; papers give scores of "
                f"{_PUBLISHED_FRAMES}, which docs/datasets.md lists (--frames FIRST LAST)."
            )
        is_whole = np.array([source.path not in truncated for source in listing.sources])
        size = scaled_size(width, height, config.downscale_factor)
        listing = listing.only(is_whole).resized(*size)
        train = listing.only(np.isin(listing.cameras, divided.train))
        shown = listing.only(np.isin(listing.cameras, divided.of(split)))
        note = " ".join(filter(None, notes))
        num_recorded = int(numbers.max()) + 1
        images = shown.parsed(frames, num_recorded, checked_fps(config.fps), note)
        return images, train.first_of_cameras().frustums()


def find_images(data: Path) -> dict[tuple[int, int], Path]:
    """The image of each camera and frame, by their numbers.

    Raises:
        FileNotFoundError: there is no such folder, or no undistorted image in it.
        ValueError: the images belong to several scenes.
    """
    if not data.is_dir():
        raise FileNotFoundError(
            f"Expected a scene folder at {data}, but there is none; set --data."
        )
    folder = data / "images" if (data / "images").is_dir() else data
    matches = [(path, _IMAGE.fullmatch(path.name)) for path in sorted(folder.glob("*.png"))]
    images = {(int(match["camera"]), int(match["frame"])): path for path, match in matches if match}
    scenes = {match["scene"] for _, match in matches if match}
    if not images:
        found = f", such as {matches[0][0].name}" if matches else ""
        raise FileNotFoundError(
            f"Expected images SCENE_undist_FRAME_CAMERA.png in {folder}, but found {len(matches)} "
            f"others{found}; set --data to a scene of the undistorted PNG release."
        )
    if len(scenes) > 1:
        raise ValueError(
            f"Expected the images of one scene in {folder}, got those of {len(scenes)} "
            f"({', '.join(sorted(scenes))}); put each into a folder of its own."
        )
    return images


def read_parameters(
    path: Path, pixel_aspect_ratio: bool
) -> tuple[Float[np.ndarray, "C 3 4"], Float[np.ndarray, "C 3 3"]]:
    """Camera to world (OpenGL) and intrinsics, with their skew, of all cameras in order.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else, or the cameras of distorted images.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected the cameras at {path}, but there is no such file; copy it from the release."
        )
    # The first line is a header; several blanks may stand between two numbers.
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    lines = [line for line in lines if line]
    if lines and {len(line) for line in lines} == {_ORIGINAL_COLUMNS}:
        raise ValueError(
            f"Expected cameras of undistorted images in {path}, got rows with coefficients of "
            "lenses; use the undistorted release, both its images and its file."
        )
    try:
        rows = np.array(lines, dtype=np.float64).reshape(-1, _COLUMNS)
        if not len(rows) or len(rows) != len(lines) or not np.isfinite(rows).all():
            raise ValueError(f"{len(lines)} rows of other lengths or without finite numbers")
    except ValueError as error:
        raise ValueError(
            f"Expected a header line and rows of {_COLUMNS} numbers (f cu cv ar sk, a quaternion, "
            f"a translation) in {path}, but it cannot be read ({error}); copy it from the release."
        ) from error
    focal, cu, cv, ratio, skew = rows[:, :5].T
    viewmats = np.tile(np.eye(4), (len(rows), 1, 1))
    quaternions = rows[:, 5:9]
    lengths = np.linalg.norm(quaternions, axis=1)
    if (np.abs(lengths - 1.0) > _NOT_UNIT).any():
        camera = int(np.abs(lengths - 1.0).argmax())
        raise ValueError(
            f"Expected unit quaternions in {path}, but that of camera {camera} has the length "
            f"{lengths[camera]:g}; copy the file from the release."
        )
    viewmats[:, :3, :3] = [qvec2rotmat(each) for each in quaternions / lengths[:, None]]
    viewmats[:, :3, 3] = rows[:, 9:]
    Ks = np.tile(np.eye(3), (len(rows), 1, 1))
    Ks[:, 0, 0], Ks[:, 1, 1] = focal, focal * ratio if pixel_aspect_ratio else focal
    Ks[:, 0, 1], Ks[:, 0, 2], Ks[:, 1, 2] = skew, cu, cv
    return opengl_from_viewmats(viewmats), Ks


def _check_numbers(cameras: list[int], rows: int, data: Path) -> None:
    if cameras[-1] >= rows:
        raise ValueError(
            f"Expected a row in {data / PARAMETERS} for every camera, but it has {rows}, for the "
            f"cameras 0 to {rows - 1}, and there are images of camera {cameras[-1]}; copy the file "
            "from the release."
        )


def _check_skew(Ks: Float[np.ndarray, "C 3 3"], height: int, path: Path) -> None:
    shift = np.abs(Ks[:, 0, 1]) * 0.5 * height / Ks[:, 1, 1]
    if shift.max() > _LARGEST_SKEW:
        camera = int(shift.argmax())
        raise ValueError(
            f"Expected rectangular pixels, but {path} gives camera {camera} the skew "
            f"{Ks[camera, 0, 1]:g}, which shifts the border of its image by {shift[camera]:.2g} "
            "pixels; leave that camera out with --exclude-cameras, or rectify its images."
        )


def _truncated_note(truncated: list[Path], allowed: int) -> str:
    """The sentence about files that end too early, if there are some but not too many."""
    names = ", ".join(path.name for path in truncated[:4])
    if len(truncated) > allowed:
        raise ValueError(
            f"Expected whole images, but {len(truncated)} files end too early, among them {names}; "
            "copy them again, or leave so many out with --max-truncated."
        )
    return f"Left out, since their files end too early: {names}." if truncated else ""


technicolor_dataparser = DataParserSpecification(
    config=TechnicolorDataParserConfig(),
    description="Technicolor layout: undistorted PNG files and cameras_parameters.txt.",
)
