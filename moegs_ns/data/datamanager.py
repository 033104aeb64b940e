"""The datamanager: multi-camera clips for training, single frames for evaluation."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.datamanagers.full_images_datamanager import (
    FullImageDatamanager,
    FullImageDatamanagerConfig,
)
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.utils.rich_utils import CONSOLE

from moegs_ns.cameras import View, check_undistorted, view_from_cameras
from moegs_ns.data.frames.dataset import FrameDataset
from moegs_ns.data.frames.image_ids import (
    TrainingClock,
    frame_table,
    kept_back,
    split_cameras,
    training_clock,
    with_image_ids,
    without_times,
)
from moegs_ns.data.frames.sources import has_alpha
from moegs_ns.data.frames.train_images import TrainImages
from moegs_ns.data.points.initial import Frustums, leak_warning, random_points
from moegs_ns.scene import FrameTable, SceneInfo, scene_extent
from moegs_ns.seeds import run_seed
from moegs_ns.training.samplers import Sampler, ShuffledSampler

Batch = dict[str, Any]
"""nerfstudio's batch: `image`, `image_idx` and, for evaluation, `is_moving`."""


@dataclass
class MoegsDataManagerConfig(FullImageDatamanagerConfig):
    """Clips read from a frame store on disk, with bounded memory."""

    _target: type = field(default_factory=lambda: MoegsDataManager)
    """Target class to instantiate."""
    cache_images: tyro.conf.Suppress[Literal["cpu", "gpu"]] = "cpu"
    """Hidden, since `gpu_cache_gb` decides."""
    cache_images_type: tyro.conf.Suppress[Literal["uint8", "float32"]] = "uint8"
    """Hidden, since training and evaluation images are always uint8."""
    masks_on_gpu: tyro.conf.Suppress[bool] = False
    """Hidden, since there are no masks."""
    images_on_gpu: tyro.conf.Suppress[bool] = False
    """Hidden, since `gpu_cache_gb` decides."""
    max_thread_workers: tyro.conf.Suppress[int | None] = None
    """Hidden, since images are never all loaded."""
    eval_num_images_to_sample_from: tyro.conf.Suppress[int] = -1
    """Hidden, since all evaluation images are used; nerfstudio's commands may set it."""
    eval_num_times_to_repeat_images: tyro.conf.Suppress[int] = -1
    """Hidden likewise."""
    eval_image_indices: tyro.conf.Suppress[tuple[int, ...] | None] = (0,)
    """Hidden likewise."""
    train_cameras_sampling_strategy: tyro.conf.Suppress[Literal["random", "fps"]] = "random"
    """Hidden, since the recipe's sampler decides, with `seed`."""
    train_cameras_sampling_seed: tyro.conf.Suppress[int] = 42
    """Hidden likewise."""
    fps_reset_every: tyro.conf.Suppress[int] = 100
    """Hidden likewise."""
    val_cameras: Annotated[tuple[int, ...], tyro.conf.arg(aliases=["--val-cameras"])] = ()
    """Cameras taken out of the training set; evaluation then uses exactly these instead of the
    held-out cameras. A number of n3v-data is a position, from 0, in alphabetical order; one of
    panoptic-data is a cam_id."""
    frame_store_dir: Path | None = None
    """Folder for the decoded frames; by default `moegs_frames` beside the data, or the user's cache
    folder where the data cannot be written."""
    gpu_cache_gb: float = 8.0
    """Training images that fit into this many gigabytes are kept on the GPU."""
    num_random_points: int = 10_000
    """Number of random initial points where the parser gives none."""
    seed: int | None = None
    """Seed of the order of evaluation images, of training images where the recipe does not choose
    them, and of random initial points where the parser gives none; by default that of the run
    (--machine.seed)."""


