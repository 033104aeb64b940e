"""What a training says of its data or refuses, and which seed decides about it."""

import shutil
from pathlib import Path

import pytest
import torch
from data_helpers import (
    dnerf_scene,
    image_scene,
    nerfstudio_scene,
    open_scene,
    panoptic_scene,
    tiny_video_scene,
)
from nerfstudio.data.dataparsers.dnerf_dataparser import DNeRFDataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

from moegs_ns.data import datamanager
from moegs_ns.data.datamanager import MoegsDataManager, MoegsDataManagerConfig
from moegs_ns.data.dataparsers.n3v import N3VDataParserConfig
from moegs_ns.data.dataparsers.panoptic import PanopticDataParserConfig


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_video_scene(tmp_path_factory.mktemp("videos"), num_cameras=5)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a training says about its data."""
    lines: list[str] = []
    monkeypatch.setattr(datamanager.CONSOLE, "log", lines.append)
    return lines


def test_a_training_names_the_cameras_that_it_keeps_back(
    videos: Path, tmp_path: Path, logged: list[str]
):
    """Numbers are positions, so that a slip shows: 3 need not be cam03."""

    def said(manager: MoegsDataManagerConfig, mode: str = "val") -> list[str]:
        logged.clear()
        manager.setup(device="cpu", test_mode=mode)
        return [line for line in logged if line.startswith("Kept back")]

    def n3v(scene: Path, *cameras: int) -> MoegsDataManagerConfig:
        return MoegsDataManagerConfig(
            dataparser=N3VDataParserConfig(data=scene), val_cameras=cameras
        )

    shifted = tmp_path / "shifted"
    shifted.mkdir()
    for number in range(5):
        (shifted / f"cam{number + 1:02d}.mp4").symlink_to(videos / f"cam{number:02d}.mp4")
    (shifted / "poses_bounds.npy").symlink_to(videos / "poses_bounds.npy")
    named = "Kept back for validation: 1 (cam02.mp4), 3 (cam04.mp4)."
    assert said(n3v(shifted, 3, 1)) == [named]
    assert said(n3v(shifted)) == said(n3v(shifted, 3), "test") == []
    folders = image_scene(tmp_path / "folders", num_frames=1)
    assert said(n3v(folders, 2)) == ["Kept back for validation: 2 (cam02)."]
    (folders / "cam01" / "0000.png").write_bytes(
        (folders / "cam01" / "images" / "0000.png").read_bytes()
    )
    shutil.rmtree(folders / "cam01" / "images")
    assert said(n3v(folders, 1)) == ["Kept back for validation: 1 (cam01)."]
    dome = PanopticDataParserConfig(data=panoptic_scene(tmp_path / "dome"), min_points=100)
    panoptic = MoegsDataManagerConfig(dataparser=dome, val_cameras=(7,))
    assert said(panoptic) == ["Kept back for validation: 7."]
    single = DNeRFDataParserConfig(data=dnerf_scene(tmp_path / "single"))
    monocular = MoegsDataManagerConfig(dataparser=single, val_cameras=(0, 3))
    assert said(monocular) == ["Kept back for validation: 0 (r_000.png), 3 (r_003.png)."]


def test_many_cameras_kept_back_are_counted(tmp_path: Path, logged: list[str]):
    scene = image_scene(tmp_path, num_cameras=14, num_frames=1)
    open_scene(scene, val_cameras=tuple(range(2, 14)))
    (line,) = (line for line in logged if line.startswith("Kept back"))
    assert line.endswith("10 (cam10), 11 (cam11), and 2 more.")


# ---- lenses and times ----


def nerfstudio_manager(scene: Path, mode: str = "val") -> MoegsDataManager:
    parser = NerfstudioDataParserConfig(data=scene, load_3D_points=False, downscale_factor=1)
    return MoegsDataManagerConfig(dataparser=parser).setup(device="cpu", test_mode=mode)


@pytest.mark.parametrize(
    ("lens", "found"),
    [
        ({"k1": 0.3}, r"the distortion 0\.3 0 0 0 0 0"),
        ({"camera_model": "OPENCV_FISHEYE"}, "of the type FISHEYE"),
    ],
)
def test_distorted_images_are_refused(tmp_path: Path, lens: dict, found: str):
    """They would be trained on as if their lenses drew straight lines."""
    scene = nerfstudio_scene(tmp_path, **lens)
    message = rf"without distortion, got .*{found}; undistort .*image_undistorter"
    for mode in ("val", "test"):
        with pytest.raises(ValueError, match=message):
            nerfstudio_manager(scene, mode)
    assert len(nerfstudio_manager(scene, "inference").train_dataset.cameras) > 0


def test_distorted_evaluation_images_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    parser = N3VDataParserConfig(data=image_scene(tmp_path)).setup()
    outputs = parser.get_dataparser_outputs("val")
    outputs.cameras.distortion_params = torch.full((4, 6), 0.1)
    original = type(parser).get_dataparser_outputs

    def given(self, split="train", **kwargs):
        return outputs if split != "train" else original(self, split, **kwargs)

    monkeypatch.setattr(type(parser), "get_dataparser_outputs", given)
    with pytest.raises(ValueError, match=r"without distortion, got .*0\.1 0\.1"):
        open_scene(tmp_path)


def test_images_without_times_count_as_one_instant(tmp_path: Path, logged: list[str]):
    manager = nerfstudio_manager(nerfstudio_scene(tmp_path / "a"))
    assert manager.train_dataset.metadata["scene"].num_frames == 1
    count = len(manager.train_dataset.cameras)
    warnings = [line for line in logged if "gives no times" in line]
    assert warnings == [
        f"Warning: the parser gives no times, so its {count} images count as one time; nothing "
        "will move."
    ]
    logged.clear()
    open_scene(image_scene(tmp_path / "b"), frames=(1, 1))
    parser = DNeRFDataParserConfig(data=dnerf_scene(tmp_path / "c"))
    MoegsDataManagerConfig(dataparser=parser).setup(device="cpu", test_mode="val")
    assert not [line for line in logged if "no times" in line]


# ---- seeds ----


def test_the_machine_seed_decides_unless_the_data_manager_has_its_own(tmp_path: Path):
    """nerfstudio seeds torch with --machine.seed before the data manager is built."""
    scene = dnerf_scene(tmp_path)

    def drawn(machine: int, own: int | None = None) -> tuple[torch.Tensor, list, list]:
        torch.manual_seed(machine)
        parser = DNeRFDataParserConfig(data=scene)
        config = MoegsDataManagerConfig(dataparser=parser, num_random_points=20, seed=own)
        manager = config.setup(device="cpu", test_mode="val")
        # Nothing that was drawn since then may matter.
        torch.rand(3)
        chosen = [manager._eval_order.randrange(1000) for _ in range(8)]
        order = [int(manager.sampler.next(step)[0]) for step in range(5)]
        return manager.train_dataparser_outputs.metadata["points3D_xyz"], chosen, order

    one, again, other = drawn(3), drawn(3), drawn(4)
    assert torch.equal(one[0], again[0])
    assert one[1:] == again[1:]
    assert not torch.equal(one[0], other[0])
    assert one[1] != other[1]
    orders = {tuple(drawn(machine)[2]) for machine in range(5)}
    assert len(orders) > 1
    own, still = drawn(3, own=9), drawn(4, own=9)
    assert torch.equal(own[0], still[0])
    assert own[1:] == still[1:]
    assert not torch.equal(own[0], one[0])
