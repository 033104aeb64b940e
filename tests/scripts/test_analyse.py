"""`moegs analyse`: tables and images of real runs."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tiny import TinyRuns

from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.evaluation.tables import write_results
from moegs_ns.launch.cli_args import replaced_argv
from moegs_ns.reports.analysis import flicker_rows
from moegs_ns.reports.depth_consistency import depth_rows
from moegs_ns.reports.fusion import mixture_model
from moegs_ns.reports.held_out import held_out
from moegs_ns.runs.checkpoint import open_run
from moegs_ns.scripts.analyse import PICTURES, Analyse

NAMES = ("stg", "4dgaussians")


def rows_of(path: Path) -> list[dict]:
    assert path.with_suffix(".md").is_file()
    return json.loads(path.read_text())["rows"]


@pytest.fixture(scope="module")
def analysed(tiny_runs: TinyRuns, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("analysed")
    with replaced_argv(["moegs", "analyse"]):
        Analyse(tiny_runs.router, folder, depth_frames=2, depth_cameras=3).main()
    return folder


def test_every_picture_is_named(analysed: Path, tmp_path: Path, capsys):
    assert {path.stem for path in analysed.glob("*.png")} == set(PICTURES)
    Analyse(Path("run"), tmp_path)._draw("usage", lambda path, text: path.write_text(text), "x")
    said = " ".join(capsys.readouterr().out.split())
    assert (tmp_path / "usage.png").read_text() == "x"
    assert "usage.png: gates, their entropy and PSNR over time" in said


def test_the_motion_of_each_expert_is_told(analysed: Path):
    rows = rows_of(analysed / "motion.json")
    assert [row["expert"] for row in rows] == list(NAMES)
    for row in rows:
        assert row["gaussians"] > 0 and row["chosen"] <= 300
        assert row["speed"] is None or row["speed"] >= 0.0


def test_flicker_is_told_where_nothing_moves(analysed: Path):
    rows = {row["name"]: row for row in rows_of(analysed / "flicker.json")}
    assert list(rows) == ["mixture", *NAMES, "truth", "gates"]
    assert all(row["pairs"] > 0 and row["pixels"] > 0 for row in rows.values())
    # A blend of images cannot change by more than they and its gates do.
    moved = max(rows[name]["change"] for name in NAMES) + rows["gates"]["change"]
    assert 0.0 < rows["mixture"]["change"] <= moved


@pytest.mark.parametrize("kind", ["moves", "is masked"])
def test_flicker_is_that_of_still_pixels_that_count(
    kind: str, tiny_runs: TinyRuns, monkeypatch: pytest.MonkeyPatch
):
    pipeline = load_pipeline(open_run(tiny_runs.router))
    targets: list[torch.Tensor] = []

    def all_but_one(pipeline, index: int):
        view, target, batch = held_out(pipeline, index)
        targets.append(target)
        out = torch.ones_like(batch["is_moving"])
        out[0, 0] = False
        if kind == "moves":
            return view, target, batch | {"is_moving": out}
        return view, target, batch | {"is_moving": torch.zeros_like(out), "mask": ~out}

    monkeypatch.setattr("moegs_ns.reports.analysis.held_out", all_but_one)
    rows = flicker_rows(pipeline, mixture_model(pipeline), 3)
    found = {row["name"]: row for row in rows}["truth"]
    pairs = zip(targets[::2], targets[1::2], strict=True)
    expected = [float((second - first)[0, 0].abs().mean()) for first, second in pairs]
    assert found["pixels"] == found["pairs"] == len(expected) > 1
    assert found["change"] == pytest.approx(sum(expected) / len(expected), abs=1e-7)


def test_depth_is_compared_among_training_cameras(analysed: Path):
    """The scene holds out one camera only, which has nothing to be compared with."""
    rows = rows_of(analysed / "depth_consistency.json")
    kinds = [(name, d) for name in (*NAMES, "mixture", "fused") for d in ("expected", "median")]
    assert [(row["name"], row["depth"]) for row in rows] == kinds
    for row in rows:
        assert row["cameras"] == "training" and row["instants"] <= 2 and row["pairs"] <= 2 * 6
        assert 0.0 <= row["compared_share"] <= 1.0
        if row["mdc_world"] is not None:
            assert row["mdc_world"] > row["mdc_extents"] > 0.0, "the extent is above one unit"


def test_the_fused_set_may_be_measured_on_few_images(tiny_runs: TinyRuns):
    pipeline = load_pipeline(open_run(tiny_runs.router))
    few, whole = (
        {(row["name"], row["depth"]): row for row in depth_rows(pipeline, 1, 2, fuse_views=count)}
        for count in (1, None)
    )
    # Common pixels are those of the fused set, too.
    own, other = (rows["mixture", "median"]["mdc_own_world"] for rows in (few, whole))
    assert own == other
    assert few["fused", "median"] != whole["fused", "median"]
    assert whole["fused", "median"]["reason"] == "" and whole["fused", "median"]["pairs"] > 0


def test_a_mixture_that_has_no_fused_set_says_so(
    tiny_runs: TinyRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pipeline = load_pipeline(open_run(tiny_runs.router))
    mixture: Any = pipeline.model.mixture
    monkeypatch.setattr(type(mixture.experts[0]), "has_shading", True)
    rows = depth_rows(pipeline, 1, 2)
    assert [row["depth"] for row in rows if row["name"] == "mixture"] == ["expected", "median"]
    write_results(tmp_path / "rows.json", rows, "test")
    for row in rows_of(tmp_path / "rows.json")[-2:]:
        assert row["name"] == "fused" and row["mdc_world"] is None and row["instants"] == 0
        assert "number 1 (STGExpert) decodes colours per pixel" in row["reason"]


def test_errors_agree_with_the_scores_of_the_run(tiny_runs: TinyRuns, analysed: Path):
    """One error over all pixels lies below the mean PSNR of the images, but not far."""
    rows = {row["region"]: row for row in rows_of(analysed / "errors.json")}
    assert {"all", "moving", "still", "row 3, column 3"} <= set(rows)
    scores = load_pipeline(open_run(tiny_runs.router)).get_average_eval_image_metrics()
    whole = rows["all"]
    pairs = [(f"psnr_{name}", f"psnr_{name}") for name in NAMES]
    pairs += [("psnr_mixture", "psnr"), ("psnr_oracle", "psnr_oracle")]
    for own, theirs in pairs:
        assert whole[own] == pytest.approx(scores[theirs], abs=0.3), own
    best = max(whole[f"psnr_{name}"] for name in NAMES)
    gain = whole["psnr_mixture"] - best
    assert whole["share_of_oracle"] == pytest.approx(gain / (whole["psnr_oracle"] - best))
    assert whole["psnr_best_blend"] >= whole["psnr_oracle"] >= best
    assert rows["moving"]["pixels"] + rows["still"]["pixels"] == whole["pixels"] == 6 * 48 * 36


def test_usage_is_told_by_view_and_adds_up(analysed: Path):
    rows = rows_of(analysed / "usage.json")
    assert [row["frame"] for row in rows] == list(range(6))
    for row in rows:
        assert sum(row[f"gate_{name}"] for name in NAMES) == pytest.approx(1.0, abs=1e-5)
        assert sum(row[f"best_{name}"] for name in NAMES) == pytest.approx(1.0, abs=1e-6)
        assert 0.0 <= row["entropy"] <= 1.0 and 0.0 <= row["agreement"] <= 1.0
        assert row["winner"] in NAMES


@pytest.mark.parametrize("name", ["trajectories", "usage", "routing"])
def test_pictures_show_something(analysed: Path, name: str):
    with Image.open(analysed / f"{name}.png") as image:
        assert min(image.size) > 100
        colors = image.convert("RGB").getcolors(1 << 24)
        assert colors is not None and len(colors) > 50


def test_an_expert_alone_has_motion_and_depth(tiny_runs: TinyRuns, tmp_path: Path):
    with replaced_argv(["moegs", "analyse"]):
        run = tiny_runs.config("moegs-stg")
        Analyse(run, tmp_path, trajectories=10, depth_frames=1, depth_cameras=2).main()
    assert {path.name for path in tmp_path.glob("*.json")} == {
        "motion.json",
        "depth_consistency.json",
    }
    assert rows_of(tmp_path / "motion.json")[0]["expert"] == "stg"
    assert (tmp_path / "trajectories.png").is_file()


def test_too_little_to_look_at(tiny_runs: TinyRuns, tmp_path: Path):
    with pytest.raises(ValueError, match="--depth-cameras expects at least 2, got 1"):
        Analyse(tiny_runs.router, tmp_path, depth_cameras=1).main()
    with pytest.raises(ValueError, match="--fuse-views expects at least 1, got 0"):
        Analyse(tiny_runs.router, tmp_path, fuse_views=0).main()
    assert not list(tmp_path.iterdir())
