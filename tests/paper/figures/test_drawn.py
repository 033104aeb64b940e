"""All figures of small runs: files, numbers, and sentences where runs are missing."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import TinyRuns

from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.evaluation.image_metrics import image_metrics
from moegs_ns.evaluation.tables import Row
from moegs_ns.launch.cli_args import replaced_argv
from moegs_ns.paper.figures import depth
from moegs_ns.paper.figures.all_figures import ALL, FIGURES
from moegs_ns.paper.figures.depth import DepthFigure
from moegs_ns.paper.figures.figure import Figure, FigureRuns, SceneRuns
from moegs_ns.paper.figures.shown import SceneImages, expert_images, mixture_images, run_images
from moegs_ns.runs.checkpoint import open_run


@pytest.fixture(scope="module")
def scene(tiny_runs: TinyRuns) -> SceneRuns:
    """Any runs on the scene may stand for other routers and students: pictures are pictures."""
    stg, hexplane = map(Path, tiny_runs.experts)
    return SceneRuns(
        "tiny",
        tiny_runs.router,
        (stg, hexplane),
        {"pixel": stg, "volume": hexplane, "volume-aware": tiny_runs.router},
        {"stg": (stg, hexplane)},
    )


def drawn(figure: Figure, scene: SceneRuns, folder: Path) -> list[Row]:
    """The numbers of a figure, whose files are looked at."""
    with replaced_argv(["moegs", "paper"]):
        written = figure.draw(FigureRuns((scene,)), folder)
    name = f"figure_{figure.number}"
    assert [path.name for path in written] == [f"{name}.png", f"{name}.json", f"{name}.md"]
    picture = np.asarray(Image.open(written[0]).convert("RGB"))
    assert picture.shape[1] > 500 and picture.std() > 10.0
    return json.loads(written[1].read_text())["rows"]


def test_the_figures_are_those_of_the_paper():
    assert list(FIGURES) == [1, 4, 5, 7, 8, 9, 10, 11]
    assert all(figure.about for figure in ALL)


@pytest.mark.parametrize("number", [4, 7])
def test_experts_and_mixture(number: int, scene: SceneRuns, tmp_path: Path):
    rows = drawn(FIGURES[number], scene, tmp_path)
    whole = [row for row in rows if row["region"] == "image"]
    assert [row["panel"] for row in whole] == ["STG", "4DGaussians", "MoE-GS"]
    assert ("mean_gate" in whole[0]) is (number == 4)
    if number == 4:
        assert whole[0]["mean_gate"] + whole[1]["mean_gate"] == pytest.approx(1.0, abs=1e-5)
    # PSNR as `ns-eval` would tell it.
    pipeline = load_pipeline(open_run(scene.mixture))
    frames = pipeline.datamanager.eval_dataset.frame_table.frame_ids.tolist()
    camera, batch = pipeline.datamanager.eval_item(frames.index(whole[0]["frame"]))
    outputs = pipeline.model.get_outputs_for_camera(camera)
    metrics, _ = image_metrics(outputs["rgb"], batch)
    assert whole[2]["psnr"] == pytest.approx(metrics["psnr"], abs=1e-3)


def test_further_images_are_other_ones(scene: SceneRuns, tmp_path: Path):
    frames = [drawn(FIGURES[number], scene, tmp_path)[0]["frame"] for number in (4, 7, 8)]
    assert len(set(frames)) == 3


def test_routers(scene: SceneRuns, tmp_path: Path):
    rows = drawn(FIGURES[5], scene, tmp_path)
    assert [row["panel"] for row in rows[:3]] == [
        "Pixel Router", "Volume Router", "Volume-aware Pixel Router",
    ]  # fmt: skip


def test_students(scene: SceneRuns, tmp_path: Path):
    rows = drawn(FIGURES[9], scene, tmp_path)
    names = ["STG, retrained", "STG, distilled", "MoE-GS, the teacher"]
    assert [row["panel"] for row in rows[:3]] == names
    assert not any(row["is_best"] for row in rows if row["panel"] == names[2])


def test_limits_of_experts(scene: SceneRuns, tmp_path: Path):
    rows = drawn(FIGURES[1], scene, tmp_path)
    means = {row["expert"]: row["psnr"] for row in rows if row["part"] == "a"}
    over_time = [row for row in rows if row["part"] == "c"]
    assert list(means) == ["STG", "4DGaussians"]
    for name, mean in means.items():
        own = [row["psnr"] for row in over_time if row["expert"] == name]
        assert len(own) == 6 and sum(own) / 6 == pytest.approx(mean, abs=1e-3)
    for frame in range(6):
        best = max((r for r in over_time if r["frame"] == frame), key=lambda row: row["psnr"])
        assert best["is_best"]
    assert sum(row["is_best"] for row in over_time) == 6
    shares = [row["best_in_share_of_image"] for row in rows if row["part"] == "b"]
    assert sum(shares) == pytest.approx(1.0)
    assert [row["expert"] for row in rows if row["part"] == "trajectories"] == list(means)


def test_depth_consistency(scene: SceneRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(depth, "FRAMES", 2)
    monkeypatch.setattr(depth, "CAMERAS", 2)
    rows = drawn(DepthFigure(fuse_views=1), scene, tmp_path)
    names = ["STG", "4DGaussians", "MoE-GS, by gates", "MoE-GS, fused"]
    assert [row["name"] for row in rows] == [name for name in names for _ in range(2)]
    assert {row["scene"] for row in rows} == {"tiny"} and rows[0]["instants"] <= 2


def test_motion(scene: SceneRuns, tmp_path: Path):
    rows = drawn(FIGURES[11], scene, tmp_path)
    assert [(row["scene"], row["expert"]) for row in rows] == [
        ("tiny", "STG"), ("tiny", "4DGaussians"),
    ]  # fmt: skip
    assert {row["frame"] for row in rows} == {3}, "the middle of six"


def test_images_are_those_of_the_models(scene: SceneRuns):
    """The mixture's own experts are the runs that it was made of."""
    alone, mixed = expert_images(scene).shown(2), mixture_images(scene).shown(2)
    assert (alone.names, alone.frame, alone.gates) == (("STG", "4DGaussians"), 2, None)
    torch.testing.assert_close(alone.images, mixed.images[:2], atol=1.01 / 255, rtol=0)
    assert mixed.gates is not None and mixed.gates.shape == (2, 36, 48)
    blend = (mixed.gates[..., None] * mixed.images[:2]).sum(0)
    torch.testing.assert_close(mixed.images[2], blend, atol=1.6 / 255, rtol=0)


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (1, r"Figure 1 .* scene bare has the runs of 1 experts; name at least two"),
        (5, r"scene bare has no run of the router volume and volume-aware; train moegs-pixel"),
        (9, r"scene bare has no students; train an expert once alone and once with --teacher"),
        (11, r"scene bare has the runs of 1 experts"),
    ],
)
def test_missing_runs_end_in_a_sentence(number: int, sentence: str, tmp_path: Path):
    bare = SceneRuns("bare", Path("router"), (Path("stg"),), {"pixel": Path("pixel")})
    with pytest.raises(ValueError, match=sentence):
        FIGURES[number].draw(FigureRuns((bare,)), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("figure", ALL, ids=lambda figure: str(figure.number))
def test_no_scene_ends_in_a_sentence(figure: Figure, tmp_path: Path):
    with pytest.raises(ValueError, match=rf"Figure {figure.number} .*there are runs of no scene"):
        figure.draw(FigureRuns(()), tmp_path)


def test_scenes_that_lack_runs_are_left_out_aloud(scene: SceneRuns, tmp_path: Path, capsys):
    bare = replace(scene, name="bare", students={})
    with replaced_argv(["moegs", "paper"]):
        _, table, _ = FIGURES[9].draw(FigureRuns((bare, scene)), tmp_path)
    assert "leaves out: scene bare has no students" in " ".join(capsys.readouterr().out.split())
    assert {row["scene"] for row in json.loads(table.read_text())["rows"]} == {"tiny"}


def test_a_run_that_is_no_mixture_ends_in_a_sentence(scene: SceneRuns, tmp_path: Path):
    wrong = replace(scene, mixture=scene.experts[0])
    for number in (4, 10):
        with pytest.raises(
            ValueError, match=r"Expected the run of a mixture of scene tiny, but .* name"
        ):
            FIGURES[number].draw(FigureRuns((wrong,)), tmp_path)
    wrong = replace(scene, experts=(scene.experts[0], scene.mixture))
    with pytest.raises(ValueError, match=r"runs of single experts of scene tiny, got one of a mix"):
        FIGURES[11].draw(FigureRuns((wrong,)), tmp_path)
    assert not list(tmp_path.iterdir())


def test_runs_that_hold_out_other_images_end_in_a_sentence(scene: SceneRuns):
    one, other = run_images(
        "tiny", dict(zip(("first", "second"), scene.experts, strict=True))
    ).sources
    table = other.pipeline.datamanager.eval_dataset.frame_table
    table.frame_ids[0] += 9
    with pytest.raises(ValueError, match=r"those of first and second hold out other ones; train"):
        SceneImages("tiny", (one, other))
