"""Contracts of whole runs of further families: trained, resumed, mixed and exported like any."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import TinyRuns, train_tiny

from moegs_ns.demo.scene import write_demo_scene
from moegs_ns.engine.trainer import STEP_TIMES, drop_times, load_pipeline
from moegs_ns.launch.cli_args import replaced_argv
from moegs_ns.runs.checkpoint import load_checkpoint, open_run
from moegs_ns.scripts.export import Export
from moegs_ns.scripts.render import Render

CAP = ("--pipeline.model.recipe.densification.max-gaussians", "4500")
PREFIXES = {"gauss_params": "", "key_gauss_params": "dynamic_"}
"""What the names of the optimisers of each kind of rows begin with."""


@dataclass(frozen=True)
class Family:
    """A method, a budget that goes on after the tiny one, and what is special about its runs."""

    method: str
    longer: str
    steps: int
    per_extent: str
    rows: tuple[str, ...] = ("gauss_params",)

    @property
    def name(self) -> str:
        return self.method.removeprefix("moegs-")


KINDS = ("gauss_params", "key_gauss_params")
FAMILIES = (
    Family("moegs-ex4dgs", "0.0065", 260, "displacements", rows=KINDS),
    Family("moegs-ed3dgs", "0.0012", 96, "means"),
    Family("moegs-freetime", "0.0022", 66, "velocities"),
    Family("moegs-tracked", "0.0022", 66, "dynamic_means", rows=KINDS[1:]),
)


@dataclass(frozen=True)
class Place:
    """A scene of 6 cameras, 6 frames, 48x36 pixels, and the config of a run on it."""

    family: Family
    scene: Path
    config: Path


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: family.name)
def place(request, tiny_runs: TinyRuns, tmp_path_factory: pytest.TempPathFactory) -> Place:
    output = tmp_path_factory.mktemp(request.param.name)
    config = train_tiny(request.param.method, tiny_runs.scene, output, *CAP)
    return Place(request.param, tiny_runs.scene, config)


def test_everything_is_logged_as_often_as_nerfstudio_logs(place: Place):
    """Figures and times of the steps in between would cost them a tenth of their time."""
    log = EventAccumulator(str(place.config.parent)).Reload()
    names = set(log.Tags()["scalars"])
    figures = {"Train Metrics Dict/psnr", "Train Metrics Dict/gaussian_count", "Train Loss"}
    assert figures | {"Train Iter (time)", "learning_rate/means"} <= names
    config = open_run(place.config).config
    every, count = config.logging.steps_per_log, len(log.Scalars("Train Loss"))
    assert every > 1 and count > 1
    for name in (*figures, "Train Iter (time)"):
        steps = [event.step for event in log.Scalars(name)]
        assert steps == [every * place for place in range(count)], name


def test_of_other_steps_only_times_are_left_out():
    """A resumed training begins in between, and its configuration is to be logged as well."""
    names = ["config", *STEP_TIMES, "Eval Loss"]
    events = [{"name": name} for name in names]
    drop_times(events)
    assert [event["name"] for event in events] == ["config", "Eval Loss"]


def test_training_lowers_the_error_and_passes_all_stages(place: Place):
    pipeline = load_pipeline(open_run(place.config))
    psnr = pipeline.get_average_eval_image_metrics()["psnr"]
    images = [batch["image"] for _, batch in pipeline.datamanager.fixed_indices_eval_dataloader]
    black = -10 * torch.log10((torch.stack(images).float() / 255).square().mean())
    assert psnr > float(black) + 3.0
    expert: Any = pipeline.model.expert
    if place.family.method == "moegs-ex4dgs":
        assert expert.duration == 5.0 and expert.num_static > 0 and expert.num_dynamic > 0
    elif place.family.method == "moegs-freetime":
        assert expert.num_gaussians == 4500
        assert float(expert.gauss_params["velocities"].abs().max()) > 0
        # Relocation was due at every second step or so; nothing dead is left but of the last ones.
        assert float((expert.highest_opacities() > 0.005).float().mean()) > 0.99
    elif place.family.method == "moegs-tracked":
        # No point is a moving seed, so all are dynamic.
        assert expert.num_static == 0 and expert.num_dynamic > 2000
        keys = expert.key_gauss_params["means"]
        assert keys.shape[1] == 9 and float((keys[:, 1:] - keys[:, :1]).abs().max()) > 0
    else:
        assert expert.motion_weight == expert.appearance_weight == 1.0
        assert len(expert.time_offsets) == 5 and float(expert.time_offsets.abs().min()) > 0
        raw = expert.gauss_params["embeddings"]
        assert raw.shape == (expert.num_gaussians, 32) and float(raw.abs().max()) > 0


def test_a_resumed_run_goes_on_with_rows_and_moments(place: Place, tmp_path: Path):
    family, source = place.family, open_run(place.config)
    resumed = open_run(
        train_tiny(
            family.method, place.scene, tmp_path, "--load-dir",
            str(source.checkpoint_path.parent), *CAP, "--budget", family.longer,
        )
    )  # fmt: skip
    content = load_checkpoint(resumed.checkpoint_path)
    assert content["step"] == family.steps - 1
    state = resumed.model_state()
    for rows in family.rows:
        means = state[f"expert.{rows}.means"]
        moments = content["optimizers"][PREFIXES[rows] + "means"]["state"]
        assert all(value["exp_avg"].shape == means.shape for value in moments.values())
    configured = source.config.optimizers[family.per_extent]["optimizer"].lr
    group = content["optimizers"][family.per_extent]["param_groups"][0]
    rate = group.get("initial_lr", group["lr"])
    assert rate / configured == pytest.approx(float(state["expert.scene_extent"]), rel=1e-4)


def test_it_is_an_expert_of_a_router(place: Place, tiny_runs: TinyRuns, tmp_path: Path):
    """Beside another family, where it shows what it shows alone."""
    experts, name = (str(place.config), str(tiny_runs.config("moegs-stg"))), place.family.name
    mixture = train_tiny("moegs-router", place.scene, tmp_path, "--experts", *experts)
    metrics = load_pipeline(open_run(mixture)).get_average_eval_image_metrics()
    alone = load_pipeline(open_run(place.config)).get_average_eval_image_metrics()
    assert metrics[f"psnr_{name}"] == pytest.approx(alone["psnr"], abs=1e-4)
    assert metrics[f"gate_{name}"] + metrics["gate_stg"] == pytest.approx(1.0, abs=1e-5)
    assert metrics["psnr_oracle"] >= max(metrics[f"psnr_{name}"], metrics["psnr_stg"]) - 0.1


def test_a_compact_copy_shows_the_same(place: Place, tmp_path: Path):
    folder = tmp_path / "compact"
    with replaced_argv(["moegs", "export", "--compact", str(place.config)]):
        Export(place.config, compact=True, output_dir=folder).main()
    run = open_run(folder / "config.yml")
    before, after = open_run(place.config).model_state(), run.model_state()
    for rows in place.family.rows:
        name = f"expert.{rows}.means"
        assert after[name].shape == before[name].shape
        assert (after[name] - before[name]).abs().max() < 1e-3
    record = json.loads(next(folder.glob("*compact*.json")).read_text())
    model: Any = load_pipeline(run).model
    assert record["gaussians"] == model.expert.num_gaussians


def test_it_renders_a_video(place: Place, tmp_path: Path):
    Render(place.config, output_path=tmp_path / "video.mp4", seconds=0.1).main()
    assert (tmp_path / "video.mp4").stat().st_size > 0


def test_one_camera_and_one_frame_are_enough(tmp_path: Path):
    """No far camera, nobody's neighbour in time, one clock."""
    write_demo_scene(tmp_path / "scene", num_cameras=3, num_frames=1, width=32, height=24)
    alone = ("--val-cameras", "2")
    config = train_tiny("moegs-ed3dgs", tmp_path / "scene", tmp_path, *CAP, *alone)
    pipeline = load_pipeline(open_run(config))
    assert pipeline.get_average_eval_image_metrics()["psnr"] > 6.0
    model: Any = pipeline.model
    assert model.expert.camera_ids.tolist() == [1]
