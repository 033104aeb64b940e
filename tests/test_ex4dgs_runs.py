"""Contracts of whole Ex4DGS runs: trained, resumed, mixed and exported like those of any expert."""

import json
from pathlib import Path

import pytest
import torch
from tiny import train_tiny, typed

from moegs_ns.cli.export import Export
from moegs_ns.cli.render import Render
from moegs_ns.cli.report import load_pipeline
from moegs_ns.data.demo_scene import write_demo_scene
from moegs_ns.models.checkpoints import load_checkpoint, open_run

METHOD = "moegs-ex4dgs"
CAP = ("--pipeline.model.recipe.densification.max-gaussians", "4500")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A scene of 6 cameras, 6 frames, 48x36 pixels, and the config of a run on it."""
    folder = tmp_path_factory.mktemp("ex4dgs")
    write_demo_scene(folder / "scene", num_cameras=6, num_frames=6, width=48, height=36)
    return folder / "scene", train_tiny(METHOD, folder / "scene", folder / "outputs", *CAP)


def test_training_lowers_the_error_and_passes_all_stages(place):
    pipeline = load_pipeline(open_run(place[1]))
    psnr = pipeline.get_average_eval_image_metrics()["psnr"]
    images = [batch["image"] for _, batch in pipeline.datamanager.fixed_indices_eval_dataloader]
    black = -10 * torch.log10((torch.stack(images).float() / 255).square().mean())
    assert psnr > float(black) + 3.0
    expert = pipeline.model.expert
    assert expert.duration == 5.0 and expert.num_static > 0 and expert.num_dynamic > 0


def test_a_resumed_run_goes_on_with_rows_keys_and_moments(place, tmp_path):
    scene, config = place
    source = open_run(config)
    resumed = open_run(
        train_tiny(
            METHOD, scene, tmp_path, "--load-dir", str(source.checkpoint_path.parent),
            *CAP, "--budget", "0.0065",
        )
    )  # fmt: skip
    content = load_checkpoint(resumed.checkpoint_path)
    assert content["step"] == 259
    state = resumed.model_state()
    for prefix, rows in (("", "gauss_params"), ("dynamic_", "key_gauss_params")):
        means = state[f"expert.{rows}.means"]
        moments = content["optimizers"][prefix + "means"]["state"]
        assert all(value["exp_avg"].shape == means.shape for value in moments.values())
    ratio = content["optimizers"]["displacements"]["param_groups"][0]["lr"] / 1e-4
    assert ratio == pytest.approx(float(state["expert.scene_extent"]), rel=1e-4)


def test_it_is_an_expert_of_a_router(place, tmp_path):
    scene, config = place
    mixture = train_tiny("moegs-router", scene, tmp_path, "--experts", str(config), str(config))
    metrics = load_pipeline(open_run(mixture)).get_average_eval_image_metrics()
    assert metrics["psnr_ex4dgs"] == pytest.approx(metrics["psnr_ex4dgs_2"], abs=1e-4)
    assert metrics["psnr"] == pytest.approx(metrics["psnr_ex4dgs"], abs=1e-3)


def test_a_compact_copy_shows_the_same(place, tmp_path):
    folder = tmp_path / "compact"
    with typed(["moegs", "export", "--compact", str(place[1])]):
        Export(place[1], compact=True, output_dir=folder).main()
    run = open_run(folder / "config.yml")
    before, after = open_run(place[1]).model_state(), run.model_state()
    for rows in ("gauss_params", "key_gauss_params"):
        name = f"expert.{rows}.means"
        assert after[name].shape == before[name].shape
        assert (after[name] - before[name]).abs().max() < 1e-3
    record = json.loads(next(folder.glob("*compact*.json")).read_text())
    assert record["gaussians"] == load_pipeline(run).model.expert.num_gaussians


def test_it_renders_a_video(place, tmp_path):
    Render(place[1], output_path=tmp_path / "video.mp4", seconds=0.1).main()
    assert (tmp_path / "video.mp4").stat().st_size > 0
