"""Contracts of honest gates: who sees which image when, and over whose weights a router learns."""

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from nerfstudio.configs.method_configs import all_methods
from tiny import TinyRuns, train_config

from moegs_ns.data.datamanager import MoegsDataManager
from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.models.expert_loading import follows
from moegs_ns.models.expert_model import ExpertModel
from moegs_ns.models.mixture_model import MixtureModel
from moegs_ns.runs.checkpoint import open_run

FAMILIES = ("stg", "4dgaussians", "ex4dgs", "ed3dgs", "freetime", "tracked")
LENGTH = 40
"""Steps of every training here."""
FINISH = 30
MEANS = "gauss_params.means"


Change = Callable[[Any], None]
"""Sets options in the configuration of a training."""


def train(runs: TinyRuns, output: Path, family: str, *changes: Change, name: str = "first") -> Path:
    config = deepcopy(all_methods[f"moegs-{family}"])
    for change in changes:
        change(config)
    return train_config(config, runs.scene, output, steps=LENGTH, name=name)


def honest_option(**options: Any) -> Change:
    def change(config: Any) -> None:
        model = config.pipeline.model
        model.honest = replace(model.honest, **options)

    return change


AUTO, LAST_QUARTER = honest_option(cameras="auto"), honest_option(last_part=0.25)


def save_all(config: Any) -> None:
    config.steps_per_save, config.save_only_latest_checkpoint = 5, False


def resume(config_path: Path, step: int) -> Change:
    def change(config: Any) -> None:
        config.load_dir, config.load_step = config_path.parent / "nerfstudio_models", step

    return change


def record_of(config: Path) -> dict[str, Any]:
    return json.loads((config.parent / "training.json").read_text())


