"""`iphone-data`: DyCheck's iPhone scenes (Gao et al., NeurIPS 2022) with their real validation
cameras and masks; nerfstudio's `dycheck-data` evaluates on training images.

Imports neither datamanagers nor models, see `multiview`.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from moegs_ns.data.dataparsers.listing import Listing
from moegs_ns.data.dataparsers.multiview import (
    MultiViewDataParser,
    ParsedImages,
    SceneParserConfig,
    checked_fps,
)
from moegs_ns.data.dataparsers.nerfies import NerfiesScene, list_images, read_json, read_scene
from moegs_ns.data.dataparsers.selection import choose_numbers
from moegs_ns.data.points.initial import Frustums

USUAL_FACTOR = 2
"""Of the scores in papers, where extra.json does not say another one."""


@dataclass
class IPhoneDataParserConfig(SceneParserConfig):
    """DyCheck layout: that of hypernerf-data and `splits/train.json`, `splits/val.json`,
    `extra.json`, `covisible/2x/val/ID.png`. Frames are the time_ids."""

    _target: type = field(default_factory=lambda: IPhoneDataParser)
    """Target class to instantiate."""
    data: Path = Path("data/iphone")
    """Folder of the scene."""
    fps: float | None = None
    """Frames per second of the recording; by default what extra.json says."""
    downscale_factor: int | None = None
    """Images are read from the folder rgb/2x, or that of another factor; by default what extra.json
    says, as for the scores in papers."""
    covisible_masks: bool = True
    """Held-out images count where enough training images saw the same, as in mPSNR; a scene
    without these masks is then refused."""


@dataclass(frozen=True)
class SplitImages:
    """Images that a file in splits/ lists."""

    names: list[str]
    cameras: list[int]
    frames: list[int]


class IPhoneDataParser(MultiViewDataParser):
    """A moving training camera, each of whose images is a camera of its own with the number of its
    frame, and fixed cameras to evaluate on; the world is that of the files in camera/."""

    config: IPhoneDataParserConfig
    point_files = ("points3D.npz", "points3D.ply", "points.npy")

    def read(self, split: str) -> tuple[ParsedImages, Frustums]:
        config, data = self.config, Path(self.config.data)
        # Read the splits and the scene's own settings.
        scene = read_scene(data)
        splits = {name: read_split(data / "splits" / f"{name}.json") for name in ("train", "val")}
        _check_split(splits["train"], splits["val"], data)
        extra = read_json(data / "extra.json") if (data / "extra.json").is_file() else {}
        factor = config.downscale_factor or int(extra.get("factor", USUAL_FACTOR))
        rate = config.fps if config.fps is not None else extra.get("fps")
        fps = 0.0 if rate is None else checked_fps(float(rate))
        # Frames of a fixed camera may be missing, so each image says its own.
        known = splits["train"].frames
        frames = choose_numbers(config.frames, known)
        num_recorded = max(known + splits["val"].frames) + 1

        train = _listing(scene, splits["train"], frames, factor, num_recorded)
        shown = train
        if split != "train":
            shown = _listing(scene, splits["val"], frames, factor, num_recorded)
            if config.covisible_masks:
                folder = data / "covisible" / f"{factor}x" / "val"
                masks = [folder / source.path.name for source in shown.sources]
                shown = shown.masked(_existing(masks, folder))
        bounds = None if scene.bounds is None else np.tile(scene.bounds, (len(train), 1))
        return shown.parsed(frames, num_recorded, fps), train.frustums(bounds)


def read_split(path: Path) -> SplitImages:
    """The images of one file in splits/.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: its lists are missing or differ in length.
    """
    entries = read_json(path)
    try:
        images = SplitImages(
            [str(name) for name in entries["frame_names"]],
            [int(camera) for camera in entries["camera_ids"]],
            [int(frame) for frame in entries["time_ids"]],
        )
        lengths = {len(images.names), len(images.cameras), len(images.frames)}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(f"lists of {sorted(lengths)} entries")
        if min(images.frames) < 0:
            raise ValueError(f"the time_id {min(images.frames)}")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"Expected equally long lists frame_names, camera_ids, time_ids in {path}, but they "
            f"cannot be read ({type(error).__name__}: {error}); download the file again."
        ) from error
    return images


def _listing(
    scene: NerfiesScene, images: SplitImages, frames: range, factor: int, num_recorded: int
) -> Listing:
    """The images of the clip. Those of the moving camera 0 are numbered by their frames, fixed
    cameras from the end of the recording on."""
    kept = [row for row, frame in enumerate(images.frames) if frame in frames]
    if not kept:
        raise ValueError(
            f"Expected images of the frames {frames.start} to {frames.stop - 1} of both splits in "
            f"{scene.data}, but one has none; choose other --frames."
        )
    numbers = [
        images.frames[row] if images.cameras[row] == 0 else num_recorded + images.cameras[row]
        for row in kept
    ]
    listing = list_images(
        scene,
        [images.names[row] for row in kept],
        numbers,
        [images.frames[row] for row in kept],
        factor,
        # Alpha says where the depth sensor measured, not what is transparent.
        is_opaque=True,
    )
    return listing.only(np.ones(len(kept), dtype=bool))


def _check_split(train: SplitImages, held_out: SplitImages, data: Path) -> None:
    both = sorted(set(train.names) & set(held_out.names))
    if both:
        raise ValueError(
            f"Expected other images in {data / 'splits' / 'val.json'} than in train.json, but "
            f"{both[0]} is in both; download the files again."
        )


def _existing(masks: list[Path], folder: Path) -> list[Path]:
    missing = [mask for mask in masks if not mask.is_file()]
    if missing:
        raise FileNotFoundError(
            f"Expected a mask of every held-out image in {folder}, but {len(missing)} are missing, "
            f"such as {missing[0].name}; download them, or score all pixels, which no paper does, "
            "with --covisible-masks False after the parser's name."
        )
    return masks


iphone_dataparser = DataParserSpecification(
    config=IPhoneDataParserConfig(),
    description="DyCheck layout with its own validation cameras and covisibility masks.",
)