class MoegsDataManager(FullImageDatamanager[FrameDataset]):
    """Serves whole images with their camera, frame and time; never loads them all.

    `sampler` is assigned by the recipe; without one, single images come in shuffled passes.
    """

    config: MoegsDataManagerConfig
    train_dataset: FrameDataset
    eval_dataset: FrameDataset

    def __init__(
        self,
        config: MoegsDataManagerConfig,
        device: torch.device | str = "cpu",
        test_mode: Literal["test", "val", "inference"] = "val",
        world_size: int = 1,
        local_rank: int = 0,
        **kwargs,
    ) -> None:
        self.seed = run_seed() if config.seed is None else config.seed
        self._sampler: Sampler | None = None
        self._train_images: TrainImages | None = None
        self._val_outputs: DataparserOutputs | None = None
        self._clock: TrainingClock | None = None
        self._views: View | None = None
        super().__init__(config, device, test_mode, world_size, local_rank, **kwargs)
        self.train_cameras = self.train_dataset.cameras
        self._eval_order = random.Random(self.seed)

    @property
    def sampler(self) -> Sampler:
        """Decides which images a training step looks at."""
        if self._sampler is None:
            self._sampler = ShuffledSampler(self.frame_table, 1, self.seed)
        return self._sampler

    @sampler.setter
    def sampler(self, sampler: Sampler | None) -> None:
        self._sampler = sampler

    @property
    def frame_table(self) -> FrameTable:
        """Camera, frame and time of the training images."""
        return self.train_dataset.frame_table

    # ---- set-up ----

    def create_train_dataset(self) -> FrameDataset:
        """Training images without the validation cameras, with everything that models need."""
        outputs = with_image_ids(self.train_dataparser_outputs)
        self._check_cameras(outputs)
        self._clock = training_clock(outputs)
        notes = [without_times(outputs)]
        if self.config.val_cameras:
            everything = outputs
            outputs, self._val_outputs = split_cameras(everything, self.config.val_cameras)
            notes.append(kept_back(everything, self.config.val_cameras))
        outputs.metadata["scene"] = _scene_info(outputs)
        if "points3D_xyz" not in outputs.metadata:
            count = self.config.num_random_points
            points = random_points(_frustums(outputs.cameras), count, seed=self.seed)
            outputs.metadata.update(points.as_metadata())
        outputs.metadata["points3D_origin"] = _origin_of_points(outputs)
        notes.append(outputs.metadata["points3D_origin"])
        if self.test_mode == "val":
            for note in filter(None, notes):
                CONSOLE.log(note)
        self.train_dataparser_outputs = outputs
        return self._dataset(outputs)

    def create_eval_dataset(self) -> FrameDataset:
        """The validation cameras where there are any, else the parser's held-out images."""
        outputs = self._val_outputs
        if outputs is None:
            outputs = self.dataparser.get_dataparser_outputs(split=self.test_split)
            outputs = with_image_ids(outputs, self._clock)
            self._check_cameras(outputs)
        outputs.metadata["scene"] = self.train_dataparser_outputs.metadata["scene"]
        return self._dataset(outputs)

    def _check_cameras(self, outputs: DataparserOutputs) -> None:
        """Refuse distorted images, except where a finished run is opened without them."""
        if self.test_mode != "inference":
            check_undistorted(outputs.cameras)

    def _dataset(self, outputs: DataparserOutputs) -> FrameDataset:
        return FrameDataset(
            outputs,
            self.config.camera_res_scale_factor,
            data=Path(self.get_datapath()),
            frame_store_dir=self.config.frame_store_dir,
        )

    def setup_train(self) -> None:
        """Decode the training images before training; other modes wait until one is asked for."""
        if self.test_mode == "val":
            self.train_dataset.store.build()

    def setup_eval(self) -> None:
        """Decode the evaluation images before training, not in the middle of it."""
        if self.test_mode == "val":
            self.eval_dataset.store.build()

    def to(self, *args, **kwargs) -> "MoegsDataManager":
        """Serve images on another device from now on."""
        super().to(*args, **kwargs)
        device = args[0] if args else kwargs.get("device")
        if isinstance(device, str | torch.device) and torch.device(device) != self._device:
            self.device = device
            self._train_images = self._views = None
        return self

    @property
    def _device(self) -> torch.device:
        return torch.device(self.device)

    # ---- training ----

    def next_train(self, step: int) -> tuple[Cameras, Batch]:
        """V cameras on the CPU, with times and ids, and their images on the device."""
        batch = self._next_batch(step)
        return _cameras_at(self.train_dataset.cameras, batch["image_idx"]), batch

    def next_train_view(self, step: int) -> tuple[View, Batch]:
        """`next_train` with the cameras as a view on the device."""
        batch = self._next_batch(step)
        return self.train_views.take(batch["image_idx"]), batch

    @property
    def train_views(self) -> View:
        """The views of all training images, in their order, on the device. Building and uploading
        the views of a step takes the host ~10 % of it."""
        if self._views is None:
            self._views = view_from_cameras(self.train_dataset.cameras).to(self._device)
        return self._views

    def _next_batch(self, step: int) -> Batch:
        if self._train_images is None:
            store = self.train_dataset.store
            self._train_images = TrainImages(store, self._device, self.config.gpu_cache_gb)
        indices = self.sampler.next(step)
        batch = {"image": self._train_images.read(indices), "image_idx": indices}
        if not self._train_images.is_cached:
            self._train_images.expect(self.sampler.peek())
        self.train_count += 1
        return batch

    def get_train_rays_per_batch(self) -> int:
        """Pixels of one training image."""
        cameras = self.train_dataset.cameras
        return int(cameras.width[0, 0]) * int(cameras.height[0, 0])

    # ---- evaluation ----

    def eval_item(self, index: int) -> tuple[Cameras, Batch]:
        """One evaluation camera [1] and its batch, on the device."""
        dataset = self.eval_dataset
        camera = _cameras_at(dataset.cameras, torch.tensor([index])).to(self._device)
        mask = dataset.moving_mask(int(dataset.frame_table.camera_ids[index]))
        batch = {
            "image": torch.from_numpy(dataset.get_numpy_image(index)).to(self._device),
            "image_idx": index,
            "is_moving": mask.to(self._device),
        }
        return camera, batch

    def next_eval(self, step: int) -> tuple[Cameras, Batch]:
        """A random evaluation image."""
        return self.next_eval_image(step)

    def next_eval_image(self, step: int) -> tuple[Cameras, Batch]:
        """A random evaluation image; all come once before one comes again."""
        if not self.eval_unseen_cameras:
            self.eval_unseen_cameras = list(range(len(self.eval_dataset)))
        self.eval_count += 1
        chosen = self._eval_order.randrange(len(self.eval_unseen_cameras))
        return self.eval_item(self.eval_unseen_cameras.pop(chosen))

    @property
    def fixed_indices_eval_dataloader(self) -> "EvalItems":  # pyright: ignore[reportIncompatibleMethodOverride]
        """All evaluation images in order, each read when its turn comes."""
        return EvalItems(self)

    @cached_property
    def cached_train(self) -> "LazyImages":  # pyright: ignore[reportIncompatibleVariableOverride]
        """nerfstudio's name for the training images; read one by one, never cached."""
        return LazyImages(self.train_dataset)

    @cached_property
    def cached_eval(self) -> "LazyImages":  # pyright: ignore[reportIncompatibleVariableOverride]
        """nerfstudio's name for the evaluation images; read one by one, never cached."""
        return LazyImages(self.eval_dataset)


