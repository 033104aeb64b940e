"""Camera and frame numbers of the images of any nerfstudio parser, ours or not."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from torch import Tensor

from moegs_ns.data.frames.sources import FrameSource
from moegs_ns.scene import FrameTable, frames_from_times

PER_IMAGE_KEYS = ("camera_ids", "frame_ids", "frame_sources")
MOST_NAMES = 10
"""Cameras that a log line names before it only counts."""


@dataclass(frozen=True, eq=False)
class TrainingClock:
    """The distinct training times of a parser that gives no frame numbers."""

    times: Float[Tensor, "F"]
    num_images: int


def with_image_ids(
    outputs: DataparserOutputs, clock: TrainingClock | None = None
) -> DataparserOutputs:
    """The same outputs with `camera_ids`, `frame_ids`, `num_frames`, `fps`, `frame_sources`.

    A parser that names no cameras is taken for one moving camera: every image is its own. Frames
    of evaluation images are counted on the `clock` of the training images, so that equal times
    have equal frame numbers.
    """
    metadata: dict[str, Any] = dict(outputs.metadata)
    count = len(outputs.image_filenames)
    if "frame_sources" not in metadata:
        metadata["frame_sources"] = [FrameSource(path) for path in outputs.image_filenames]
    if "camera_ids" not in metadata:
        # Evaluation images must not pass for training cameras.
        start = 0 if clock is None else clock.num_images
        metadata["camera_ids"] = list(range(start, start + count))
    if "frame_ids" not in metadata:
        times = image_times(outputs)
        if clock is None:
            frames, metadata["num_frames"] = frames_from_times(times)
        else:
            frames = (times[:, None] - clock.times[None, :]).abs().argmin(1)
            metadata["num_frames"] = len(clock.times)
        metadata["frame_ids"] = frames.tolist()
    metadata.setdefault("num_frames", max(metadata["frame_ids"], default=0) + 1)
    metadata.setdefault("fps", 0.0)
    cameras = replace(outputs.cameras)
    ids = {"camera_id": metadata["camera_ids"], "frame_id": metadata["frame_ids"]}
    cameras.metadata = {
        **(cameras.metadata or {}),
        **{key: torch.tensor(value).reshape(-1, 1) for key, value in ids.items()},
    }
    return replace(outputs, metadata=metadata, cameras=cameras)


def training_clock(outputs: DataparserOutputs) -> TrainingClock:
    """The clock of the outputs of the training split."""
    times = image_times(outputs)
    return TrainingClock(torch.unique(times), len(times))


def image_times(outputs: DataparserOutputs) -> Float[Tensor, "M"]:
    """Time of each image; 0 for parsers without time."""
    if outputs.cameras.times is None:
        return torch.zeros(len(outputs.image_filenames))
    return outputs.cameras.times.reshape(-1).float().cpu()


def without_times(outputs: DataparserOutputs) -> str:
    """One sentence if the parser gave several images but neither times nor frames, else ""."""
    count = len(outputs.image_filenames)
    if outputs.cameras.times is not None or outputs.metadata["num_frames"] > 1 or count < 2:
        return ""
    return (
        f"Warning: the parser gives no times, so its {count} images count as one instant; nothing "
        "will move."
    )


def frame_table(outputs: DataparserOutputs) -> FrameTable:
    """Camera, frame, time and place of each image."""
    return FrameTable(
        camera_ids=torch.tensor(outputs.metadata["camera_ids"]),
        frame_ids=torch.tensor(outputs.metadata["frame_ids"]),
        times=image_times(outputs),
        positions=outputs.cameras.camera_to_worlds[:, :, 3].float().cpu(),
    )


def only_images(outputs: DataparserOutputs, rows: list[int]) -> DataparserOutputs:
    """The outputs with some of the images."""
    metadata: dict[str, Any] = dict(outputs.metadata)
    for key in PER_IMAGE_KEYS:
        metadata[key] = [metadata[key][row] for row in rows]
    masks = outputs.mask_filenames
    return replace(
        outputs,
        image_filenames=[outputs.image_filenames[row] for row in rows],
        mask_filenames=None if masks is None else [masks[row] for row in rows],
        cameras=outputs.cameras[torch.tensor(rows)],
        metadata=metadata,
    )


def split_cameras(
    outputs: DataparserOutputs, val_cameras: tuple[int, ...]
) -> tuple[DataparserOutputs, DataparserOutputs]:
    """Training images without `val_cameras`, and the images of these cameras.

    Raises:
        ValueError: a camera does not exist, or none would be left to train on.
    """
    cameras = outputs.metadata["camera_ids"]
    known = sorted(set(cameras))
    unknown = sorted(set(val_cameras) - set(known))
    if unknown:
        raise ValueError(
            f"--val-cameras expects training cameras, which are {_listed(known)}, got "
            f"{_listed(unknown)}; name cameras of that list."
        )
    if set(val_cameras) == set(known):
        raise ValueError(
            f"--val-cameras names all {len(known)} training cameras; leave at least one to "
            "train on."
        )
    held = [row for row, camera in enumerate(cameras) if camera in val_cameras]
    kept = [row for row, camera in enumerate(cameras) if camera not in val_cameras]
    return only_images(outputs, kept), only_images(outputs, held)


def kept_back(outputs: DataparserOutputs, val_cameras: tuple[int, ...]) -> str:
    """One sentence that names the cameras taken out of the training set by their files.

    A camera is called by its video, or by the folder of its images; where cameras share a folder,
    as the images of one moving camera do, by its first image.

    Args:
        outputs: of the training split, from which nothing was taken yet.
        val_cameras: existing numbers.
    """
    first: dict[int, FrameSource] = {}
    owners: dict[Path, set[int]] = {}
    metadata = outputs.metadata
    for camera, source in zip(metadata["camera_ids"], metadata["frame_sources"], strict=True):
        first.setdefault(camera, source)
        owners.setdefault(source.group, set()).add(camera)

    def called(camera: int) -> str:
        source = first[camera]
        if source.frame is not None or len(owners[source.group]) > 1:
            return f"{camera} ({source.path.name})"
        folder = source.group.parent if source.group.name == "images" else source.group
        # PanopticSports names its folders by the numbers.
        return f"{camera}" if folder.name == f"{camera}" else f"{camera} ({folder.name})"

    cameras = sorted(set(val_cameras))
    names = [called(camera) for camera in cameras[:MOST_NAMES]]
    if len(cameras) > MOST_NAMES:
        names.append(f"and {len(cameras) - MOST_NAMES} more")
    return f"Kept back for validation: {', '.join(names)}."


def _listed(ids: list[int]) -> str:
    shown = ", ".join(str(camera) for camera in ids[:40])
    return shown if len(ids) <= 40 else f"{shown}, ... {ids[-1]}"
