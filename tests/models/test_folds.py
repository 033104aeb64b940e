"""Experts that were trained on different cameras of one scene, and routers over them."""

import shutil
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from nerfstudio.configs.method_configs import all_methods
from tiny import train_config

from moegs_ns.demo.scene import write_demo_scene
from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.runs.checkpoint import load_checkpoint, open_run

FOLDS = {"moegs-stg": (1, 2), "moegs-ed3dgs": (5,)}
"""Cameras, of 1 to 5, that the expert of each method has not seen."""
NEAR = 2.0
"""Near plane in units of the extent, so far away that it cuts through what is seen."""
SCENE_ENTRIES = ("rig_center", "rig_extent", "corrections.camera_ids", "corrections.extent")
"""Ends of the names of what the state of a run of 0.2 does not tell."""


@dataclass(frozen=True)
class Folds:
    """Runs of two experts, and of a router that was trained over them on all cameras."""

    scene: Path
    experts: tuple[Path, ...]
    router: Path


def prepared(method: str, *val_cameras: int) -> Any:
    config = deepcopy(all_methods[method])
    config.pipeline.datamanager.val_cameras = val_cameras
    return config


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> Folds:
    output = tmp_path_factory.mktemp("folds")
    scene = output / "scene"
    write_demo_scene(scene, num_cameras=6, num_frames=6, width=48, height=36, num_points=500)
    experts = []
    for method, val_cameras in FOLDS.items():
        config = prepared(method, *val_cameras)
        config.pipeline.model.expert.near = NEAR
        if method == "moegs-stg":
            config.pipeline.model.color_correction = True
            config.pipeline.model.camera_optimizer.mode = "SO3xR3"
        experts.append(train_config(config, scene, output, steps=12))
    router = prepared("moegs-router")
    router.pipeline.model.experts = tuple(experts)
    return Folds(scene, tuple(experts), train_config(router, scene, output, steps=4))


def opened(config: Path, *val_cameras: int) -> Any:
    """The run's pipeline, with other validation cameras than those that it was trained with."""
    run = open_run(config)
    run.config.pipeline.datamanager.val_cameras = val_cameras
    return load_pipeline(run)


def test_the_rig_is_that_of_all_cameras(folds: Folds):
    first, second, mixed = (
        open_run(config).model_state() for config in (*folds.experts, folds.router)
    )
    own = [state["expert.scene_extent"] for state in (first, second)]
    assert own[0] != own[1]
    for name in ("rig_center", "rig_extent"):
        assert torch.equal(first[f"expert.{name}"], second[f"expert.{name}"])
        assert torch.equal(first[f"expert.{name}"], mixed[f"mixture.expert_modules.1.{name}"])
    assert torch.equal(mixed["mixture.router.scene_extent"], first["expert.rig_extent"])


@pytest.mark.parametrize("val_cameras", [(), (4,)])
def test_experts_of_a_mixture_keep_extent_and_near_plane(folds: Folds, val_cameras):
    mixture = opened(folds.router, *val_cameras).model.mixture
    for expert, config in zip(mixture.experts, folds.experts, strict=True):
        alone: Any = load_pipeline(open_run(config)).model
        assert expert.near == alone.expert.near == NEAR * alone.expert.scene.extent
        assert expert.scene.extent == alone.expert.scene.extent == float(expert.scene_extent)
        assert expert.scene.center == alone.expert.scene.center
        assert expert.scene.rig == alone.expert.scene.rig
    assert len(set(mixture.near)) == 2


def test_an_expert_shows_in_a_mixture_what_it_shows_alone(folds: Folds):
    pipeline = opened(folds.router)
    camera, _ = pipeline.datamanager.eval_item(2)
    mixed = pipeline.model.get_outputs_for_camera(camera)
    names = pipeline.model.config.expert_names
    for name, config, expert in zip(
        names, folds.experts, pipeline.model.mixture.experts, strict=True
    ):
        alone: Any = load_pipeline(open_run(config)).model
        image = alone.get_outputs_for_camera(camera)["rgb"]
        assert torch.equal(mixed[f"rgb_{name}"], image)
        # Another near plane would show.
        expert.near = NEAR * pipeline.datamanager.train_dataset.metadata["scene"].extent
        other = pipeline.model.get_outputs_for_camera(camera)[f"rgb_{name}"]
        assert not torch.equal(other, image)