class EvalItems:
    """What nerfstudio takes for the evaluation data loader: a length and an iteration."""

    def __init__(self, manager: MoegsDataManager) -> None:
        self._manager = manager

    def __len__(self) -> int:
        return len(self._manager.eval_dataset)

    def __getitem__(self, index: int) -> tuple[Cameras, Batch]:
        return self._manager.eval_item(range(len(self))[index])

    def __iter__(self) -> Iterator[tuple[Cameras, Batch]]:
        return (self[index] for index in range(len(self)))


class LazyImages:
    """A dataset's images as uint8 batches, as a list would hold them."""

    def __init__(self, dataset: FrameDataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Batch:
        return self._dataset.get_data(range(len(self))[index], image_type="uint8")


def _cameras_at(cameras: Cameras, indices: torch.Tensor) -> Cameras:
    """Some cameras; slices share nothing with the data set, so anybody may write to them."""
    chosen = cameras[indices]
    chosen.metadata = {**(chosen.metadata or {}), "cam_idx": int(indices[0])}
    return chosen


def _origin_of_points(outputs: DataparserOutputs) -> str:
    """Where the initial points come from, with a warning if held-out images helped."""
    metadata = outputs.metadata
    count = len(metadata["points3D_xyz"])
    origin = metadata.get("points3D_origin", f"Initial points: {count} of the parser.")
    return f"{origin} {leak_warning(metadata, metadata['camera_ids'])}".strip()


def _scene_info(outputs: DataparserOutputs) -> SceneInfo:
    table = frame_table(outputs)
    # One moving camera has one centre per image; fixed cameras count once, however long the clip.
    ids = table.camera_ids.tolist()
    first_rows = sorted({camera: row for row, camera in reversed(list(enumerate(ids)))}.values())
    center, extent = scene_extent(outputs.cameras.camera_to_worlds[first_rows, :, 3])
    color = outputs.alpha_color
    background = None
    if color is not None and has_alpha(outputs.metadata["frame_sources"][0].path):
        red, green, blue = (float(value) for value in color[:3])
        background = (red, green, blue)
    return SceneInfo(
        num_frames=int(outputs.metadata["num_frames"]),
        fps=float(outputs.metadata["fps"]),
        center=center,
        extent=extent,
        background=background,
        camera_ids=tuple(sorted(set(ids))),
        first_frame=int(outputs.metadata.get("first_frame", 0)),
    )


def _frustums(cameras: Cameras) -> Frustums:
    cameras = replace(cameras, metadata=None)
    return Frustums(
        camera_to_worlds=cameras.camera_to_worlds.double().numpy(),
        Ks=cameras.get_intrinsics_matrices().double().numpy(),
        width=int(cameras.width[0, 0]),
        height=int(cameras.height[0, 0]),
    )
