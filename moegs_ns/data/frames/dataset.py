"""Images of one split, with camera and frame numbers, from any parser's outputs."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.datasets.base_dataset import InputDataset
from torch import Tensor

from moegs_ns.data.frames.decoding import FrameSource
from moegs_ns.data.frames.images import has_alpha
from moegs_ns.data.frames.masks import ImageMasks
from moegs_ns.data.frames.store import FrameStore
from moegs_ns.scene import FrameTable, Rig, SceneInfo, frames_from_times, scene_extent

PER_IMAGE_KEYS = ("camera_ids", "frame_ids", "frame_sources")
MOST_NAMES = 10
"""Cameras that a log line names before it only counts."""
MOVING_DEVIATION = 0.05
"""Temporal standard deviation, as a fraction of full range, above which a pixel is moving."""


class FrameDataset(InputDataset):
    """nerfstudio's dataset over a frame store; decodes nothing before the first image is read.

    Images are float32 in [0, 1] by default, as everywhere in nerfstudio, or uint8 on demand.
    """

    def __init__(
        self,
        dataparser_outputs: DataparserOutputs,
        scale_factor: float = 1.0,
        *,
        data: Path | None = None,
        frame_store_dir: Path | None = None,
    ) -> None:
        """A dataset of any parser's outputs; see nerfstudio.

        `data` is the scene folder, by default the folder that all images share; `frame_store_dir`
        takes the place of the frame store's default folder.
        """
        outputs = dataparser_outputs
        if "camera_ids" not in outputs.metadata:
            outputs = with_image_ids(outputs)
        super().__init__(outputs, scale_factor)
        self.frame_table: FrameTable = frame_table(outputs)
        # Models get the metadata, but do not need thousands of paths.
        for key in PER_IMAGE_KEYS:
            self.metadata.pop(key, None)
        sources = outputs.metadata["frame_sources"]
        sizes = torch.cat([self.cameras.width, self.cameras.height], dim=1).tolist()
        color = outputs.alpha_color
        self.store = FrameStore(
            tuple(sources),
            tuple((width, height) for width, height in sizes),
            None if color is None else (float(color[0]), float(color[1]), float(color[2])),
            data or sources[0].path.parent,
            frame_store_dir,
        )
        self.masks: ImageMasks | None = None
        """Which pixels count, where the data tell."""
        if outputs.mask_filenames is not None:
            self.masks = ImageMasks(outputs.mask_filenames, self.store.sizes, scale_factor)
        self._moving: dict[int, Bool[Tensor, "H W 1"]] = {}

    def read_all(self) -> None:
        """Decode what is not in the frame store yet, and read the masks; see both for errors."""
        self.store.build()
        if self.masks is not None:
            self.masks.read_all()

    def get_numpy_image(self, image_idx: int) -> npt.NDArray[np.uint8]:
        """A copy of one image, [H, W, 3]."""
        return np.array(self.store[image_idx])

    def moving_mask(self, camera_id: int) -> Bool[Tensor, "H W 1"]:
        """Pixels of a camera whose colour deviates over the clip by more than `MOVING_DEVIATION`.

        The clip is read image by image and only sums are kept; the mask is computed once.
        """
        if camera_id not in self._moving:
            indices = torch.nonzero(self.frame_table.camera_ids == camera_id)[:, 0].tolist()
            self._moving[camera_id] = self._moving_mask(indices)
        return self._moving[camera_id]

    def _moving_mask(self, indices: list[int]) -> Bool[Tensor, "H W 1"]:
        shape = self.store[indices[0]].shape
        # Sums of integers do not drift; 32 bits hold the squares of 66 000 frames.
        total, squares = np.zeros(shape, np.uint32), np.zeros(shape, np.uint32)
        for index in indices:
            image = self.store[index].astype(np.uint32)
            total += image
            squares += image * image
        count = len(indices)
        variance = squares / count - (total / count) ** 2
        moving = variance.max(-1, keepdims=True) > (255.0 * MOVING_DEVIATION) ** 2
        return torch.from_numpy(moving)


# ---- camera and frame numbers ----


def with_image_ids(
    outputs: DataparserOutputs, training: DataparserOutputs | None = None
) -> DataparserOutputs:
    """The same outputs with `camera_ids`, `frame_ids`, `num_frames`, `fps`, `frame_sources`.

    If a parser gives no camera ids, each image is its own camera, as of one moving camera. Frames
    of evaluation images are counted by the times of the `training` images, so that equal times
    have equal frame numbers.
    """
    metadata: dict[str, Any] = dict(outputs.metadata)
    count = len(outputs.image_filenames)
    if "frame_sources" not in metadata:
        metadata["frame_sources"] = [FrameSource(path) for path in outputs.image_filenames]
    if "camera_ids" not in metadata:
        # Evaluation images must not take the numbers of training cameras.
        start = 0 if training is None else len(training.image_filenames)
        metadata["camera_ids"] = list(range(start, start + count))
    if "frame_ids" not in metadata:
        times = image_times(outputs)
        if training is None:
            frames, metadata["num_frames"] = frames_from_times(times)
        else:
            known = torch.unique(image_times(training))
            frames = (times[:, None] - known[None, :]).abs().argmin(1)
            metadata["num_frames"] = len(known)
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


def image_times(outputs: DataparserOutputs) -> Float[Tensor, "M"]:
    """Time of each image; 0 for parsers without time."""
    if outputs.cameras.times is None:
        return torch.zeros(len(outputs.image_filenames))
    return outputs.cameras.times.reshape(-1).float().cpu()


def frame_table(outputs: DataparserOutputs) -> FrameTable:
    """Camera, frame, time and position of each image."""
    return FrameTable(
        camera_ids=torch.tensor(outputs.metadata["camera_ids"], dtype=torch.long),
        frame_ids=torch.tensor(outputs.metadata["frame_ids"], dtype=torch.long),
        times=image_times(outputs),
        positions=outputs.cameras.camera_to_worlds[:, :, 3].float().cpu(),
    )


def only_images(outputs: DataparserOutputs, indices: list[int]) -> DataparserOutputs:
    """The outputs with some of the images."""
    metadata: dict[str, Any] = dict(outputs.metadata)
    for key in PER_IMAGE_KEYS:
        metadata[key] = [metadata[key][index] for index in indices]
    masks = outputs.mask_filenames
    return replace(
        outputs,
        image_filenames=[outputs.image_filenames[index] for index in indices],
        mask_filenames=None if masks is None else [masks[index] for index in indices],
        cameras=outputs.cameras[torch.tensor(indices, dtype=torch.long)],
        metadata=metadata,
    )


def split_cameras(
    outputs: DataparserOutputs, val_cameras: tuple[int, ...]
) -> tuple[DataparserOutputs, DataparserOutputs]:
    """Training images without `val_cameras`, and the images of these cameras.

    Raises:
        ValueError: a camera does not exist or is named twice, or none would be left to train on.
    """
    cameras = outputs.metadata["camera_ids"]
    known = sorted(set(cameras))
    if len(set(val_cameras)) != len(val_cameras):
        raise ValueError(
            f"--val-cameras expects each camera once, got {_listed(sorted(val_cameras))}; correct "
            "the one that is named twice."
        )
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
    val = [index for index, camera in enumerate(cameras) if camera in val_cameras]
    train = [index for index, camera in enumerate(cameras) if camera not in val_cameras]
    return only_images(outputs, train), only_images(outputs, val)


def warn_without_times(outputs: DataparserOutputs) -> str:
    """One sentence if the parser gave several images but neither times nor frames, else ""."""
    count = len(outputs.image_filenames)
    if outputs.cameras.times is not None or outputs.metadata["num_frames"] > 1 or count < 2:
        return ""
    return (
        f"Warning: the parser gives no times, so its {count} images count as one time; nothing "
        "will move."
    )


def describe_val_cameras(outputs: DataparserOutputs, val_cameras: tuple[int, ...]) -> str:
    """One sentence that names cameras by their files, given the outputs that still have them.

    A camera is named by its video or image folder, and by its first image where cameras share a
    folder, as the images of one moving camera do.
    """
    first: dict[int, FrameSource] = {}
    owners: dict[Path, set[int]] = defaultdict(set)
    metadata = outputs.metadata
    for camera, source in zip(metadata["camera_ids"], metadata["frame_sources"], strict=True):
        first.setdefault(camera, source)
        owners[source.group].add(camera)

    def name(camera: int) -> str:
        source = first[camera]
        if source.frame is not None or len(owners[source.group]) > 1:
            return f"{camera} ({source.path.name})"
        folder = source.group.parent if source.group.name == "images" else source.group
        # PanopticSports names its folders by the numbers.
        return f"{camera}" if folder.name == f"{camera}" else f"{camera} ({folder.name})"

    cameras = sorted(set(val_cameras))
    names = [name(camera) for camera in cameras[:MOST_NAMES]]
    if len(cameras) > MOST_NAMES:
        names.append(f"and {len(cameras) - MOST_NAMES} more")
    return f"Kept back for validation: {', '.join(names)}."


def _listed(ids: list[int]) -> str:
    shown = ", ".join(str(camera) for camera in ids[:40])
    return shown if len(ids) <= 40 else f"{shown}, ... {ids[-1]}"


def scene_info(outputs: DataparserOutputs, split: DataparserOutputs) -> SceneInfo:
    """What models are told of the scene.

    Args:
        outputs: images that are trained on.
        split: all images of the training split, also those of validation cameras.
    """
    center, extent = camera_extent(outputs)
    rig_center, rig_extent = camera_extent(split)
    color = outputs.alpha_color
    background = None
    if color is not None and has_alpha(outputs.metadata["frame_sources"][0].path):
        background = (float(color[0]), float(color[1]), float(color[2]))
    return SceneInfo(
        num_frames=int(outputs.metadata["num_frames"]),
        fps=float(outputs.metadata["fps"]),
        center=center,
        extent=extent,
        background=background,
        camera_ids=tuple(frame_table(outputs).camera_ids.unique().tolist()),
        first_frame=int(outputs.metadata.get("first_frame", 0)),
        rig_center=rig_center,
        rig_extent=rig_extent,
    )


def camera_extent(outputs: DataparserOutputs) -> Rig:
    """`scene_extent` of the cameras of some images, in the world."""
    # One moving camera has one centre per image; fixed cameras count once, however long the clip.
    _, first = np.unique(outputs.metadata["camera_ids"], return_index=True)
    return scene_extent(outputs.cameras.camera_to_worlds[np.sort(first), :, 3])
