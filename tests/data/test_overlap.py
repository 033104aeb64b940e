"""Evaluation images that are training images: never scored as held out, whatever the parser."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from data_helpers import dnerf_scene, dycheck_scene, nerfstudio_scene, open_scene, tiny_video_scene
from nerfstudio.data.dataparsers.dnerf_dataparser import DNeRFDataParserConfig
from nerfstudio.data.dataparsers.dycheck_dataparser import DycheckDataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

from moegs_ns.data import datamanager
from moegs_ns.data.datamanager import MoegsDataManager, MoegsDataManagerConfig
from moegs_ns.engine.trainer import MoegsPipeline


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said about the data."""
    lines: list[str] = []
    monkeypatch.setattr(datamanager.CONSOLE, "log", lines.append)
    return lines


def opened(parser, mode: str = "test", **options) -> MoegsDataManager:
    config = MoegsDataManagerConfig(dataparser=parser, num_random_points=50, **options)
    return config.setup(device="cpu", test_mode=mode)


def warnings(logged: list[str]) -> list[str]:
    return [line for line in logged if "held" in line and line.startswith("Warning")]


@pytest.mark.parametrize("mode", ["val", "test"])
def test_a_parser_that_falls_back_to_training_images(tmp_path: Path, logged: list[str], mode: str):
    manager = opened(DycheckDataParserConfig(data=dycheck_scene(tmp_path)), mode)
    assert len(manager.train_dataset) == 4
    assert len(manager.eval_dataset) == 0
    assert warnings(logged) == [
        "Warning: all evaluation images of the data (4) are training images as well, so nothing is "
        "held out; train with --val-cameras to keep cameras back."
    ]
    for use in (
        manager.check_held_out, lambda: manager.eval_item(0), lambda: manager.next_eval_image(0)
    ):  # fmt: skip
        with pytest.raises(
            ValueError, match=r"^Expected held-out images, but all evaluation images"
        ):
            use()
    # ns-eval and `moegs report` ask for the pipeline's figures.
    pipeline: Any = SimpleNamespace(datamanager=manager)
    with pytest.raises(ValueError, match=r"^Expected held-out images, but all evaluation"):
        MoegsPipeline.get_average_eval_image_metrics(pipeline, get_std=True)
    # Training goes on without.
    assert manager.next_train(0)[1]["image"].shape == (1, 16, 24, 3)


def test_what_the_sentence_advises_works(tmp_path: Path, logged: list[str]):
    parser = DycheckDataParserConfig(data=dycheck_scene(tmp_path))
    manager = opened(parser, val_cameras=(1, 3))
    assert (len(manager.train_dataset), len(manager.eval_dataset)) == (2, 2)
    manager.check_held_out()
    assert warnings(logged) == []


def test_evaluation_on_all_images(tmp_path: Path):
    """nerfstudio's `eval-mode all` gives both splits the same images, which have no times."""
    parser = NerfstudioDataParserConfig(data=nerfstudio_scene(tmp_path), eval_mode="all")
    manager = opened(parser)
    assert (len(manager.train_dataset), len(manager.eval_dataset)) == (5, 0)
    assert len(opened(parser, "inference").eval_dataset) == 5, "renders may show any camera"


def link_of_first(link: str, scene: Path) -> None:
    """The second image of `test` becomes another name of the first training image."""
    trained, name = scene / "train" / "r_000.png", scene / "test" / "r_001.png"
    if link == "symbolic link":
        name.symlink_to(trained)
    elif link == "link of the folder":
        (scene / "again").symlink_to(scene / "train")
    elif link == "hard link":
        os.link(trained, name)
    else:
        shutil.copy(trained, name)
    path = scene / "transforms_test.json"
    meta = json.loads(path.read_text())
    image = "./again/r_000" if link == "link of the folder" else "./test/r_001"
    pose = meta["frames"][0]["transform_matrix"]
    added = {"file_path": image, "time": 0.75, "transform_matrix": pose}
    if link == "copy":
        added = json.loads((scene / "transforms_train.json").read_text())["frames"][0]
        added["file_path"] = image
    meta["frames"].append(added)
    path.write_text(json.dumps(meta))


@pytest.mark.parametrize("link", ["symbolic link", "link of the folder", "hard link", "copy"])
def test_other_names_of_training_images(tmp_path: Path, logged: list[str], link: str):
    scene = dnerf_scene(tmp_path)
    link_of_first(link, scene)
    manager = opened(DNeRFDataParserConfig(data=scene))
    assert len(manager.eval_dataset) == 1
    assert manager.eval_dataset.frame_table.times.tolist() == [0.25]
    assert warnings(logged) == [
        "Warning: 1 of 2 evaluation images are training images as well; they are left out of all "
        "held-out figures."
    ]


def test_held_out_images_stay(tmp_path: Path, logged: list[str]):
    """Cameras and frames of one video file, and images of a camera that stands still."""
    assert (
        len(open_scene(tiny_video_scene(tmp_path / "videos"), test_mode="test").eval_dataset) == 5
    )
    scene = nerfstudio_scene(tmp_path / "still")
    meta = json.loads((scene / "transforms.json").read_text())
    for number, frame in enumerate(meta["frames"]):
        # At each place the camera takes two images, one of them for evaluation.
        frame["transform_matrix"] = meta["frames"][number // 2 * 2]["transform_matrix"]
    (scene / "transforms.json").write_text(json.dumps(meta))
    parser = NerfstudioDataParserConfig(data=scene, eval_mode="interval", eval_interval=2)
    assert len(opened(parser).eval_dataset) == 3
    assert warnings(logged) == []


def test_a_split_without_images(tmp_path: Path):
    scene = nerfstudio_scene(tmp_path)
    manager = opened(NerfstudioDataParserConfig(data=scene, train_split_fraction=0.99))
    with pytest.raises(ValueError, match="the data have no evaluation images"):
        manager.check_held_out()
