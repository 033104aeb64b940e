"""The datamanager: what a training step and an evaluation get, and nerfstudio's other demands."""

import tracemalloc
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import tyro
import yaml
from data_helpers import (
    dnerf_scene,
    image_scene,
    open_scene,
    panoptic_scene,
    test_image,
    tiny_video_scene,
)
from nerfstudio.data.datamanagers.full_images_datamanager import (
    FullImageDatamanager,
    FullImageDatamanagerConfig,
)
from nerfstudio.data.dataparsers.dnerf_dataparser import DNeRFDataParserConfig
from nerfstudio.data.utils.dataloaders import FixedIndicesEvalDataloader

from moegs_ns.cameras import view_from_cameras
from moegs_ns.data.datamanager import MoegsDataManager, MoegsDataManagerConfig
from moegs_ns.data.dataparsers.n3v import N3VDataParserConfig
from moegs_ns.data.dataparsers.panoptic import PanopticDataParserConfig
from moegs_ns.data.frames import store as frame_store
from moegs_ns.data.frames.batches import TrainImages
from moegs_ns.data.frames.dataset import FrameDataset
from moegs_ns.scene import SceneInfo
from moegs_ns.training.samplers import SameTimeSampler, ShuffledSampler


@pytest.fixture
def manager(tmp_path: Path) -> MoegsDataManager:
    return open_scene(image_scene(tmp_path))


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_video_scene(tmp_path_factory.mktemp("videos"), num_cameras=5)


@dataclass
class Trainer:
    """Stands for nerfstudio's trainer, below which the datamanager is configured."""

    datamanager: MoegsDataManagerConfig


def dnerf_manager(scene: Path, **options) -> MoegsDataManager:
    parser = DNeRFDataParserConfig(data=scene, **options)
    return MoegsDataManagerConfig(dataparser=parser).setup(device="cpu", test_mode="val")


# ---- training ----


def test_a_training_batch_fits_together(manager: MoegsDataManager):
    seen = set()
    for step in range(8):
        cameras, batch = manager.next_train(step)
        (index,) = batch["image_idx"].tolist()
        camera, frame = 1 + index // 4, index % 4
        seen.add(index)
        assert batch["image"].shape == (1, 16, 24, 3)
        assert batch["image"].dtype == torch.uint8
        assert np.array_equal(batch["image"][0].numpy(), test_image(camera, frame))
        view = view_from_cameras(cameras)
        assert (view.camera_ids.tolist(), view.frame_ids.tolist()) == ([camera], [frame])
        assert float(view.times[0]) == pytest.approx(frame / 3)
        assert cameras.metadata is not None
        assert cameras.metadata["cam_idx"] == index
        assert cameras.metadata["camera_id"].shape == (1, 1)
        assert cameras.device == torch.device("cpu")
    assert seen == set(range(8))


def test_batches_of_one_instant(manager: MoegsDataManager):
    manager.sampler = SameTimeSampler(manager.frame_table, 2, seed=3)
    for step in range(6):
        cameras, batch = manager.next_train(step)
        view = view_from_cameras(cameras)
        view.assert_one_time()
        assert sorted(view.camera_ids.tolist()) == [1, 2]
        assert batch["image"][:, 0, 0, 0].tolist() == [10 * c for c in view.camera_ids.tolist()]


def test_what_is_written_to_a_camera_stays_with_its_image(manager: MoegsDataManager):
    first, _ = manager.next_train(0)
    assert first.metadata is not None
    first.metadata["cam_idx"] = -5
    first.metadata["camera_id"][:] = 99
    first.metadata["extra"] = 1
    first.camera_to_worlds[:] = 7.0
    for step in range(1, 8):
        cameras, _ = manager.next_train(step)
        assert cameras.metadata is not None
        assert set(cameras.metadata) == {"cam_idx", "camera_id", "frame_id"}
        assert 99 not in cameras.metadata["camera_id"]
        assert float(cameras.camera_to_worlds.max()) < 7.0
    assert float(manager.train_dataset.cameras.camera_to_worlds.max()) < 7.0


@pytest.mark.parametrize("views_per_step", [1, 2])
def test_views_of_a_step_are_those_of_its_cameras(manager, views_per_step):
    """They come from one table of all training images, which is made once."""
    manager.sampler = ShuffledSampler(manager.frame_table, views_per_step, seed=1)
    table = manager.train_views
    for step in range(8):
        view, batch = manager.next_train_view(step)
        expected = view_from_cameras(manager.train_dataset.cameras[batch["image_idx"]])
        for name, value in vars(expected).items():
            assert torch.equal(torch.as_tensor(getattr(view, name)), torch.as_tensor(value)), name
    assert manager.train_views is table and len(table) == len(manager.train_dataset)