def test_a_router_over_folds_goes_on(folds: Folds, tmp_path: Path):
    config = prepared("moegs-router")
    config.load_dir = folds.router.parent / "nerfstudio_models"
    resumed = open_run(train_config(config, folds.scene, tmp_path, steps=6))
    assert resumed.checkpoint_path.name == "step-000000005.ckpt"
    first, second = open_run(folds.router).model_state(), resumed.model_state()
    for name, value in first.items():
        if name.startswith("mixture.expert_modules") and isinstance(value, torch.Tensor):
            assert torch.equal(second[name], value), name


def test_an_expert_goes_on_in_its_own_extent(folds: Folds, tmp_path: Path):
    """Whatever cameras it goes on with: rates and thresholds are those of the run."""
    config = prepared("moegs-ed3dgs", 1)
    config.load_dir = folds.experts[1].parent / "nerfstudio_models"
    config.pipeline.model.expert.near = NEAR
    resumed = open_run(train_config(config, folds.scene, tmp_path, steps=14))
    contents = [
        load_checkpoint(run.checkpoint_path) for run in (open_run(folds.experts[1]), resumed)
    ]
    extents = [content["pipeline"]["_model.expert.scene_extent"] for content in contents]
    rates = [content["optimizers"]["means"]["param_groups"][0] for content in contents]
    recipes = [content["pipeline"]["_model.recipe._extra_state"] for content in contents]
    assert torch.equal(*extents)
    assert rates[0]["initial_lr"] == rates[1]["initial_lr"]
    assert recipes[0]["statistics"]["extent"] == recipes[1]["statistics"]["extent"]


def test_corrections_stay_with_their_cameras(folds: Folds):
    """Also of a mixture that is opened with other cameras; the others are as the data says."""
    learned: Any = load_pipeline(open_run(folds.experts[0])).model.corrections
    assert learned.color.abs().max() > 0
    for val_cameras in ((), (4,)):
        pipeline = opened(folds.router, *val_cameras)
        kept = pipeline.model.corrections.experts[0]
        assert kept.camera_ids.tolist() == learned.camera_ids.tolist() == [3, 4, 5]
        torch.testing.assert_close(kept.color, learned.color - learned.color.mean(0))
        assert torch.equal(kept.poses.pose_adjustment, learned.poses.pose_adjustment)
        assert torch.equal(kept.extent, learned.extent)
    for index, camera in enumerate(pipeline.datamanager.frame_table.camera_ids.tolist()):
        if index % 6:
            continue  # One frame of each camera is enough.
        view = pipeline.datamanager.train_views.select(torch.tensor([index]))
        plain = pipeline.model.mixture.render(view, camera=view.training_camera).rgb
        is_plain = torch.equal(pipeline.model.recorded_outputs(view)["rgb"], plain)
        assert is_plain == (camera in FOLDS["moegs-stg"])


def test_a_router_says_which_corrections_are_missing(folds: Folds, capsys):
    config = open_run(folds.router).config
    config.pipeline.setup(device="cpu", test_mode="val")
    told = " ".join(capsys.readouterr().out.split())
    assert f"{folds.experts[0]} was not trained on the cameras 1, 2;" in told
    assert told.count("was not trained on the cameras") == 1


def older(config: Path, folder: Path) -> Path:
    """A copy of a run with what 0.2 stored of its scene."""
    shutil.copytree(config.parent, folder)
    path = open_run(folder).checkpoint_path
    content = load_checkpoint(path)
    for name in list(content["pipeline"]):
        if name.endswith(SCENE_ENTRIES):
            del content["pipeline"][name]
    torch.save(content, path)
    return folder / "config.yml"


def test_runs_of_0_2_open_and_mix_on_their_own_cameras(folds: Folds, tmp_path: Path):
    config = older(folds.experts[0], tmp_path / "older")
    before, after = (load_pipeline(open_run(each)) for each in (folds.experts[0], config))
    camera, _ = before.datamanager.eval_item(1)
    images = [each.model.get_outputs_for_camera(camera)["rgb"] for each in (before, after)]
    assert torch.equal(*images)
    model: Any = after.model
    scene = model.expert.scene
    assert scene.rig == (scene.center, scene.extent)
    router = prepared("moegs-router", *FOLDS["moegs-stg"])
    router.pipeline.model.experts = (config,)
    run = open_run(train_config(router, folds.scene, tmp_path, steps=2))
    mixed: Any = load_pipeline(run).model
    learned = mixed.corrections.experts[0]
    assert learned.camera_ids.tolist() == model.corrections.camera_ids.tolist() == [3, 4, 5]
    router = prepared("moegs-router")
    router.pipeline.model.experts = (config,)
    with pytest.raises(ValueError, match=r"of this scene.*another.*use the same data for all"):
        train_config(router, folds.scene, tmp_path, steps=2, name="all")
