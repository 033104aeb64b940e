"""Joint training as a command: what a run trains, leaves behind, and is good for."""

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from command_lines import parse
from nerfstudio.configs.method_configs import all_methods
from tiny import TINY_POINTS, TinyRuns, train_config, train_tiny

from moegs_ns.engine.trainer import MoegsTrainerConfig, load_pipeline
from moegs_ns.launch.cli_args import run_nerfstudio
from moegs_ns.launch.jobs import progress_of
from moegs_ns.models.joint_model import JointModel
from moegs_ns.models.mixture_model import MixtureModel
from moegs_ns.reports.scores import score_run
from moegs_ns.routers import VolumeRouterConfig
from moegs_ns.runs.checkpoint import load_checkpoint, open_run
from moegs_ns.scripts.export import Export
from moegs_ns.scripts.fuse import Fuse

FULL_STEPS = 8000
"""Steps of the full run, so that 40 of them have a budget that reaches all stages."""
OBSERVE_LESS = "{}: --pipeline.model.recipe.densification.min-observations 2"
"""Rounds of densification come within few steps."""


def joint_config(*experts: str, full_steps: int = FULL_STEPS) -> MoegsTrainerConfig:
    config = deepcopy(all_methods["moegs-joint"])
    config.pipeline.model.experts = tuple(map(Path, experts))
    config.max_num_iterations = full_steps
    return config


def watched_config() -> MoegsTrainerConfig:
    config = joint_config("stg", "4dgaussians")
    options = tuple(OBSERVE_LESS.format(name) for name in ("stg", "4dgaussians"))
    model: Any = config.pipeline.model
    model.expert_options = options
    return config


def assert_consistent(model: JointModel, optimizers: dict[str, torch.optim.Optimizer]):
    """Optimisers hold exactly the model's parameters; moments and weights have their rows."""
    held = [p for each in optimizers.values() for p in each.param_groups[0]["params"]]
    assert {id(p) for p in held} == {id(p) for p in model.mixture.parameters()}
    for name, optimizer in optimizers.items():
        for parameter, state in optimizer.state.items():
            assert any(parameter is each for each in held), name
            # Groups without a gradient so far have no moments.
            assert state.get("exp_avg", parameter).shape == parameter.shape, name
    for expert, rows in zip(
        model.mixture.experts, model.mixture.router.gaussian_weights, strict=True
    ):
        assert {len(weights) for weights in rows.values()} == {expert.num_gaussians}


@dataclass
class Watched:
    """What was seen while a joint run was trained."""

    config: Path
    counts: list[list[int]] = field(default_factory=list)
    """Gaussians of each expert after each step."""
    untouched: set[str] = field(default_factory=set)
    """Groups that no step gave a gradient."""


@pytest.fixture(scope="module")
def joint(tiny_runs: TinyRuns, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """STG and 4DGaussians trained together for 40 steps."""
    seen = Watched(Path())
    after_step, callbacks = JointModel.after_step, JointModel.get_training_callbacks
    held: dict[str, torch.optim.Optimizer] = {}

    def remember(self, attributes):
        held.update(attributes.optimizers.optimizers)
        seen.untouched.update(held)
        return callbacks(self, attributes)

    def watch(self, step):
        for name in list(seen.untouched):
            gradients = [p.grad for p in held[name].param_groups[0]["params"]]
            if any(g is not None and bool((g != 0).any()) for g in gradients):
                seen.untouched.remove(name)
        after_step(self, step)
        assert_consistent(self, held)
        seen.counts.append([expert.num_gaussians for expert in self.mixture.experts])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JointModel, "get_training_callbacks", remember)
        patch.setattr(JointModel, "after_step", watch)
        output = tmp_path_factory.mktemp("joint")
        seen.config = train_config(watched_config(), tiny_runs.scene, output, steps=40)
    yield seen


