"""All cameras of a scene, trained on or held out, and their images in the order of time."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from nerfstudio.data.dataparsers.base_dataparser import DataParserConfig, DataparserOutputs
from numpy.typing import NDArray

from moegs_ns.cameras import View, check_undistorted, view_from_cameras
from moegs_ns.data.clock import HELD_OUT_SPLITS
from moegs_ns.data.frames.dataset import with_image_ids
from moegs_ns.data.frames.decoding import FrameGroup, FrameSource
from moegs_ns.data.frames.masks import ImageMasks


@dataclass(frozen=True, eq=False)
class Footage:
    """C fixed cameras that share F frames."""

    names: tuple[str, ...]
    """Of the videos or folders of images; as long as no two are equal."""
    view: View
    """The cameras at their first frame."""
    groups: tuple[FrameGroup, ...]
    """The F images of each camera."""
    frames: tuple[int, ...]
    """The recording's own numbers of the frames."""
    masks: tuple[Bool[np.ndarray, "H W"] | None, ...]
    """Pixels of each camera that count; None where all do."""

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, eq=False)
class _Images:
    """The images of one camera by frame."""

    sources: dict[int, FrameSource]
    view: View
    mask: Path | None


def read_footage(config: DataParserConfig) -> Footage:
    """The cameras of all splits of a scene.

    Raises:
        FileNotFoundError: a part of the scene is missing.
        ValueError: the scene is refused by its parser, or is not one of several fixed cameras.
    """
    parser = config.setup()
    training = with_image_ids(parser.get_dataparser_outputs(split="train"))
    cameras = _cameras_of(training)
    for split in HELD_OUT_SPLITS:
        held_out = with_image_ids(parser.get_dataparser_outputs(split=split), training)
        cameras = _cameras_of(held_out) | cameras
    ids = sorted(cameras)
    shared = set.intersection(*(set(cameras[number].sources) for number in ids))
    if len(ids) < 2 or not shared or max(len(each.sources) for each in cameras.values()) < 2:
        raise ValueError(
            "Expected at least 2 fixed cameras that show several frames together, got "
            f"{len(ids)} cameras that share {len(shared)} frames; the images of a moving camera "
            "cannot be checked against others of their time."
        )
    frames = sorted(shared)
    size = (int(training.cameras.width[0]), int(training.cameras.height[0]))
    views = [cameras[number].view for number in ids]
    first = int(training.metadata.get("first_frame", 0))
    groups = tuple(
        FrameGroup(sources[0].group, sources, *size, (0.0, 0.0, 0.0))
        for number in ids
        for sources in (tuple(cameras[number].sources[frame] for frame in frames),)
    )
    return Footage(
        names=_names(ids, groups),
        view=View.cat(views),
        groups=groups,
        frames=tuple(first + frame for frame in frames),
        masks=tuple(_mask(cameras[number].mask, size) for number in ids),
    )


def _cameras_of(outputs: DataparserOutputs) -> dict[int, _Images]:
    check_undistorted(outputs.cameras)
    metadata, masks = outputs.metadata, outputs.mask_filenames
    rows: dict[int, dict[int, int]] = defaultdict(dict)
    for row, (camera, frame) in enumerate(
        zip(metadata["camera_ids"], metadata["frame_ids"], strict=True)
    ):
        rows[camera][frame] = row
    found = {}
    for camera, by_frame in rows.items():
        first = min(by_frame.values())
        found[camera] = _Images(
            {frame: metadata["frame_sources"][row] for frame, row in by_frame.items()},
            view_from_cameras(outputs.cameras[first : first + 1]),
            None if masks is None else masks[first],
        )
    return found


def _mask(path: Path | None, size: tuple[int, int]) -> NDArray[np.bool_] | None:
    if path is None:
        return None
    mask = ImageMasks([path], [size])[0][..., 0].numpy()
    return None if bool(mask.all()) else mask


def _names(ids: list[int], groups: tuple[FrameGroup, ...]) -> tuple[str, ...]:
    """What the user calls the cameras: their files or folders, else their numbers."""
    names = []
    for number, group in zip(ids, groups, strict=True):
        path = group.path
        if group.sources[0].frame is None:
            folder = path.parent if path.name == "images" else path
            names.append(folder.name or str(number))
        else:
            names.append(path.stem)
    if len(set(names)) == len(names):
        return tuple(names)
    return tuple(f"camera {number}" for number in ids)
