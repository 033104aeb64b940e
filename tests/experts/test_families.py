"""Mixtures of any number of experts of any family, also from outside the package."""

import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Literal

import drift_family
import pytest
import torch
from nerfstudio.configs.method_configs import all_methods
from still_mixtures import mixture, view
from tiny import TinyRuns, train_config

from moegs_ns.engine.trainer import MoegsTrainerConfig, load_pipeline
from moegs_ns.experts.stg.expert import STGExpertConfig
from moegs_ns.models.expert_sources import expert_methods, expert_source, unique_names
from moegs_ns.runs.checkpoint import open_run
from moegs_ns.scene import InitialPoints, SceneInfo
from moegs_ns.splatting import render

ROUTER = all_methods["moegs-router"]
SCENE = SceneInfo(num_frames=5, fps=30.0, center=(0.0, 0.0, -3.0), extent=3.0, background=None)


def router_over(experts: list[Path], scene: Path, output: Path, *, steps: int = 4) -> Path:
    config = deepcopy(ROUTER)
    config.pipeline.model.experts = tuple(experts)
    return train_config(config, scene, output, steps=steps)


@pytest.fixture(scope="module")
def drift(tiny_runs: TinyRuns, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("drift")
    config = drift_family.method.config
    assert isinstance(config, MoegsTrainerConfig)
    return train_config(config, tiny_runs.scene, output, steps=20)


def test_a_family_of_others_joins_a_mixture(tiny_runs: TinyRuns, drift: Path, tmp_path: Path):
    experts = [drift, tiny_runs.config("moegs-stg")]
    run = open_run(router_over(experts, tiny_runs.scene, tmp_path))
    assert run.config.pipeline.model.expert_names == ("drift", "stg")
    pipeline = load_pipeline(run)
    camera, batch = pipeline.datamanager.eval_item(4)
    outputs = pipeline.model.get_outputs_for_camera(camera)
    assert {"gate_drift", "rgb_drift", "gate_stg", "rgb_stg"} <= set(outputs)
    assert 0.0 < float(outputs["gate_drift"].mean()) < 1.0
    alone = load_pipeline(open_run(drift)).model.get_outputs_for_camera(camera)["rgb"]
    torch.testing.assert_close(outputs["rgb_drift"], alone)
    metrics, _ = pipeline.model.get_image_metrics_and_images(outputs, batch)
    assert metrics["psnr_oracle"] >= max(metrics["psnr_drift"], metrics["psnr_stg"])


def test_one_expert_makes_a_mixture_that_is_this_expert(
    tiny_runs: TinyRuns, drift: Path, tmp_path: Path
):
    run = open_run(router_over([drift], tiny_runs.scene, tmp_path))
    pipeline = load_pipeline(run)
    camera, _ = pipeline.datamanager.eval_item(2)
    mixed = pipeline.model.get_outputs_for_camera(camera)
    alone = load_pipeline(open_run(drift)).model.get_outputs_for_camera(camera)
    for name in ("rgb", "depth", "accumulation"):
        torch.testing.assert_close(mixed[name], alone[name], msg=name)
    assert (mixed["gate_drift"] == 1.0).all()


def test_one_method_twice_with_different_seeds(tiny_runs: TinyRuns, tmp_path: Path):
    stg = deepcopy(all_methods["moegs-stg"])
    stg.machine.seed = 7
    other = train_config(stg, tiny_runs.scene, tmp_path, steps=60, name="other")
    experts = [tiny_runs.config("moegs-stg"), other, tiny_runs.config("moegs-4dgaussians")]
    run = open_run(router_over(experts, tiny_runs.scene, tmp_path))
    assert run.config.pipeline.model.expert_names == ("stg", "stg_2", "4dgaussians")
    state = run.model_state()
    first, second = (state[f"mixture.expert_modules.{k}.gauss_params.sh0"] for k in (0, 1))
    assert first.shape != second.shape or not torch.equal(first, second)


def test_the_same_run_may_be_named_twice(tiny_runs: TinyRuns, drift: Path, tmp_path: Path):
    run = open_run(router_over([drift, drift], tiny_runs.scene, tmp_path))
    assert run.config.pipeline.model.expert_names == ("drift", "drift_2")


@pytest.mark.parametrize(
    ("methods", "names"),
    [
        ([], ()),
        (["moegs-stg"], ("stg",)),
        (["moegs-stg", "moegs-stg", "moegs-stg"], ("stg", "stg_2", "stg_3")),
        (["moegs-stg", "moegs-stg", "moegs-stg-2"], ("stg", "stg_2", "stg_2_2")),
        (["a-b", "moegs-a-b"], ("a_b", "a_b_2")),
    ],
)
def test_names_never_repeat(methods: list[str], names: tuple[str, ...]):
    assert unique_names(methods) == names


def test_experts_that_hide_rows_get_the_gates_of_the_rows_they_show():
    """Router weights are looked up by ids, so hidden rows change nothing."""
    config = drift_family.DriftExpertConfig(blink=True)
    cloud = InitialPoints(torch.rand(20, 3) - 0.5, torch.rand(20, 3))
    blinking = config.setup(scene=SCENE, points=cloud)
    blinking.gauss_params["opacities"].data += 2.0
    mixed = mixture(blinking, stg_expert("sh"))
    late = view()
    late.times[:] = 0.8
    before = mixed.render(late).gates
    mixed.router.gaussian_weights[0]["w"].data[10:] += 5.0
    torch.testing.assert_close(mixed.render(late).gates, before)
    mixed.router.gaussian_weights[0]["w"].data[:10] += 5.0
    assert not torch.allclose(mixed.render(late).gates, before)


def stg_expert(color: Literal["sh", "lite", "full"]):
    generator = torch.Generator().manual_seed(5)
    cloud = InitialPoints(
        torch.rand(25, 3, generator=generator) - 0.5, torch.rand(25, 3, generator=generator)
    )
    expert = STGExpertConfig(color=color).setup(scene=SCENE, points=cloud)
    expert.gauss_params["opacities"].data += 2.0
    return expert


@pytest.mark.parametrize("colors", [("lite", "full"), ("full", "sh", "lite"), ("sh", "lite")])
def test_experts_with_different_channels_keep_their_own(
    colors: tuple[Literal["sh", "lite", "full"], ...],
):
    """Three channels of one beside nine of another: each is shaded by its own alone."""
    experts = [stg_expert(color) for color in colors]
    images = mixture(*experts).render(view()).images
    for expert, image in zip(experts, images, strict=True):
        alone = render(expert.at(torch.tensor(0.5)), view())
        own = expert.finish(alone, view(), expert.background)[0]
        torch.testing.assert_close(image, own)


class TestNames:
    def test_our_experts_are_known_without_their_prefix(self):
        methods = expert_methods()
        for name in ("stg", "4dgaussians", "ex4dgs"):
            assert methods[name] == f"moegs-{name}"
            for word in (name, f"moegs-{name}"):
                assert expert_source(word).method == f"moegs-{name}"
        assert "router" not in methods

    def test_methods_of_others_are_known_by_their_own(self, monkeypatch):
        monkeypatch.setenv("NERFSTUDIO_METHOD_CONFIGS", "drift=drift_family:method")
        assert expert_methods()["drift"] == "drift"
        assert expert_source("drift").method == "drift"


@pytest.mark.slow
def test_a_method_of_others_on_the_command_line(tiny_runs: TinyRuns, tmp_path: Path):
    """nerfstudio's own processes train it and evaluate a mixture with it."""
    environment = os.environ | {
        "NERFSTUDIO_METHOD_CONFIGS": "drift=drift_family:method",
        "PYTHONPATH": str(Path(__file__).parents[1] / "helpers"),
    }
    options = ["--output-dir", str(tmp_path), "--experiment-name", "x", "--timestamp", "y"]
    options += ["--vis", "tensorboard", "--budget", "0.01", "--data", str(tiny_runs.scene)]
    drift, router = (
        tmp_path / "x" / name / "y" / "config.yml" for name in ("drift", "moegs-router")
    )
    experts = ["--experts", str(drift), str(tiny_runs.config("moegs-stg"))]
    for words in (
        ["train", "drift", *options, "n3v-data"],
        ["train", "moegs-router", *experts, *options, "n3v-data"],
        ["eval", "--load-config", str(router), "--output-path", str(tmp_path / "out.json")],
    ):
        command = [sys.executable, "-W", "ignore", "-m", f"nerfstudio.scripts.{words[0]}"]
        done = subprocess.run(
            [*command, *words[1:]], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "gate_drift" in (tmp_path / "out.json").read_text()
