"""Trainings of tracked experts by nerfstudio, from seeds of what moves."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.configs.method_configs import all_methods
from tiny import train_config

from moegs_ns.demo.scene import write_demo_scene
from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.experts.windows import WindowedExpert
from moegs_ns.mixture.fuse import fuse
from moegs_ns.mixture.pruning_schedule import prune
from moegs_ns.runs.checkpoint import open_run

STEPS, SAVED, SEEDS = 30, 17, 60


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six frames, of which two have seeds."""
    folder = tmp_path_factory.mktemp("demo")
    write_demo_scene(folder, num_cameras=4, num_frames=6, width=48, height=36, num_points=600)
    points = dict(np.load(folder / "points3D.npz"))
    frames = np.full(600, -1)
    frames[-2 * SEEDS :] = np.repeat([1, 4], SEEDS)
    velocity = np.zeros((600, 3), np.float32)
    velocity[-2 * SEEDS :] = (0.5, 0.0, 0.0)
    np.savez(folder / "points3D.npz", **points, moving_frame=frames, velocity=velocity)
    return folder


def train(demo: Path, output: Path, name: str, frames: Any = None, **options: Any) -> Path:
    config = deepcopy(all_methods["moegs-tracked"])
    densification = config.pipeline.model.recipe.densification
    # Rounds of growth before and after the checkpoint.
    densification.refine_start_iter, densification.refine_every = 1000, 4000
    densification.refine_stop_iter, densification.min_observations = 29000, 1
    config.steps_per_save, config.save_only_latest_checkpoint = SAVED, False
    for option, value in options.items():
        setattr(config, option, value)
    return train_config(config, demo, output, steps=STEPS, name=name, frames=frames)


@pytest.fixture(scope="module")
def whole(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(demo, tmp_path_factory.mktemp("whole"), "whole")


def test_a_resumed_training_ends_in_the_same_gaussians(demo: Path, whole: Path, tmp_path: Path):
    folder = whole.parent / "nerfstudio_models"
    resumed = train(demo, tmp_path, "resumed", load_dir=folder, load_step=SAVED)
    expected, found = open_run(whole).model_state(), open_run(resumed).model_state()
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(found[name], value), name
    # Growth came before and after the checkpoint.
    saved = torch.load(folder / f"step-{SAVED:09d}.ckpt", weights_only=True)["pipeline"]
    name = "expert.key_gauss_params.means"
    counts = [SEEDS, len(saved[f"_model.{name}"]), len(expected[name])]
    assert counts[0] < counts[1] < counts[2]


def test_it_is_mixed_fused_and_pruned(demo: Path, whole: Path, tmp_path: Path):
    """Beside an expert of two windows of the clip, of its own family."""
    windows = [
        train(demo, tmp_path, f"w{first}", frames=(first, last)) for first, last in ((0, 2), (3, 5))
    ]
    config = deepcopy(all_methods["moegs-router"])
    config.pipeline.model.experts = (whole, Path("+".join(map(str, windows))))
    run = open_run(train_config(config, demo, tmp_path, steps=4))
    pipeline: Any = load_pipeline(run)
    experts = pipeline.model.mixture.experts
    assert isinstance(experts[1], WindowedExpert)
    assert {type(member).__name__ for member in experts[1].members} == {"TrackedExpert"}
    camera, _ = pipeline.datamanager.eval_item(3)
    outputs = pipeline.model.get_outputs_for_camera(camera)
    assert outputs["rgb"].isfinite().all() and 0.0 < float(outputs["gate_tracked"].mean()) < 1.0
    mixture, time = pipeline.model.mixture, torch.tensor(0.2)
    halves = [torch.full((expert.num_gaussians,), 0.5) for expert in mixture.experts]
    fused = fuse(mixture, halves, time)
    alone = experts[0].at(time)
    torch.testing.assert_close(fused.opacities[: len(alone)], 0.5 * alone.opacities)
    keep = [torch.arange(expert.num_gaussians) % 2 == 0 for expert in mixture.experts]
    pruned = prune(mixture, keep).experts[0].at(time)
    torch.testing.assert_close(pruned.means, alone.means[keep[0]])


def test_it_learns_from_a_mixture(demo: Path, whole: Path, tmp_path: Path):
    """As a student, from its own router's gates."""
    config = deepcopy(all_methods["moegs-router"])
    config.pipeline.model.experts = (whole,)
    teacher = train_config(config, demo, tmp_path, steps=2)
    student = deepcopy(all_methods["moegs-tracked"])
    student.pipeline.model.distillation.teacher = teacher
    run = open_run(train_config(student, demo, tmp_path, steps=3, name="student"))
    pipeline: Any = load_pipeline(run)
    assert pipeline.model.expert.num_dynamic >= SEEDS
    record = json.loads((run.config_path.parent / "training.json").read_text())
    assert record["distillation"]["gate"] == "tracked"