def test_prefetching_changes_nothing(videos: Path, monkeypatch: pytest.MonkeyPatch):
    def run(expect: bool) -> tuple[list[int], torch.Tensor, TrainImages]:
        manager = open_scene(videos)
        manager.sampler = SameTimeSampler(manager.frame_table, 3, seed=1)
        if not expect:
            monkeypatch.setattr(TrainImages, "expect", lambda self, indices: None)
        batches = [manager.next_train(step)[1] for step in range(20)]
        indices = [index for batch in batches for index in batch["image_idx"].tolist()]
        assert manager._train_images is not None
        return indices, torch.cat([b["image"] for b in batches]), manager._train_images

    with_prefetch, without = run(True), run(False)
    assert with_prefetch[0] == without[0]
    assert torch.equal(with_prefetch[1], without[1])


def test_an_unexpected_batch_is_read_all_the_same(manager: MoegsDataManager):
    images = TrainImages(manager.train_dataset.store, torch.device("cpu"), 8.0)
    images.expect(torch.tensor([0]))
    assert np.array_equal(images.read(torch.tensor([5]))[0].numpy(), test_image(2, 1))
    assert not images.is_cached


@pytest.mark.parametrize("kind", [ShuffledSampler, SameTimeSampler])
def test_peek_draws_nothing(manager: MoegsDataManager, kind: type):
    sampler, twin = kind(manager.frame_table, 2, 5), kind(manager.frame_table, 2, 5)
    for step in range(12):
        expected = sampler.peek()
        drawn = sampler.next(step)
        assert torch.equal(expected, drawn)
        assert torch.equal(drawn, twin.next(step))


def test_memory_stays_bounded(tmp_path: Path):
    """100 steps over 24 MB of images hold a few images at a time, not the clip."""
    scene = image_scene(tmp_path, num_cameras=2, num_frames=40)
    manager = open_scene(scene, camera_res_scale_factor=20.0)
    image_bytes = 320 * 480 * 3
    assert manager.train_dataset.store.num_bytes == 40 * image_bytes
    manager.next_train(0)
    tracemalloc.start()
    for step in range(100):
        manager.next_train(step)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * image_bytes


