"""The datamanager: multi-camera clips for training, single frames for evaluation."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.datamanagers.full_images_datamanager import (
    FullImageDatamanager,
    FullImageDatamanagerConfig,
)
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from moegs_ns.cameras import View, check_undistorted, view_from_cameras
from moegs_ns.data.calibration import check_scene, view_warning
from moegs_ns.data.clock import Clock, clock_of
from moegs_ns.data.frames.batches import LazySequence, TrainImages
from moegs_ns.data.frames.dataset import (
    FrameDataset,
    describe_val_cameras,
    scene_info,
    split_cameras,
    warn_without_times,
    with_image_ids,
)
from moegs_ns.data.overlap import drop_trained, nothing_held_out
from moegs_ns.data.parser_errors import telling_of_the_scene
from moegs_ns.data.points.initial import Frustums, leak_warning, random_points
from moegs_ns.data.scene_files import check_files
from moegs_ns.scene import FrameTable
from moegs_ns.seeds import run_seed
from moegs_ns.training.losses import target_image
from moegs_ns.training.samplers import Sampler, ShuffledSampler

Batch = dict[str, Any]
"""nerfstudio's batch: `image`, `image_idx`, `mask` where the data have masks and, for evaluation,
`is_moving`."""


@dataclass
class MoegsDataManagerConfig(FullImageDatamanagerConfig):
    """Clips read from a frame store on disk, with bounded memory."""

    _target: type = field(default_factory=lambda: MoegsDataManager)
    """Target class to instantiate."""
    # nerfstudio's options that decide nothing here are hidden from the command line: images are
    # always uint8 and never all loaded, `gpu_cache_gb` and the recipe's sampler decide the rest.
    cache_images: tyro.conf.Suppress[Literal["cpu", "gpu"]] = "cpu"
    cache_images_type: tyro.conf.Suppress[Literal["uint8", "float32"]] = "uint8"
    masks_on_gpu: tyro.conf.Suppress[bool] = False
    images_on_gpu: tyro.conf.Suppress[bool] = False
    max_thread_workers: tyro.conf.Suppress[int | None] = None
    eval_num_images_to_sample_from: tyro.conf.Suppress[int] = -1
    eval_num_times_to_repeat_images: tyro.conf.Suppress[int] = -1
    eval_image_indices: tyro.conf.Suppress[tuple[int, ...] | None] = (0,)
    train_cameras_sampling_strategy: tyro.conf.Suppress[Literal["random", "fps"]] = "random"
    train_cameras_sampling_seed: tyro.conf.Suppress[int] = 42
    fps_reset_every: tyro.conf.Suppress[int] = 100

    val_cameras: Annotated[tuple[int, ...], tyro.conf.arg(aliases=["--val-cameras"])] = ()
    """Cameras taken out of the training set; evaluation then uses exactly these instead of the
    held-out cameras. Numbers of n3v-data are indices, from 0, in alphabetical order; those of
    panoptic-data are cam_ids, those of rig-data places in rig.json, from 0."""
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

    The recipe assigns `sampler`; without one, single images come in shuffled passes.
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
        self._views: View | None = None
        self._num_evaluation = 0
        self._clock = Clock()
        data = Path(config.data or config.dataparser.data)
        check_files(data)
        with telling_of_the_scene(config.dataparser, data):
            super().__init__(config, device, test_mode, world_size, local_rank, **kwargs)
        self.train_cameras = self.train_dataset.cameras
        self._eval_order = random.Random(self.seed)

    @property
    def sampler(self) -> Sampler:
        """Decides which images a training step uses."""
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
        """Training images without the validation cameras, with the metadata that models need."""
        # Bring times to [0, 1], and number cameras and frames, whichever parser they come from.
        self._clock = clock_of(self.train_dataparser_outputs, self.dataparser)
        outputs = split = with_image_ids(self._clock.read(self.train_dataparser_outputs))
        self._check_cameras(split, is_training=True)
        notes = [warn_without_times(split), self._clock.note, split.metadata.get("note", "")]
        # Take the validation cameras out.
        if self.config.val_cameras:
            outputs, self._val_outputs = split_cameras(split, self.config.val_cameras)
            notes.append(describe_val_cameras(split, self.config.val_cameras))
        # Add what models read: the scene's description and initial points.
        metadata = outputs.metadata
        metadata["scene"] = scene_info(outputs, split)
        if "points3D_xyz" not in metadata:
            count = self.config.num_random_points
            points = random_points(_frustums(outputs.cameras), count, seed=self.seed)
            metadata.update(points.as_metadata())
        count = len(metadata["points3D_xyz"])
        origin = metadata.get("points3D_origin", f"Initial points: {count} of the parser.")
        origin = f"{origin} {leak_warning(metadata, metadata['camera_ids'])}".strip()
        metadata["points3D_origin"] = origin
        notes.append(view_warning(_frustums(outputs.cameras), metadata["points3D_xyz"].numpy()))
        # Say in the log what a user should know about the data.
        if self.test_mode == "val":
            for note in filter(None, [*notes, origin]):
                CONSOLE.log(note)
        self.train_dataparser_outputs = outputs
        return self._dataset(outputs)

    def create_eval_dataset(self) -> FrameDataset:
        """The validation cameras where there are any, else the parser's held-out images; none that
        are trained on."""
        outputs, training = self._val_outputs, self.train_dataparser_outputs
        if outputs is None:
            outputs = self.dataparser.get_dataparser_outputs(split=self.test_split)
            outputs = with_image_ids(self._clock.read(outputs), training)
            self._check_cameras(outputs, is_training=False)
        self._num_evaluation = len(outputs.image_filenames)
        # Inference scores nothing, and may show any camera.
        if self.test_mode != "inference":
            outputs, note = drop_trained(outputs, training)
            if note:
                CONSOLE.log(note)
        outputs.metadata["scene"] = training.metadata["scene"]
        return self._dataset(outputs)

    def check_held_out(self) -> None:
        """Raise a ValueError if there are no held-out images to score."""
        if reason := self.why_nothing_is_held_out():
            raise ValueError(f"Expected held-out images, but {reason}")

    def why_nothing_is_held_out(self) -> str:
        """A sentence, and what to do; "" if there are images to score."""
        return "" if len(self.eval_dataset) else nothing_held_out(self._num_evaluation)

    def _check_cameras(self, outputs: DataparserOutputs, *, is_training: bool) -> None:
        """Refuse distorted images and impossible cameras, except in inference, which reads no
        images."""
        if self.test_mode != "inference":
            check_undistorted(outputs.cameras)
            check_scene(outputs, Path(self.get_datapath()), is_training=is_training)

    def _dataset(self, outputs: DataparserOutputs) -> FrameDataset:
        return FrameDataset(
            outputs,
            self.config.camera_res_scale_factor,
            data=Path(self.get_datapath()),
            frame_store_dir=self.config.frame_store_dir,
        )

    def setup_train(self) -> None:
        """Decode the training images before training; other modes decode when one is read."""
        if self.test_mode == "val":
            self.train_dataset.read_all()
            if self.train_dataset.masks is not None:
                CONSOLE.log(self.train_dataset.masks.describe())

    def setup_eval(self) -> None:
        """Decode the evaluation images before training, not during it."""
        if self.test_mode == "val":
            self.eval_dataset.read_all()

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
        # Choose the images of this step.
        indices = self.sampler.next(step)
        # Read them from the cache on the device, from the prefetched batch, or from the store.
        batch = {"image": self._train_images.read(indices), "image_idx": indices}
        if self.train_dataset.masks is not None:
            batch["mask"] = self.train_dataset.masks.gather(indices).to(self._device)
        # Prefetch the next batch while this one is trained on.
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
        """One evaluation camera [1] and its batch, on the device.

        Raises:
            ValueError: there are no evaluation images.
        """
        self.check_held_out()
        dataset = self.eval_dataset
        camera = _cameras_at(dataset.cameras, torch.tensor([index])).to(self._device)
        moving = dataset.moving_mask(int(dataset.frame_table.camera_ids[index]))
        batch = {
            "image": torch.from_numpy(dataset.get_numpy_image(index)).to(self._device),
            "image_idx": index,
            "is_moving": moving.to(self._device),
        }
        if dataset.masks is not None:
            batch["mask"] = dataset.masks[index].to(self._device)
        return camera, batch

    def some_training_images(self, count: int) -> Iterator[tuple[View, Float[Tensor, "H W 3"]]]:
        """`training_image` of at most `count` images, the same ones at every call; each is read
        when it is asked for."""
        order = torch.randperm(len(self.train_dataset), generator=torch.Generator().manual_seed(0))
        return map(self.training_image, order[:count].tolist())

    def training_image(self, index: int) -> tuple[View, Float[Tensor, "H W 3"]]:
        """The view of one training image and its ground truth in [0, 1], NaN at pixels that do not
        count, on the device."""
        dataset = self.train_dataset
        view = view_from_cameras(_cameras_at(dataset.cameras, torch.tensor([index])))
        image = torch.from_numpy(dataset.get_numpy_image(index)).to(self._device)
        target = target_image({"image": image}, self._device)
        if dataset.masks is not None:
            target[~dataset.masks[index][..., 0].to(self._device)] = torch.nan
        return view.to(self._device), target

    def next_eval(self, step: int) -> tuple[Cameras, Batch]:
        """A random evaluation image."""
        return self.next_eval_image(step)

    def next_eval_image(self, step: int) -> tuple[Cameras, Batch]:
        """A random evaluation image; all come once before one comes again."""
        self.check_held_out()
        if not self.eval_unseen_cameras:
            self.eval_unseen_cameras = list(range(len(self.eval_dataset)))
        self.eval_count += 1
        chosen = self._eval_order.randrange(len(self.eval_unseen_cameras))
        return self.eval_item(self.eval_unseen_cameras.pop(chosen))

    @property
    def fixed_indices_eval_dataloader(self) -> "LazySequence[tuple[Cameras, Batch]]":  # pyright: ignore[reportIncompatibleMethodOverride]
        """All evaluation images in order."""
        return LazySequence(len(self.eval_dataset), self.eval_item)

    @property
    def cached_train(self) -> "LazySequence[Batch]":  # pyright: ignore[reportIncompatibleVariableOverride]
        """nerfstudio's name for the training images; never cached."""
        dataset = self.train_dataset
        return LazySequence(len(dataset), partial(dataset.get_data, image_type="uint8"))

    @property
    def cached_eval(self) -> "LazySequence[Batch]":  # pyright: ignore[reportIncompatibleVariableOverride]
        """nerfstudio's name for the evaluation images; never cached."""
        dataset = self.eval_dataset
        return LazySequence(len(dataset), partial(dataset.get_data, image_type="uint8"))


def _cameras_at(cameras: Cameras, indices: torch.Tensor) -> Cameras:
    """Some cameras; slices share nothing with the data set, so anybody may write to them."""
    chosen = cameras[indices]
    chosen.metadata = {**(chosen.metadata or {}), "cam_idx": int(indices[0])}
    return chosen


def _frustums(cameras: Cameras) -> Frustums:
    cameras = replace(cameras, metadata=None)
    return Frustums(
        camera_to_worlds=cameras.camera_to_worlds.double().numpy(),
        Ks=cameras.get_intrinsics_matrices().double().numpy(),
        width=int(cameras.width[0, 0]),
        height=int(cameras.height[0, 0]),
    )