class TestTraining:
    def test_gradients_reach_all_experts_and_the_router(self, joint: Watched):
        assert not joint.untouched

    def test_sets_of_gaussians_change_under_way(self, joint: Watched):
        assert len(joint.counts) == 40
        stg, hexplane = zip(*joint.counts, strict=True)
        assert len(set(stg)) > 1 and len(set(hexplane)) > 1

    def test_the_config_holds_all_that_decides_the_training(self, joint: Watched):
        config = open_run(joint.config).config
        assert config.pipeline.model.expert_names == ("stg", "4dgaussians")
        stg = all_methods["moegs-stg"]
        assert config.optimizers["stg.means"]["optimizer"] == stg.optimizers["means"]["optimizer"]
        assert config.optimizers["4dgaussians.planes"]["scheduler"].restart_step == 3000
        assert progress_of(joint.config.parent).is_finished
        record = json.loads((joint.config.parent / "training.json").read_text())
        assert record["initial_points"].startswith(f"Initial points: {TINY_POINTS} from ")

    def test_rates_of_places_are_those_of_the_scene(self, joint: Watched):
        content = load_checkpoint(open_run(joint.config).checkpoint_path)
        extent = float(content["pipeline"]["_model.mixture.expert_modules.0.scene_extent"])
        (group,) = content["optimizers"]["stg.means"]["param_groups"]
        assert group["initial_lr"] == pytest.approx(1.6e-4 * extent)

    def test_a_run_that_was_interrupted_ends_as_one_that_was_not(
        self, tiny_runs: TinyRuns, joint: Watched, tmp_path: Path, monkeypatch
    ):
        """Stopped between two rounds of densification; resumed without naming the experts."""
        with monkeypatch.context() as patch:
            # Only the number of steps is cut; schedules are those of the whole run.
            patch.setattr("moegs_ns.engine.budget.scaled_steps", lambda *_: 25)
            cut = train_config(watched_config(), tiny_runs.scene, tmp_path, steps=40, name="cut")
        assert open_run(cut).checkpoint_path.name == "step-000000024.ckpt"
        config = joint_config()
        config.load_dir = cut.parent / "nerfstudio_models"
        resumed = train_config(config, tiny_runs.scene, tmp_path, steps=40, name="resumed")
        first, second = (open_run(each).model_state() for each in (joint.config, resumed))
        assert first.keys() == second.keys()
        for name, value in first.items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(second[name], value, msg=name)


class TestUses:
    def test_it_has_the_form_of_a_router_run(self, tiny_runs: TinyRuns, joint: Watched):
        def names(config: Path) -> set[str]:
            state = open_run(config).model_state()
            return {name for name in state if not name.startswith("recipe.")}

        assert names(joint.config) == names(tiny_runs.router)

    def test_ns_eval_scores_it(self, joint: Watched, tmp_path: Path):
        output = tmp_path / "out.json"
        command = ["--load-config", str(joint.config), "--output-path", str(output)]
        run_nerfstudio("eval", command)
        results = json.loads(output.read_text())["results"]
        assert results["gate_stg"] + results["gate_4dgaussians"] == pytest.approx(1.0, abs=1e-4)
        assert results["psnr"] > 10.0

    def test_it_is_reported_and_fused(self, joint: Watched, tmp_path: Path):
        score = score_run(open_run(joint.config))
        assert (score.method, score.kind) == ("moegs-joint", "mixture")
        assert "experts stg, 4dgaussians" in score.options
        Fuse(joint.config, output=tmp_path / "fused.ply", max_views=2).main()
        assert (tmp_path / "fused.ply").stat().st_size > 1000

    def test_it_is_made_compact(self, joint: Watched, tmp_path: Path):
        before = score_run(open_run(joint.config))
        Export(joint.config, output_dir=tmp_path / "small", compact=True).main()
        after = score_run(open_run(tmp_path / "small"))
        assert after.psnr == pytest.approx(before.psnr, abs=0.05)

    def test_it_teaches(self, tiny_runs: TinyRuns, joint: Watched, tmp_path: Path):
        options = ["--teacher", str(joint.config), "--budget", "0.0002"]
        student = train_tiny("moegs-stg", tiny_runs.scene, tmp_path, *options)
        record = json.loads((student.parent / "training.json").read_text())
        assert record["distillation"]["images"] > 0

    def test_its_experts_are_frozen_once_it_is_pruned(
        self, tiny_runs: TinyRuns, joint: Watched, tmp_path: Path
    ):
        options = ["--router", str(joint.config), "--prune-ratio", "0.5", "--budget", "0.0006"]
        run = open_run(train_tiny("moegs-router", tiny_runs.scene, tmp_path, *options))
        model = load_pipeline(run).model
        assert type(model) is MixtureModel
        assert model.mixture.num_gaussians == round(0.5 * sum(joint.counts[-1]))
        assert not any(p.requires_grad for p in model.mixture.expert_modules.parameters())


