"""Contracts of whole runs: what nerfstudio's commands do with them, wherever they are."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from nerfstudio.utils.eval_utils import eval_setup
from tiny import TINY_POINTS, TinyRuns, train_tiny, working_directory

from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.launch.cli_args import replaced_argv, run_nerfstudio
from moegs_ns.runs.checkpoint import open_run

METHODS = ("moegs-stg", "moegs-4dgaussians", "moegs-router")


@pytest.mark.parametrize("method", METHODS)
def test_a_run_leaves_config_checkpoint_and_record(tiny_runs: TinyRuns, method: str):
    run = open_run(tiny_runs.config(method))
    record = json.loads((run.config_path.parent / "training.json").read_text())
    assert record["seconds"] > 0
    if method == "moegs-router":
        assert "initial_points" not in record, "its experts had theirs"
    else:
        assert record["initial_points"].startswith(f"Initial points: {TINY_POINTS} from ")
    assert run.checkpoint_path.name == f"step-{record['steps'] - 1:09d}.ckpt"
    assert not [path for path in run.config_path.parent.iterdir() if "writing" in path.name]


@pytest.mark.parametrize("method", METHODS)
def test_training_lowers_the_error(tiny_runs: TinyRuns, method: str):
    """The trained model beats an empty image by far."""
    pipeline = load_pipeline(open_run(tiny_runs.config(method)))
    psnr = pipeline.get_average_eval_image_metrics()["psnr"]
    images = [batch["image"] for _, batch in pipeline.datamanager.fixed_indices_eval_dataloader]
    black = -10 * torch.log10((torch.stack(images).float() / 255).square().mean())
    assert psnr > float(black) + 3.0


def evaluate(config: Path, output: Path) -> dict[str, float]:
    run_nerfstudio("eval", ["--load-config", str(config), "--output-path", str(output)])
    return json.loads(output.read_text())["results"]


@pytest.mark.parametrize("method", METHODS)
def test_ns_eval_scores_the_held_out_views(tiny_runs: TinyRuns, method: str, tmp_path: Path):
    results = evaluate(tiny_runs.config(method), tmp_path / "out.json")
    assert {"psnr", "ssim", "psnr_dynamic", "psnr_std", "gaussian_count"} <= set(results)
    assert 5.0 < results["psnr"] < 60.0
    if method == "moegs-router":
        assert results["gate_stg"] + results["gate_4dgaussians"] == pytest.approx(1.0, abs=1e-5)
        best = max(results["psnr_stg"], results["psnr_4dgaussians"])
        assert results["psnr_oracle"] >= best - 0.1


@pytest.fixture(scope="module")
def orphan(tiny_runs: TinyRuns, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A router's run that was moved after its experts had been deleted, and its scores before."""
    folder = tmp_path_factory.mktemp("orphan")
    experts = []
    for method in METHODS[:2]:
        copy = folder / "experts" / method
        shutil.copytree(tiny_runs.config(method).parent, copy)
        experts.append(str(copy))
    config = train_tiny("moegs-router", tiny_runs.scene, folder / "out", "--experts", *experts)
    scores = evaluate(config, folder / "before.json")
    shutil.copytree(config.parent, folder / "moved")
    shutil.rmtree(folder / "experts")
    shutil.rmtree(folder / "out")
    return folder / "moved" / "config.yml", scores


def test_a_router_run_needs_nothing_but_itself(orphan: tuple[Path, dict], tmp_path: Path):
    """Experts deleted, the run moved, another working directory: evaluation is the same."""
    config, before = orphan
    with working_directory(config.parent.parent):
        after = evaluate(Path("moved/config.yml"), tmp_path / "after.json")
    assert after["psnr"] == pytest.approx(before["psnr"], abs=1e-6)


def test_eval_setup_names_a_damaged_checkpoint(tiny_runs: TinyRuns, tmp_path: Path):
    moved = tmp_path / "run"
    shutil.copytree(tiny_runs.config("moegs-stg").parent, moved)
    checkpoint = next((moved / "nerfstudio_models").iterdir())
    checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    config = moved / "config.yml"
    with (
        replaced_argv(["ns-eval", "--load-config", str(config)]),
        pytest.raises(ValueError, match="damaged") as error,
    ):
        eval_setup(config)
    assert str(checkpoint) in str(error.value)
    with pytest.raises(ValueError, match="damaged"):
        open_run(moved)


