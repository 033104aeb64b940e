"""What the rows of a table say beside figures: kind, options, reasons, runs; and how rows print."""

import json
import math
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from nerfstudio.configs.method_configs import all_methods

from moegs_ns.engine.trainer import MoegsPipeline
from moegs_ns.experts.windows import joined_config
from moegs_ns.launch.cli_args import replaced_argv
from moegs_ns.reports import report, scores
from moegs_ns.reports.report import report_runs
from moegs_ns.reports.scores import Score, images_with, print_scores, score_runs
from moegs_ns.runs.checkpoint import Run

SCORE = Score(
    method="moegs-stg", kind="expert", psnr=21.456, psnr_std=1.0, psnr_dynamic=20.123, ssim=0.87654,
    lpips=None, gaussians=12345, mb=3.21, train_seconds=61.7, fps=49.96, seed=7, images=5,
    options="budget 1",
)  # fmt: skip
MIXTURE = replace(
    SCORE, method="moegs-router", kind="mixture", psnr_best_expert=20.0, psnr_average=20.1,
    psnr_constant=20.2, psnr_oracle=24.0, psnr_oracle_4=23.0, psnr_oracle_16=22.0,
    psnr_oracle_32=21.0, expert_seconds=5.0,
)  # fmt: skip

SCORED: Any = Mock(spec=MoegsPipeline, datamanager=SimpleNamespace(eval_dataset=["an image"]))
"""A pipeline with something to score."""


def run_of(method: str, folder: str = "a", **model: Any) -> Run:
    config = deepcopy(all_methods[method])
    for name, value in model.items():
        setattr(config.pipeline.model, name, value)
    return Mock(spec=Run, config=config, config_path=Path(folder) / "config.yml")


def printed(capsys) -> str:
    return " ".join(capsys.readouterr().out.split())


class TestOptions:
    def test_of_an_expert(self):
        run = run_of("moegs-stg", budget=0.25)
        assert scores._options(run) == "budget 0.25"
        run.config.pipeline.datamanager.dataparser = SimpleNamespace(frames=(3, 9))
        run.config.pipeline.datamanager.val_cameras = (4, 12)
        run.config.pipeline.model.color_correction = True
        told = "budget 0.25, frames 3-9, validation cameras (4, 12), color correction"
        assert scores._options(run) == told

    def test_of_windows(self):
        run = run_of("moegs-stg")
        expert = run.config.pipeline.model.expert
        run.config.pipeline.model.expert = joined_config([expert] * 2, [(0, 2), (3, 9)])
        assert scores._options(run) == "budget 1, windows 0-2, 3-9"

    def test_of_a_mixture(self):
        run = run_of("moegs-router", expert_names=("stg", "ex4dgs"))
        assert scores._options(run) == "budget 1, experts stg, ex4dgs"
        model = run.config.pipeline.model
        model.prune = replace(model.prune, ratio=0.55)
        model.router.stacked = True
        told = "pruned 55% by gated-contribution, gates corrected by copies"
        assert scores._options(run) == f"budget 1, experts stg, ex4dgs, {told}"

    def test_of_a_student(self):
        run = run_of("moegs-stg")
        assert scores._kind(run) == "expert"
        model = run.config.pipeline.model
        model.distillation = replace(model.distillation, teacher=Path("t"))
        assert scores._kind(run) == "distilled"
        assert scores._options(run).startswith("budget 1, ") and "teacher" in scores._options(run)

    def test_of_a_run_from_before_distillation(self):
        model = SimpleNamespace(budget=1.0)
        assert scores._distillation(model).teacher is None

    def test_kinds(self):
        assert scores._kind(run_of("moegs-router")) == "mixture"
        assert scores._kind(run_of("moegs-ex4dgs")) == "expert"


class TestReasons:
    def test_each_missing_figure_has_its_own(self):
        reasons = scores._missing(replace(SCORE, psnr_dynamic=math.nan)).split("; ")
        assert [reason.partition(":")[0] for reason in reasons] == [
            "lpips, lpips_alex_01", "st_lpips", "ms_ssim, dssim_ms",
            "psnr_best_expert to psnr_oracle_32", "psnr_dynamic", "expert_seconds",
        ]  # fmt: skip
        assert "expert_seconds: an expert has none of its own" in reasons
        assert "psnr_dynamic: nothing moves in the held-out views" in reasons
        assert "st_lpips: the extra `perceptual` is not installed" in reasons
        assert "psnr_best_expert to psnr_oracle_32: of mixtures only" in reasons
        assert "ms_ssim, dssim_ms: of images above 160 pixels a side only" in reasons
        assert scores.WEIGHTS_VARIABLE in reasons[0] and scores.LPIPS_WEIGHTS in reasons[0]

    def test_a_mixture_without_a_record(self):
        whole = replace(MIXTURE, lpips=0.1, st_lpips=0.1, ms_ssim=0.9)
        assert scores._missing(whole) == ""
        told = scores._missing(replace(whole, expert_seconds=None, train_seconds=None))
        assert told == (
            "train_seconds: the run has no training record; "
            "expert_seconds: the record of its training does not tell it"
        )


