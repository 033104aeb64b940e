"""Images of one split, read from a frame store."""

from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.datasets.base_dataset import InputDataset
from torch import Tensor

from moegs_ns.data.frames.image_ids import PER_IMAGE_KEYS, frame_table, with_image_ids
from moegs_ns.data.frames.store import FrameStore, FrameStoreSpec
from moegs_ns.scene import FrameTable

MOVING_DEVIATION = 0.05
"""Temporal standard deviation, as a share of full range, above which a pixel counts as moving."""


class FrameDataset(InputDataset):
    """nerfstudio's dataset over a frame store; decodes nothing before the first image is asked.

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
        """A dataset of any parser's outputs.

        Args:
            dataparser_outputs: description of where and how to read the images.
            scale_factor: scales images and cameras beyond what the parser did.
            data: the scene folder; by default the folder that all images share.
            frame_store_dir: folder of the frame store instead of the default one.
        """
        if "camera_ids" not in dataparser_outputs.metadata:
            dataparser_outputs = with_image_ids(dataparser_outputs)
        super().__init__(dataparser_outputs, scale_factor)
        outputs = dataparser_outputs
        sources = outputs.metadata["frame_sources"]
        self.frame_table: FrameTable = frame_table(outputs)
        # Models get the metadata; thousands of paths per image are none of their business.
        for key in PER_IMAGE_KEYS:
            self.metadata.pop(key, None)
        color = outputs.alpha_color
        widths, heights = (
            size.reshape(-1).tolist() for size in (self.cameras.width, self.cameras.height)
        )
        spec = FrameStoreSpec(
            sources=tuple(sources),
            sizes=tuple(zip(widths, heights, strict=True)),
            background=None
            if color is None
            else (float(color[0]), float(color[1]), float(color[2])),
        )
        self.store = FrameStore(spec, data or sources[0].path.parent, frame_store_dir)
        self._moving: dict[int, Bool[Tensor, "H W 1"]] = {}

    def get_numpy_image(self, image_idx: int) -> npt.NDArray[np.uint8]:
        """A copy of one image, [H, W, 3]."""
        return np.array(self.store[image_idx])

    @cached_property
    def _rows_of_camera(self) -> dict[int, list[int]]:
        rows: dict[int, list[int]] = {}
        for row, camera in enumerate(self.frame_table.camera_ids.tolist()):
            rows.setdefault(camera, []).append(row)
        return rows

    def moving_mask(self, camera_id: int) -> Bool[Tensor, "H W 1"]:
        """Pixels of a camera whose colour deviates over the clip by more than `MOVING_DEVIATION`.

        The clip is read image by image and only sums are kept; the mask is computed once.
        """
        if camera_id not in self._moving:
            self._moving[camera_id] = self._moving_mask(self._rows_of_camera[camera_id])
        return self._moving[camera_id]

    def _moving_mask(self, rows: list[int]) -> Bool[Tensor, "H W 1"]:
        shape = self.store[rows[0]].shape
        # Sums of integers do not drift over long clips; 32 bits
        # hold the squares of 66 000 frames.
        total, squares = np.zeros(shape, np.uint32), np.zeros(shape, np.uint32)
        for row in rows:
            image = self.store[row].astype(np.uint32)
            total += image
            squares += image * image
        count = len(rows)
        variance = squares / count - (total / count) ** 2
        moving = variance.max(-1, keepdims=True) > (255.0 * MOVING_DEVIATION) ** 2
        return torch.from_numpy(moving)