class TestResume:
    def resume(self, runs: TinyRuns, method: str, source: Path, name: str, *options: str) -> Path:
        load = ["--load-dir", str(source.parent / "nerfstudio_models")]
        return train_tiny(method, runs.scene, runs.output, *load, *options, name=name)

    def test_resuming_stops_at_the_requested_total(self, tiny_runs: TinyRuns):
        source = tiny_runs.config("moegs-stg")
        resumed = self.resume(tiny_runs, "moegs-stg", source, "more", "--budget", "0.0025")
        assert open_run(resumed).checkpoint_path.name == "step-000000074.ckpt"
        first, total = (
            json.loads((config.parent / "training.json").read_text())
            for config in (source, resumed)
        )
        assert total["seconds"] > first["seconds"]
        assert total["initial_points"] == first["initial_points"]

    def test_resuming_a_finished_run_changes_nothing(self, tiny_runs: TinyRuns):
        source = tiny_runs.config("moegs-stg")
        again = open_run(self.resume(tiny_runs, "moegs-stg", source, "same"))
        first = open_run(source)
        assert again.checkpoint_path.name == first.checkpoint_path.name
        for name, value in first.model_state().items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(again.model_state()[name], value), name

    def test_resumed_parameters_are_those_that_are_trained(self, tiny_runs: TinyRuns):
        source = tiny_runs.config("moegs-stg")
        resumed = self.resume(tiny_runs, "moegs-stg", source, "moves", "--budget", "0.0025")
        before, after = open_run(source).model_state(), open_run(resumed).model_state()
        for name in ("means", "opacities", "sh0", "motion"):
            key = f"expert.gauss_params.{name}"
            assert before[key].shape != after[key].shape or not torch.equal(before[key], after[key])

    def test_learning_rates_are_scaled_by_the_extent_once(self, tiny_runs: TinyRuns):
        source = tiny_runs.config("moegs-stg")
        resumed = self.resume(tiny_runs, "moegs-stg", source, "rates", "--budget", "0.0025")
        for config in (source, resumed):
            state = torch.load(open_run(config).checkpoint_path, weights_only=True)
            extent = float(state["pipeline"]["_model.expert.scene_extent"])
            group = state["optimizers"]["means"]["param_groups"][0]
            assert group["initial_lr"] == pytest.approx(1.6e-4 * extent, rel=1e-6)
            assert group["lr"] < group["initial_lr"]
            motion = state["optimizers"]["motion"]["param_groups"][0]["lr"]
            assert motion == pytest.approx(2.8e-4 * extent, rel=1e-6)

    def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(self, tiny_runs: TinyRuns):
        """Samplers, random numbers, optimisers and statistics all go on as if nothing happened."""
        scene, output = tiny_runs.scene, tiny_runs.output
        method, whole = "moegs-stg", tiny_runs.config("moegs-stg")
        # The schedule is that of the whole run; only the number of steps is cut.
        cut = train_tiny(method, scene, output, "--max-num-iterations", "15000", name="cut")
        assert open_run(cut).checkpoint_path.name == "step-000000029.ckpt"
        resumed = self.resume(tiny_runs, method, cut, "continued")
        first, second = open_run(whole).model_state(), open_run(resumed).model_state()
        for name, value in first.items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(second[name], value, msg=name)

    def test_a_router_resumes_without_its_experts(
        self, tiny_runs: TinyRuns, orphan: tuple[Path, dict], tmp_path: Path
    ):
        config, _ = orphan
        runs = TinyRuns(tiny_runs.scene, tmp_path / "outputs")
        resumed = self.resume(runs, "moegs-router", config, "more", "--budget", "0.012")
        assert open_run(resumed).checkpoint_path.name == "step-000000059.ckpt"
        first, second = open_run(config).model_state(), open_run(resumed).model_state()
        key = "mixture.expert_modules.0.gauss_params.means"
        assert torch.equal(first[key], second[key])