class TestPrinting:
    def test_figures_are_shown_to_so_many_digits(self, capsys):
        print_scores([SCORE, replace(SCORE, method="b", seed=8)])
        text = printed(capsys)
        assert "Held-out views (5 images)" in text
        assert "moegs-stg expert 7 21.46 20.12 0.8765 12,345 3.2 62 50.0 budget 1" in text
        assert "train seconds" in text and "Mixtures" not in text

    def test_the_number_of_images_is_a_column_where_it_differs(self, capsys):
        print_scores([SCORE, replace(SCORE, images=3, train_seconds=None)])
        text = printed(capsys)
        assert "images)" not in text
        assert "62 50.0 5 budget 1" in text and "3.2 - 50.0 3 budget 1" in text

    def test_mixtures_have_a_table_of_their_own(self, capsys):
        print_scores([SCORE, MIXTURE])
        text = printed(capsys)
        assert "Mixtures beside blends and bounds" in text
        assert "moegs-router 7 21.46 20.00 20.10 20.20 21.00 22.00 23.00 24.00" in text
        print_scores([replace(MIXTURE, psnr_constant=None)])
        assert "20.00 20.10 - 21.00" in printed(capsys)

    def test_brackets_in_options_are_no_markup(self, capsys):
        print_scores([replace(SCORE, options="[red]x")])
        assert "[red]x" in printed(capsys)


class TestRows:
    @pytest.fixture
    def score_run(self, monkeypatch) -> None:
        def score(run: Run, pipeline: Any = None) -> Score:
            return replace(SCORE, method=run.config.method_name, run=str(run.config_path.parent))

        monkeypatch.setattr(scores, "score_run", score)
        monkeypatch.setattr(report, "load_pipeline", lambda run: SCORED)
        monkeypatch.setattr(report, "joined_run", lambda runs: runs[0])
        monkeypatch.setattr(report, "load_windows", lambda run, runs: SCORED)

    @pytest.mark.usefixtures("score_run")
    def test_each_run_is_scored_told_and_written(self, tmp_path: Path, capsys, monkeypatch):
        rows = [
            (run_of("moegs-stg", "one"),),
            (run_of("moegs-stg", "two"), run_of("moegs-stg", "three")),
        ]
        with replaced_argv(["moegs", "report", "a b"]):
            report_runs(rows, None)
        text = printed(capsys)
        assert "Scoring one (1 of 2)" in text and "Scoring two+three (2 of 2)" in text
        assert not list(tmp_path.iterdir())
        known = [(run_of("moegs-stg", "one"),)]
        path = tmp_path / "t.json"
        with pytest.raises(ValueError, match="say why under 'reason'"):
            report_runs(known, path)
        monkeypatch.setattr(scores, "score_run", lambda run, _: replace(SCORE, reason="why"))
        report_runs(known, path)
        (row,) = json.loads(path.read_text())["rows"]
        assert row["psnr"] == SCORE.psnr and row["lpips"] is None and row["reason"] == "why"

    def test_the_command_is_that_of_the_table(self, tmp_path: Path):
        path = tmp_path / "t.json"
        with replaced_argv(["/usr/bin/moegs", "report", "a b"]):
            scores.write_table(path, [{"psnr": 1.0}])
        content = json.loads(path.read_text())
        assert content["command"] == "moegs report 'a b'"
        assert content["rows"] == [{"psnr": 1.0}]

    def test_seconds_of_windows_are_added_up(self, monkeypatch):
        records = {"one": {"seconds": 3.0}, "two": {"seconds": 4.5}, "none": {}}
        name = "training_record"
        monkeypatch.setattr(scores, name, lambda path: records[path.parent.name])
        asked: list[Any] = []

        def score(run: Any, pipeline: Any) -> Score:
            asked.append((run, pipeline))
            return replace(SCORE, train_seconds=None, reason="old")

        monkeypatch.setattr(scores, "score_run", score)
        runs = [run_of("moegs-stg", name) for name in ("one", "two")]
        joined = run_of("moegs-stg", "joined")
        made = score_runs(runs, joined, SCORED)
        assert made.train_seconds == 7.5 and made.run == "one+two"
        assert "train_seconds" not in made.reason and "old" not in made.reason
        assert asked == [(joined, SCORED)]
        made = score_runs([runs[0], run_of("moegs-stg", "none")], joined, SCORED)
        assert made.train_seconds is None and "train_seconds: the run has no" in made.reason


def test_figures_of_all_images_are_counted_by_their_number():
    found = {"psnr": 1.0, "psnr_dynamic": 2.0, "psnr_dynamic_images": 3.0, "images": 5.0}
    assert images_with(found, "psnr") == 5 and images_with(found, "psnr_dynamic") == 3
    assert images_with(found, "lpips") == 0