class TestOptions:
    def test_any_number_of_experts_of_any_family(
        self, tiny_runs: TinyRuns, tmp_path: Path, monkeypatch
    ):
        monkeypatch.setenv("NERFSTUDIO_METHOD_CONFIGS", "drift=drift_family:method")
        for experts in (["drift"], ["ex4dgs", "drift", "drift", "ed3dgs"]):
            config = joint_config(*experts)
            model: Any = config.pipeline.model
            model.recipe.weight_gate_change = 0.1
            output = tmp_path / str(len(experts))
            run = open_run(train_config(config, tiny_runs.scene, output, steps=6))
            pipeline = load_pipeline(run)
            camera, _ = pipeline.datamanager.eval_item(2)
            outputs = pipeline.model.get_outputs_for_camera(camera)
            assert outputs["rgb"].isfinite().all()
        assert run.config.pipeline.model.expert_names == ("ex4dgs", "drift", "drift_2", "ed3dgs")
        state = run.model_state()
        first, second = (state[f"mixture.expert_modules.{k}.gauss_params.means"] for k in (1, 2))
        assert first.shape == second.shape

    def test_steps_are_those_of_the_longest_expert_unless_given(self):
        for words, steps in (([], 30000), (["--max-num-iterations", "500"], 500)):
            config = parse(
                "moegs-joint", "--experts", "4dgaussians", "stg", *words, "--data", "D", "n3v-data"
            )
            config.pipeline.model.check(config)
            assert config.max_num_iterations == steps
            again = yaml.load(yaml.dump(config), Loader=yaml.Loader)
            again.pipeline.model.check(again)
            assert again == config

    def test_options_of_single_experts(self):
        words = "stg: --pipeline.model.recipe.densification.max-gaussians 77 --max-num-iterations 9"
        config = joint_config("stg", "4dgaussians", full_steps=0)
        model: Any = config.pipeline.model
        model.expert_options = (words,)
        config.pipeline.model.check(config)
        caps = [m.recipe.densification.max_gaussians for m in model.expert_models]
        assert caps == [77, 360000] and config.max_num_iterations == 17000


class TestMistakes:
    @pytest.mark.parametrize(
        ("experts", "options", "message"),
        [
            ([], (), "moegs-joint expects the methods to train together, got none; add --experts"),
            (["sgt"], (), "'sgt' is neither"),
            (["router"], (), "'router' is neither"),
            (["stg"], ("ex4dgs: --x 1",), "got 'ex4dgs: --x 1'; name one of stg, or all, before a"),
            (["stg"], ("--x 1",), r"expects 'NAME: options'"),
        ],
    )
    def test_experts_and_options(self, experts, options, message):
        config = joint_config(*experts)
        model: Any = config.pipeline.model
        model.expert_options = options
        with pytest.raises(ValueError, match=message):
            config.pipeline.model.check(config)

    def test_a_trained_run(self, tiny_runs: TinyRuns):
        config = joint_config(str(tiny_runs.config("moegs-stg")))
        with pytest.raises(ValueError, match="is a trained run; name its method, or mix"):
            config.pipeline.model.check(config)

    def test_the_volume_router(self):
        config = joint_config("stg")
        model: Any = config.pipeline.model
        model.router = VolumeRouterConfig()
        with pytest.raises(ValueError, match="Volume Router renders all Gaussians as one set"):
            config.pipeline.model.check(config)

    def test_resuming_something_else(self, tiny_runs: TinyRuns):
        config = joint_config()
        config.load_dir = tiny_runs.router.parent / "nerfstudio_models"
        with pytest.raises(ValueError, match="that of 'moegs-router'; resume it with that method"):
            config.pipeline.model.check(config)