def test_rays_per_batch_touch_no_image(manager: MoegsDataManager, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(frame_store.FrameStore, "__getitem__", lambda *_: pytest.fail("read"))
    assert manager.get_train_rays_per_batch() == 16 * 24
    assert len(manager.cached_train) == 8
    assert len(manager.fixed_indices_eval_dataloader) == 4


# ---- evaluation ----


def test_evaluation_items(manager: MoegsDataManager):
    items = list(manager.fixed_indices_eval_dataloader)
    assert len(items) == len(manager.fixed_indices_eval_dataloader) == 4
    for index, (camera, batch) in enumerate(items):
        assert camera.shape == (1,)
        assert np.array_equal(batch["image"].numpy(), test_image(0, index))
        assert batch["image_idx"] == index
        assert batch["is_moving"].shape == (16, 24, 1)
        view = view_from_cameras(camera)
        assert (view.camera_ids.tolist(), view.frame_ids.tolist()) == ([0], [index])
    shown = [manager.next_eval_image(0)[1]["image_idx"] for _ in range(8)]
    assert sorted(shown[:4]) == sorted(shown[4:]) == [0, 1, 2, 3]
    assert manager.next_eval(0)[1]["image"].dtype == torch.uint8


def test_moving_pixels_are_those_that_deviate(tmp_path: Path):
    from PIL import Image

    scene = image_scene(tmp_path, num_frames=4)
    for frame in range(4):
        image = np.full((16, 24, 3), 250, dtype=np.uint8)
        image[:4, :, 1] = 0 if frame % 2 else 50  # Deviation 25 of 255.
        image[4:8, :, 2] = 200 if frame % 2 else 220  # Deviation 10 of 255.
        Image.fromarray(image).save(scene / "cam00" / "images" / f"{frame:04d}.png")
    _, batch = open_scene(scene).next_eval_image(0)
    assert bool(batch["is_moving"][:4].all())
    assert not bool(batch["is_moving"][4:].any())
    one_frame = open_scene(scene, frames=(1, 1)).next_eval_image(0)[1]
    assert not bool(one_frame["is_moving"].any())


def test_validation_cameras_leave_the_training_set(videos: Path):
    manager = open_scene(videos, val_cameras=(2, 4))
    assert set(manager.frame_table.camera_ids.tolist()) == {1, 3}
    assert set(manager.eval_dataset.frame_table.camera_ids.tolist()) == {2, 4}
    assert len(manager.eval_dataset.cameras) == len(manager.eval_dataset) == 10
    plain = open_scene(videos)
    index = plain.frame_table.camera_ids.tolist().index(4)
    assert np.array_equal(
        manager.eval_dataset.get_numpy_image(5), plain.train_dataset.get_numpy_image(index)
    )
    centers = plain.train_dataset.cameras.camera_to_worlds[[0, 10], :, 3]
    scene = manager.train_dataset.metadata["scene"]
    np.testing.assert_allclose(scene.center, centers.mean(0), atol=1e-5)
    # All cameras tell the scene, whichever are kept back.
    whole = plain.train_dataset.metadata["scene"]
    assert scene.rig == whole.rig == (whole.center, whole.extent) != (scene.center, scene.extent)
    assert len(manager.train_dataparser_outputs.image_filenames) == 10
    for mode in ("test", "inference"):
        again = open_scene(videos, val_cameras=(2,), test_mode=mode)
        assert set(again.eval_dataset.frame_table.camera_ids.tolist()) == {2}


def test_unknown_and_all_validation_cameras(videos: Path):
    with pytest.raises(ValueError, match=r"which are 1, 2, 3, 4, got 0, 9"):
        open_scene(videos, val_cameras=(0, 2, 9))
    with pytest.raises(ValueError, match="names all 4 training cameras"):
        open_scene(videos, val_cameras=(1, 2, 3, 4))


# ---- what models read ----


def test_scene_info(manager: MoegsDataManager):
    scene = manager.train_dataset.metadata["scene"]
    assert isinstance(scene, SceneInfo)
    assert (scene.num_frames, scene.fps, scene.background) == (4, 30.0, None)
    # Training cameras at x = 0.2 and 0.4.
    np.testing.assert_allclose(scene.center, (0.3, 0, 0), atol=1e-6)
    assert scene.extent == pytest.approx(0.11)
    places = manager.train_dataset.cameras.camera_to_worlds[:, :, 3]
    assert manager.frame_table.positions is not None
    assert torch.equal(manager.frame_table.positions, places)
    assert manager.eval_dataset.metadata["scene"] == scene
    assert "frame_sources" not in manager.train_dataset.metadata
    assert manager.train_dataparser_outputs.metadata["points3D_xyz"].shape == (50, 3)


def test_dnerf_data_works_unchanged(tmp_path: Path):
    manager = dnerf_manager(dnerf_scene(tmp_path))
    assert manager.frame_table.camera_ids.tolist() == [0, 1, 2, 3, 4]
    assert manager.frame_table.frame_ids.tolist() == [0, 1, 2, 3, 4]
    # Evaluation times are found among the training times; their cameras are nobody's.
    assert manager.eval_dataset.frame_table.frame_ids.tolist() == [2]
    assert manager.eval_dataset.frame_table.camera_ids.tolist() == [5]
    scene = manager.train_dataset.metadata["scene"]
    assert (scene.num_frames, scene.background) == (5, (1.0, 1.0, 1.0))
    _, batch = manager.next_train(0)
    image = batch["image"][0]
    assert image[10, 10].tolist() == [255, 0, 0]
    assert image[19, 19].tolist() == [255, 255, 255]
    np.testing.assert_allclose(image[0, 0], [127, 127, 255], atol=1)
    metadata = manager.train_dataparser_outputs.metadata
    assert metadata["points3D_xyz"].shape == metadata["points3D_rgb"].shape == (10_000, 3)
    assert "random" in metadata["points3D_origin"]
    assert metadata["points3D_xyz"].norm(dim=-1).max() < 3.0
    assert not bool(manager.next_eval_image(0)[1]["is_moving"].any())
    assert manager.includes_time


def test_dnerf_colour_under_transparency(tmp_path: Path):
    manager = dnerf_manager(dnerf_scene(tmp_path), alpha_color="black")
    assert manager.train_dataset.metadata["scene"].background == (0.0, 0.0, 0.0)
    assert manager.next_train(0)[1]["image"][0, 19, 19].tolist() == [0, 0, 0]


def test_panoptic_data_through_the_manager(tmp_path: Path):
    parser = PanopticDataParserConfig(data=panoptic_scene(tmp_path), min_points=100)
    manager = MoegsDataManagerConfig(dataparser=parser).setup(device="cpu")
    index = manager.frame_table.camera_ids.tolist().index(4) + 2
    difference = manager.train_dataset.get_numpy_image(index).astype(int) - test_image(4, 2)
    assert np.abs(difference).mean() < 3


# ---- nerfstudio's tools ----


def test_nerfstudio_recognises_the_classes(manager: MoegsDataManager):
    assert isinstance(manager, FullImageDatamanager)
    assert isinstance(manager.config, FullImageDatamanagerConfig)
    assert isinstance(manager.train_dataset, FrameDataset)
    assert manager.dataset_type is FrameDataset
    assert manager.get_param_groups() == {}
    assert manager.to("cpu") is manager


def test_dataset_render_loop(manager: MoegsDataManager):
    """What `ns-render dataset` does with a dataset."""
    loader = FixedIndicesEvalDataloader(input_dataset=manager.eval_dataset, num_workers=0)
    camera, batch = next(iter(loader))
    assert batch["image"].dtype == torch.float32
    np.testing.assert_allclose(batch["image"] * 255, test_image(0, 0), atol=1e-3)
    assert view_from_cameras(camera).camera_ids.tolist() == [0]


def test_inference_decodes_nothing(videos: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(frame_store, "_decode_all", lambda missing: pytest.fail("decoded"))
    for mode in ("inference", "test"):
        manager = open_scene(videos, test_mode=mode, frame_store_dir=tmp_path / mode)
        assert manager.train_dataset.metadata["scene"].num_frames == 5
        assert len(manager.train_dataparser_outputs.metadata["points3D_xyz"]) > 0


def test_panoptic_inference_needs_no_images(tmp_path: Path):
    import shutil

    scene = panoptic_scene(tmp_path)
    shutil.rmtree(scene / "ims")
    config = MoegsDataManagerConfig(dataparser=PanopticDataParserConfig(data=scene))
    manager = config.setup(device="cpu", test_mode="inference")
    assert len(manager.eval_dataset.cameras) == 3
    with pytest.raises(FileNotFoundError, match=r"000000\.jpg, but there is none"):
        replace(config).setup(device="cpu", test_mode="val")


def test_options_on_the_command_line():
    for option in ("--val-cameras", "--datamanager.val-cameras"):
        args = [option, "3", "5", "--datamanager.seed", "2", "n3v-data", "--frames", "1", "4"]
        config = tyro.cli(Trainer, args=args).datamanager
        assert (config.val_cameras, config.seed) == ((3, 5), 2)
        assert isinstance(config.dataparser, N3VDataParserConfig)
        assert config.dataparser.frames == (1, 4)
    again = yaml.load(yaml.dump(config), Loader=yaml.Loader)
    assert again == config
    assert MoegsDataManagerConfig().seed is None


@pytest.mark.gpu
def test_images_that_fit_stay_on_the_gpu(tmp_path: Path):
    scene = image_scene(tmp_path)
    manager = open_scene(scene)
    manager.to("cuda")
    _, batch = manager.next_train(0)
    assert batch["image"].is_cuda
    assert manager._train_images is not None
    assert manager._train_images.is_cached
    expected = manager.train_dataset.get_numpy_image(int(batch["image_idx"][0]))
    assert np.array_equal(batch["image"][0].cpu().numpy(), expected)
    small = open_scene(scene, gpu_cache_gb=1e-6)
    small.to("cuda")
    for step in range(4):
        _, batch = small.next_train(step)
        expected = small.train_dataset.get_numpy_image(int(batch["image_idx"][0]))
        assert np.array_equal(batch["image"][0].cpu().numpy(), expected)


@pytest.mark.data
def test_real_dome_frames(data_dir: Path, tmp_path: Path):
    parser = PanopticDataParserConfig(data=data_dir / "panoptic_basketball", frames=(0, 1))
    config = MoegsDataManagerConfig(dataparser=parser, frame_store_dir=tmp_path, val_cameras=(1,))
    manager = config.setup(device="cpu")
    assert len(manager.train_dataset) == 26 * 2
    assert set(manager.eval_dataset.frame_table.camera_ids.tolist()) == {1}
    assert manager.next_train(0)[1]["image"].shape == (1, 360, 640, 3)
    assert 2.0 < manager.train_dataset.metadata["scene"].extent < 5.0


@pytest.mark.data
def test_real_dnerf_frames(data_dir: Path, tmp_path: Path):
    parser = DNeRFDataParserConfig(data=data_dir / "dnerf_mutant")
    config = MoegsDataManagerConfig(dataparser=parser, frame_store_dir=tmp_path)
    manager = config.setup(device="cpu", test_mode="test")
    assert len(manager.eval_dataset) == 20
    assert manager.train_dataset.metadata["scene"].num_frames == 150
    image = manager.eval_dataset.get_numpy_image(0)
    assert image.shape == (800, 800, 3)
    assert image[0, 0].tolist() == [255, 255, 255]
    frames, times = (getattr(manager.eval_dataset.frame_table, k) for k in ("frame_ids", "times"))
    assert torch.allclose(frames / 149, times, atol=1e-5)