@pytest.fixture(scope="module")
def honest(tiny_runs: TinyRuns, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Experts that left a camera out, and the cameras that each of their steps drew."""
    output, drawn = tmp_path_factory.mktemp("honest"), {}
    with pytest.MonkeyPatch.context() as patch:
        draw = MoegsDataManager._next_batch
        for family in FAMILIES:
            drawn[family] = cameras = {}

            def spy(self: MoegsDataManager, step: int, cameras: dict = cameras) -> dict:
                batch = draw(self, step)
                cameras[step] = self.frame_table.camera_ids[batch["image_idx"]].tolist()
                return batch

            patch.setattr(MoegsDataManager, "_next_batch", spy)
            train(tiny_runs, output, family, AUTO)
    runs = {family: output / "runs" / f"moegs-{family}" / "first" for family in FAMILIES}
    return {"runs": runs, "drawn": drawn, "output": output}


@pytest.mark.parametrize("family", FAMILIES)
def test_an_expert_sees_honest_images_only_in_its_finish(honest: dict[str, Any], family: str):
    record, drawn = record_of(honest["runs"][family] / "config.yml"), honest["drawn"][family]
    assert record["finish_starts"] == FINISH and record["honest_images"] == 6
    (camera,) = record["honest_cameras"]
    assert sorted(drawn) == list(range(LENGTH))
    before = {each for step in range(FINISH) for each in drawn[step]}
    finish = {each for step in range(FINISH, LENGTH) for each in drawn[step]}
    assert camera not in before and len(before) == 4
    assert camera in finish


@pytest.mark.parametrize("family", FAMILIES)
def test_the_finish_moves_gaussians_but_keeps_their_rows(honest: dict[str, Any], family: str):
    run = open_run(honest["runs"][family])
    before, after = run.model_state(before_finish=True), run.model_state()
    assert all(name.startswith("expert.") for name in before)
    names = [name for name in before if name.endswith("means")]
    assert names
    for name in filter(lambda name: len(before[name]), names):
        assert before[name].shape == after[name].shape
        assert not torch.equal(before[name], after[name])
        # Of one family four Gaussians stand where a point was.
        # With keys, all poses of a Gaussian together are where it is.
        now, then = after[name].flatten(1), before[name].flatten(1)
        nearest = torch.cdist(now, then).topk(4, largest=False).indices
        is_own = (nearest == torch.arange(len(nearest))[:, None]).any(1)
        assert is_own.float().mean() > 0.9
        assert follows(before[name], after[name])
        assert not follows(before[name], after[name].flip(0))


def test_the_set_of_gaussians_changes_no_more_in_the_finish():
    model = Mock(finish_starts=5, _parts=[])
    for step in (4, 5, 6):
        ExpertModel.after_step(model, step)
    model.recipe.after_backward.assert_called_once_with(4, [])
    model.recipe.after_step.assert_called_once_with(4)


def test_all_experts_leave_out_the_same_cameras(honest: dict[str, Any]):
    records = [record_of(run / "config.yml") for run in honest["runs"].values()]
    assert len({tuple(record["honest_cameras"]) for record in records}) == 1


def router(
    tiny_runs: TinyRuns,
    honest: dict[str, Any],
    *changes: Change,
    name: str,
    experts=("stg", "ex4dgs"),
) -> tuple[Path, list[torch.Tensor]]:
    """A router's run, and the means of its first expert at each of its steps."""
    seen: list[torch.Tensor] = []
    with pytest.MonkeyPatch.context() as patch:
        outputs = MixtureModel.training_outputs

        def spy(self: MixtureModel, view: Any) -> dict[str, Any]:
            seen.append(self.mixture.experts[0].gauss_params["means"].detach().clone())
            return outputs(self, view)

        patch.setattr(MixtureModel, "training_outputs", spy)
        paths = tuple(Path(honest["runs"][family]) for family in experts)

        def mix(config: Any) -> None:
            config.pipeline.model.experts = paths

        config = train(tiny_runs, honest["output"], "router", mix, AUTO, *changes, name=name)
    return config, seen


def states(honest: dict[str, Any], family: str) -> tuple[torch.Tensor, torch.Tensor]:
    run = open_run(honest["runs"][family])
    return tuple(
        run.model_state(before_finish=before)[f"expert.{MEANS}"] for before in (True, False)
    )  # type: ignore[return-value]


def test_a_router_learns_before_the_finish_and_is_used_after_it(tiny_runs, honest):
    config, seen = router(tiny_runs, honest, name="honest")
    before, after = states(honest, "stg")
    assert len(seen) == LENGTH and all(torch.equal(each, before) for each in seen)
    assert record_of(config)["honest_gates"] is True
    state = open_run(config).model_state()
    assert torch.equal(state[f"mixture.expert_modules.0.{MEANS}"], after)
    pipeline = load_pipeline(open_run(config))
    metrics = pipeline.get_average_eval_image_metrics()
    own = load_pipeline(open_run(honest["runs"]["stg"])).get_average_eval_image_metrics()
    assert metrics["psnr_stg"] == pytest.approx(own["psnr"], abs=1e-4), "the finished expert"
    assert {"psnr_average", "psnr_constant", "psnr_oracle_16"} <= set(metrics)


def test_the_last_steps_of_a_router_may_be_over_finished_experts(tiny_runs, honest):
    _, seen = router(tiny_runs, honest, LAST_QUARTER, name="last")
    before, after = states(honest, "stg")
    assert all(torch.equal(each, before) for each in seen[:30])
    assert all(torch.equal(each, after) for each in seen[30:])


def test_ordinary_gates_are_over_finished_experts(tiny_runs, honest):
    config, seen = router(tiny_runs, honest, honest_option(cameras="none"), name="ordinary")
    assert all(torch.equal(each, states(honest, "stg")[1]) for each in seen)
    assert record_of(config)["honest_gates"] is False


def test_experts_without_honest_images_are_refused(tiny_runs, honest):
    runs = {"runs": {"stg": tiny_runs.config("moegs-stg"), "ex4dgs": honest["runs"]["ex4dgs"]}}
    with pytest.raises(ValueError, match="saw all of them from the start"):
        router(tiny_runs, honest | runs, name="mixed")


def test_cameras_that_the_experts_did_not_leave_out_are_refused(tiny_runs, honest):
    (camera,) = record_of(honest["runs"]["stg"] / "config.yml")["honest_cameras"]
    with pytest.raises(ValueError, match=f"left out, {camera}, got {camera + 1}"):
        router(tiny_runs, honest, honest_option(cameras=(camera + 1,)), name="others")


def test_colours_of_cameras_are_those_of_the_finished_expert(tiny_runs, honest):
    """Before its finish an expert has not learned those of the cameras that it left out."""

    def correct(config: Any) -> None:
        config.pipeline.model.color_correction = True

    run = train(tiny_runs, honest["output"], "stg", AUTO, correct, name="colors")
    colored = honest | {"runs": {"stg": run.parent}}
    config, _ = router(tiny_runs, colored, name="colored", experts=("stg",))
    learned = open_run(run).model_state()["corrections.color"]
    assert learned.abs().amax(dim=(1, 2)).min() > 0, "also of the one that was left out"
    taken = open_run(config).model_state()["corrections.experts.0.color"]
    torch.testing.assert_close(taken, learned - learned.mean(0))


def test_gaussians_in_another_order_are_refused(tiny_runs, honest, tmp_path: Path):
    """A row of weights belongs to a row of Gaussians: a finish that permutes them must not pass."""
    source = honest["runs"]["stg"]
    checkpoint = open_run(source).checkpoint_path
    whole = checkpoint.read_bytes()
    content = torch.load(checkpoint, weights_only=True)
    for name, value in content["pipeline"].items():
        if ".gauss_params." in name:
            content["pipeline"][name] = value.flip(0)
    torch.save(content, checkpoint)
    try:
        with pytest.raises(ValueError, match="same Gaussians before and after the finish"):
            router(tiny_runs, honest, name="permuted")
    finally:
        checkpoint.write_bytes(whole)


@pytest.mark.parametrize("saved", [20, 35])
def test_an_expert_resumes_before_and_in_its_finish(tiny_runs, honest, saved: int):
    """The run ends where an uninterrupted one does, and keeps what it was before the finish."""
    output = honest["output"]
    whole = train(tiny_runs, output, "stg", AUTO, save_all, name=f"w{saved}")
    # The cameras to leave out are those of the run that goes on.
    resumed = train(tiny_runs, output, "stg", resume(whole, saved), name=f"r{saved}")
    first, second = open_run(whole), open_run(resumed)
    for before in (True, False):
        expected = first.model_state(before_finish=before)
        found = second.model_state(before_finish=before)
        for name, value in expected.items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(found[name], value, msg=name)


@pytest.mark.parametrize("saved", [15, 35])
def test_a_router_resumes_in_every_stage(tiny_runs, honest, saved: int):
    whole, _ = router(tiny_runs, honest, save_all, LAST_QUARTER, name=f"w{saved}")
    # Experts and what is honest about the gates are those of the run that goes on.
    resumed = train(tiny_runs, honest["output"], "router", resume(whole, saved), name=f"r{saved}")
    first, second = open_run(whole).model_state(), open_run(resumed).model_state()
    for name, value in first.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(second[name], value, msg=name)


def test_one_honest_expert_is_itself(tiny_runs, honest):
    config, _ = router(tiny_runs, honest, name="one", experts=("stg",))
    metrics = load_pipeline(open_run(config)).get_average_eval_image_metrics()
    assert metrics["psnr"] == pytest.approx(metrics["psnr_stg"], abs=1e-4)
