"""Trainings of FreeTimeGS by nerfstudio, with relocation at nearly every step."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from nerfstudio.configs.method_configs import all_methods
from tiny import train_config

from moegs_ns.demo.scene import write_demo_scene
from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.experts.freetime.lives import LifeName
from moegs_ns.experts.freetime.recipe import FreeTimeRecipe
from moegs_ns.runs.checkpoint import open_run

STEPS, SAVED = 16, 9


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    write_demo_scene(folder, num_cameras=4, num_frames=6, width=48, height=36, num_points=1000)
    return folder


def train(demo: Path, output: Path, name: str, life: LifeName = "bell", **options: Any) -> Path:
    config = deepcopy(all_methods["moegs-freetime"])
    config.pipeline.model.expert.life = life
    # Many are dead at once, so that many are moved.
    config.pipeline.model.recipe.densification.prune_opa = 0.47
    config.steps_per_save, config.save_only_latest_checkpoint = SAVED, False
    for option, value in options.items():
        setattr(config, option, value)
    return train_config(config, demo, output, steps=STEPS, name=name)


@pytest.mark.parametrize("life", ["bell", "gated", "flat-top"])
def test_a_resumed_training_ends_in_the_same_gaussians(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, life: LifeName
):
    moved: list[int] = []
    relocate_dead = FreeTimeRecipe.relocate_dead

    def spy(recipe: FreeTimeRecipe) -> int:
        moved.append(relocate_dead(recipe))
        return moved[-1]

    monkeypatch.setattr(FreeTimeRecipe, "relocate_dead", spy)
    whole = train(demo, tmp_path, "whole", life)
    done, folder = len(moved), whole.parent / "nerfstudio_models"
    assert sum(moved[-(STEPS - SAVED) :]) > 0
    resumed = train(demo, tmp_path, "resumed", life, load_dir=folder, load_step=SAVED)
    assert 0 < len(moved) - done < done
    expected, found = open_run(whole).model_state(), open_run(resumed).model_state()
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(found[name], value), name
    # All that was begun with is still there, and is drawn.
    assert len(expected["expert.gauss_params.means"]) == 4 * 1000
    pipeline = load_pipeline(open_run(resumed))
    camera, _ = pipeline.datamanager.eval_item(3)
    assert pipeline.model.get_outputs_for_camera(camera)["rgb"].isfinite().all()
