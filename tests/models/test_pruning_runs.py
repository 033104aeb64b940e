"""Contracts of pruned runs and of the other routers' runs: as nerfstudio's commands see them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TinyRuns, train_tiny, working_directory

from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.launch.cli_args import run_nerfstudio
from moegs_ns.reports.scores import score_run
from moegs_ns.runs.checkpoint import load_checkpoint, open_run

PRUNE = (
    "--prune-ratio", "0.5", "--prune-rounds", "2", "--pipeline.model.prune.max-views", "6",
    "--prune-criterion", "gate-gradient",
)  # fmt: skip
"""At a hundredth of the recipe the second round is before step 10."""


def gaussians(config: Path) -> list[int]:
    state = open_run(config).model_state()
    return [len(value) for name, value in state.items() if name.endswith("gauss_params.means")]


def evaluate(config: Path, output: Path) -> dict[str, float]:
    run_nerfstudio("eval", ["--load-config", str(config), "--output-path", str(output)])
    return json.loads(output.read_text())["results"]


def prune(runs: TinyRuns, source: Path, output: Path, *options: str, name: str = "first") -> Path:
    return train_tiny(
        "moegs-router", runs.scene, output, "--router", str(source), *options, name=name
    )


@pytest.fixture(scope="module")
def orphan(tiny_runs: TinyRuns, tmp_path_factory) -> tuple[Path, dict[str, float]]:
    """A pruned run that was moved after its source had been deleted, and its scores before."""
    folder = tmp_path_factory.mktemp("pruned")
    shutil.copytree(tiny_runs.router.parent, folder / "source")
    config = prune(tiny_runs, folder / "source", folder / "out", *PRUNE)
    scores = evaluate(config, folder / "before.json")
    shutil.copytree(config.parent, folder / "moved")
    shutil.rmtree(folder / "source")
    shutil.rmtree(folder / "out")
    return folder / "moved" / "config.yml", scores


class TestPrunedRuns:
    def test_rows_and_bytes_are_gone(self, tiny_runs: TinyRuns, orphan):
        before, after = gaussians(tiny_runs.router), gaussians(orphan[0])
        assert sum(after) == round(0.5 * sum(before))
        paths = [open_run(config).checkpoint_path for config in (tiny_runs.router, orphan[0])]
        contents = [load_checkpoint(path) for path in paths]
        rows = [
            sum(v.numel() for n, v in content["pipeline"].items() if "gauss_params" in n)
            for content in contents
        ]
        assert rows[1] == pytest.approx(0.5 * rows[0], rel=0.1)
        assert paths[0].stat().st_size - paths[1].stat().st_size > 0.45 * rows[0] * 4
        moments = contents[1]["optimizers"]["router_weights"]["state"]
        lengths = {len(state["exp_avg"]) for state in moments.values()}
        assert lengths == set(after)

    def test_it_needs_nothing_but_itself(self, orphan, tmp_path: Path):
        config, before = orphan
        with working_directory(config.parent.parent):
            after = evaluate(Path("moved/config.yml"), tmp_path / "after.json")
        assert after["psnr"] == pytest.approx(before["psnr"], abs=1e-6)
        assert {"psnr_stg", "gate_4dgaussians", "psnr_oracle"} <= set(after)

    def test_the_run_knows_what_was_done(self, orphan):
        schedule: Any = load_pipeline(open_run(orphan[0])).model.pruning
        first, second = schedule.reports
        assert first.after == second.before
        assert first.removed_fraction == pytest.approx(1 - 0.5**0.5, abs=1e-3)
        assert 0.0 <= first.saturated_fraction <= 1.0

    def test_it_resumes_without_its_source_and_is_not_pruned_again(
        self, tiny_runs: TinyRuns, orphan, tmp_path: Path
    ):
        config, _ = orphan
        load = ["--load-dir", str(config.parent / "nerfstudio_models"), "--budget", "0.012"]
        resumed = train_tiny("moegs-router", tiny_runs.scene, tmp_path, *load)
        assert open_run(resumed).checkpoint_path.name == "step-000000059.ckpt"
        assert gaussians(resumed) == gaussians(config)

    def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(
        self, tiny_runs: TinyRuns, orphan, tmp_path: Path
    ):
        """Interrupted between the rounds: the second one is run after resuming."""
        cut = prune(
            tiny_runs, tiny_runs.router, tmp_path, *PRUNE, "--steps-per-save", "5",
            "--save-only-latest-checkpoint", "False", name="cut",
        )  # fmt: skip
        load = ["--load-dir", str(cut.parent / "nerfstudio_models"), "--load-step", "5"]
        resumed = train_tiny("moegs-router", tiny_runs.scene, tmp_path, *load, name="continued")
        first, second = (open_run(c).model_state() for c in (orphan[0], resumed))
        for name, value in first.items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(second[name], value, msg=name)

    def test_it_is_pruned_again_by_the_default(self, tiny_runs: TinyRuns, orphan, tmp_path: Path):
        again = prune(tiny_runs, orphan[0], tmp_path, "--prune-ratio", "0.2")
        assert sum(gaussians(again)) == round(0.8 * sum(gaussians(orphan[0])))
        score = score_run(open_run(again))
        assert score.psnr > 5.0 and score.options.endswith("pruned 20% by gated-contribution")

    def test_it_is_trained_on_as_its_source_was(self, tiny_runs: TinyRuns, tmp_path: Path):
        """Rates and recipe of the source stand, unless others are typed."""
        rate, change = "--optimizers.router-weights.optimizer.lr", "weight-gate-change"
        source = train_tiny(
            "moegs-router", tiny_runs.scene, tmp_path, "--experts", *tiny_runs.experts,
            rate, "0.125", f"--pipeline.model.recipe.{change}", "0.25",
            "--pipeline.model.temperature", "2", name="source",
        )  # fmt: skip
        pruned = open_run(prune(tiny_runs, source, tmp_path, "--prune-ratio", "0.5")).config
        assert pruned.optimizers["router_weights"]["optimizer"].lr == 0.125
        assert pruned.optimizers["router_phi"]["optimizer"].lr == 0.05
        assert pruned.pipeline.model.recipe.weight_gate_change == 0.25
        typed = prune(
            tiny_runs, source, tmp_path, "--prune-ratio", "0.5", rate, "0.0625", name="typed"
        )
        assert open_run(typed).config.optimizers["router_weights"]["optimizer"].lr == 0.0625
        load = ["--load-dir", str(source.parent / "nerfstudio_models"), "--budget", "0.012"]
        resumed = open_run(
            train_tiny("moegs-router", tiny_runs.scene, tmp_path, *load, name="resumed")
        )
        assert resumed.config.pipeline.model.temperature == 2.0
        assert resumed.config.pipeline.model.recipe.weight_gate_change == 0.25
        assert resumed.config.optimizers["router_weights"]["optimizer"].lr == 0.125


class TestMistakes:
    def test_rounds_that_do_not_fit(self, tiny_runs: TinyRuns, tmp_path: Path):
        options = ("--prune-ratio", "0.5", "--prune-rounds", "6")
        with pytest.raises(ValueError, match=r"6 rounds, the last before step 50, .* has 50 steps"):
            prune(tiny_runs, tiny_runs.router, tmp_path, *options)
        assert not list(tmp_path.rglob("config.yml"))

    def test_an_expert_is_no_mixture(self, tiny_runs: TinyRuns, tmp_path: Path):
        with pytest.raises(ValueError, match=r"run of a mixture in --router.*'moegs-stg'"):
            prune(tiny_runs, tiny_runs.config("moegs-stg"), tmp_path, *PRUNE)
        assert not list(tmp_path.rglob("config.yml"))

    def test_a_mixture_and_experts(self, tiny_runs: TinyRuns, tmp_path: Path):
        with pytest.raises(ValueError, match="got both; name one of them"):
            prune(tiny_runs, tiny_runs.router, tmp_path, *PRUNE, "--experts", *tiny_runs.experts)

    def test_neither_ratio_nor_threshold(self, tiny_runs: TinyRuns, tmp_path: Path):
        with pytest.raises(ValueError, match=r"expects --prune-ratio.*got neither"):
            prune(tiny_runs, tiny_runs.router, tmp_path)

    def test_a_ratio_without_a_mixture(self, tiny_runs: TinyRuns, tmp_path: Path):
        with pytest.raises(ValueError, match="Pruning expects a trained mixture, got none"):
            train_tiny(
                "moegs-router", tiny_runs.scene, tmp_path, "--prune-ratio", "0.5",
                "--experts", *tiny_runs.experts,
            )  # fmt: skip

    def test_a_ratio_out_of_range(self, tiny_runs: TinyRuns, tmp_path: Path):
        with pytest.raises(ValueError, match=r"from 0 to below 1, got 55"):
            prune(tiny_runs, tiny_runs.router, tmp_path, "--prune-ratio", "55")

    def test_another_scene(self, tiny_runs: TinyRuns, tmp_path: Path):
        with pytest.raises(ValueError, match=r"clip of 3 frames.*trained on 6"):
            train_tiny(
                "moegs-router", tiny_runs.scene, tmp_path, "--router", str(tiny_runs.router),
                "--prune-ratio", "0.5", parser_options=["--frames", "0", "2"],
            )  # fmt: skip


@pytest.fixture(scope="module", params=["moegs-pixel-router", "moegs-volume-router"])
def other(request, tiny_runs: TinyRuns, tmp_path_factory) -> tuple[str, Path]:
    """A run of another router over the same experts."""
    method = request.param
    output = tmp_path_factory.mktemp(method)
    experts = ("--experts", *tiny_runs.experts)
    return method, train_tiny(method, tiny_runs.scene, output, *experts)


class TestOtherRouters:
    def test_they_are_evaluated_with_all_outputs(self, other, tmp_path: Path):
        results = evaluate(other[1], tmp_path / "out.json")
        assert results["gate_stg"] + results["gate_4dgaussians"] == pytest.approx(1.0, abs=1e-4)
        assert results["psnr"] > min(results["psnr_stg"], results["psnr_4dgaussians"]) - 3.0

    def test_they_resume_and_go_on_learning(self, tiny_runs: TinyRuns, other, tmp_path: Path):
        method, source = other
        load = ["--load-dir", str(source.parent / "nerfstudio_models"), "--budget", "0.012"]
        resumed = open_run(train_tiny(method, tiny_runs.scene, tmp_path, *load))
        assert resumed.checkpoint_path.name == "step-000000059.ckpt"
        name = "mixture.router.phi.0.weight"
        assert not torch.equal(open_run(source).model_state()[name], resumed.model_state()[name])

    def test_gates_per_pixel_are_pruned_by_and_others_are_refused(
        self, tiny_runs: TinyRuns, other, tmp_path: Path
    ):
        method, source = other
        options = (
            "--router", str(source), "--prune-ratio", "0.3", "--prune-criterion",
            "gated-contribution",
        )  # fmt: skip
        if method == "moegs-volume-router":
            with pytest.raises(ValueError, match="use a run of moegs-router or moegs-pixel-router"):
                train_tiny(method, tiny_runs.scene, tmp_path, *options)
            assert not list(tmp_path.rglob("config.yml")), "before anything is written"
            pruned = train_tiny(method, tiny_runs.scene, tmp_path, *options[:-1], "opacity")
            assert sum(gaussians(pruned)) == round(0.7 * sum(gaussians(source)))
            return
        with pytest.raises(
            ValueError, match="the Pixel Router has none; choose gated-contribution"
        ):
            train_tiny(method, tiny_runs.scene, tmp_path, *options[:-1], "gate-gradient")
        assert not list(tmp_path.rglob("config.yml")), "before anything is written"
        pruned = train_tiny(method, tiny_runs.scene, tmp_path, *options)
        assert sum(gaussians(pruned)) == round(0.7 * sum(gaussians(source)))
