"""Experts of windows that are named by method: `--experts stg+stg`."""

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
from nerfstudio.configs.method_configs import all_methods
from nerfstudio.data.dataparsers.dnerf_dataparser import DNeRFDataParserConfig
from tiny import TinyRuns
from training_helpers import TEMPLATE

from moegs_ns.data.dataparsers.n3v import N3VDataParserConfig
from moegs_ns.launch import windows
from moegs_ns.launch.cli_args import replaced_argv
from moegs_ns.launch.jobs import TrainingJob
from moegs_ns.launch.windows import clip_of, equal_windows, window_trainings
from moegs_ns.models import missing_experts
from moegs_ns.models.expert_sources import ExpertSource, expert_source, options_by_method
from moegs_ns.models.joint_model import JointModelConfig
from moegs_ns.models.missing_experts import source_trainings
from moegs_ns.runs.checkpoint import Run
from moegs_ns.scripts import main as command

TWO = ("moegs-stg", "moegs-stg")


@pytest.fixture
def clip(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording of which frames 10 to 16 are read."""
    monkeypatch.setattr(windows, "clip_of", lambda parser, data: (10, 16))


class TestDivision:
    def test_windows_follow_each_other_and_are_equally_long(self):
        assert equal_windows((0, 299), 2) == [(0, 149), (150, 299)]
        assert equal_windows((10, 16), 3) == [(10, 11), (12, 13), (14, 16)]
        assert equal_windows((5, 6), 2) == [(5, 5), (6, 6)]

    def test_more_windows_than_frames(self):
        with pytest.raises(ValueError, match=r"as many windows.*got 3 for frames 5 to 6; name few"):
            equal_windows((5, 6), 3)

    def test_a_parser_that_reads_whole_recordings_only(self, tmp_path: Path):
        with pytest.raises(ValueError, match="with --frames, but dnerf-data always reads the whol"):
            clip_of(DNeRFDataParserConfig(), tmp_path)

    def test_the_clip_is_what_the_parser_reads(self, tiny_runs: TinyRuns):
        assert clip_of(N3VDataParserConfig(), tiny_runs.scene) == (0, 5)
        parser = N3VDataParserConfig(frames=(2, 4))
        assert clip_of(parser, tiny_runs.scene) == (2, 4)
        assert parser.data != tiny_runs.scene


@pytest.mark.usefixtures("clip")
class TestTrainings:
    def test_each_window_is_trained_on_its_frames(self):
        parser = N3VDataParserConfig(downscale_factor=2)
        made = window_trainings(TEMPLATE, TWO, parser, {"moegs-stg": ["--x", "1"]})
        rest = ("--downscale-factor", "2")
        assert [job.parser for job in made] == [
            ("n3v-data", "--frames", "10", "12", *rest),
            ("n3v-data", "--frames", "13", "16", *rest),
        ]  # fmt: skip
        assert {job.seed for job in made} == {TEMPLATE.seed}
        assert {job.options for job in made} == {(*TEMPLATE.options, "--x", "1")}
        assert made[1].label == "moegs-stg on frames 13 to 16 (seed 4)"
        assert len({job.folder for job in made}) == 2
        assert parser.frames is None

    def test_an_expert_that_comes_again_gets_the_next_seed(self):
        two, one, run = ExpertSource(methods=TWO), ExpertSource(methods=TWO[:1]), ExpertSource()
        made = source_trainings(TEMPLATE, [two, one, run, two], N3VDataParserConfig())
        assert [[job.seed for job in each] for each in made] == [[4, 4], [4], [], [5, 5]]
        assert made[1][0].parser == TEMPLATE.parser

    def test_families_that_cannot_be_one_expert_end_before_the_training(self):
        template = replace(TEMPLATE, options=())
        source = ExpertSource(methods=("moegs-stg", "moegs-4dgaussians"))
        own = {"moegs-stg": ["--pipeline.model.expert.near", "0.3"]}
        with pytest.raises(ValueError, match="share near plane and background"):
            source_trainings(template, [source], N3VDataParserConfig(), own)
        assert len(source_trainings(template, [source], N3VDataParserConfig())[0]) == 2

    def test_a_router_trains_the_windows_of_its_experts_first(self, monkeypatch):
        config = deepcopy(all_methods["moegs-router"])
        config.pipeline.datamanager.data = Path("/d")
        config.pipeline.datamanager.dataparser = N3VDataParserConfig()
        trained: list[tuple[TrainingJob, str]] = []
        monkeypatch.setattr(missing_experts, "train_in_order", trained.extend)
        name = "expert_run"
        monkeypatch.setattr(missing_experts, name, lambda path: Mock(spec=Run, config_path=path))
        finished = ExpertSource((Mock(spec=Run),))
        sources = [ExpertSource(methods=TWO), finished]
        made = missing_experts.train_missing_experts(config, sources)
        assert [title for _, title in trained] == [
            "Expert 1 of 2, frames 10 to 12", "Expert 1 of 2, frames 13 to 16"
        ]  # fmt: skip
        paths = [run.config_path for run in made[0].runs]
        assert paths == [job.config_path for job, _ in trained]
        assert made[1] is finished


class TestNames:
    def test_methods_between_plus_signs_are_windows(self):
        source = expert_source("stg+moegs-ex4dgs+stg")
        assert source.methods == ("moegs-stg", "moegs-ex4dgs", "moegs-stg")
        assert source.method == "moegs-stg+moegs-ex4dgs+moegs-stg"
        assert expert_source("stg").methods == ("moegs-stg",)

    @pytest.mark.parametrize(("word", "other"), [("stg+", r"\."), ("stg+out/x", "out/x")])
    def test_methods_and_others_are_not_joined(self, word: str, other: str):
        with pytest.raises(ValueError, match=rf"not both, but of '.*' {other} is no method; the"):
            expert_source(word)

    def test_options_of_a_method_are_those_of_its_windows(self):
        options = options_by_method(["stg: --x 1"], ["stg+ex4dgs"])
        assert options == {"moegs-stg": ["--x", "1"]}

    def test_joint_training_has_no_windows(self):
        config = JointModelConfig(experts=(Path("stg+stg"),))
        with pytest.raises(ValueError, match=r"one method for each expert, got the windows moegs"):
            config.method_configs()


def run(scene: Path, output: Path, *args: str, frames: tuple[str, ...] = ()) -> None:
    words = [
        "moegs", "train", "--data", str(scene), "--output-dir", str(output), "--expert-budget",
        "0.0004", "--router-budget", "0.001", *args, "n3v-data", *frames,
    ]  # fmt: skip
    with replaced_argv(words):
        command.main()


class TestCommand:
    def test_a_dry_run_names_the_windows(self, tiny_runs, tmp_path: Path, typed_commands, capsys):
        args = ("--experts", "stg+stg", "stg", "--dry-run")
        run(tiny_runs.scene, tmp_path / "out", *args, frames=("--frames", "1", "4"))
        text = " ".join(capsys.readouterr().out.replace("│", " ").split())
        for label in ("frames 1 to 2 (seed 42) new", "frames 3 to 4 (seed 42) new"):
            assert f"moegs-stg on {label}" in text
        assert not typed_commands and not (tmp_path / "out").exists()

    def test_windows_and_what_they_make_have_rows(self, tiny_runs, tmp_path, typed_commands):
        table = tmp_path / "table.json"
        args = ("--experts", "stg+stg", "--output", str(table))
        run(tiny_runs.scene, tmp_path, *args)
        assert [words[0] for words in typed_commands] == ["moegs-stg", "moegs-stg", "moegs-router"]
        first, second, joined, router = json.loads(table.read_text())["rows"]
        assert joined["method"] == "moegs-stg+moegs-stg" and joined["kind"] == "expert"
        assert "windows 0-2, 3-5" in joined["options"]
        assert joined["images"] == router["images"] == first["images"] + second["images"]
        assert joined["psnr"] == pytest.approx((first["psnr"] + second["psnr"]) / 2, abs=1e-5)
        assert joined["psnr"] == pytest.approx(router["psnr_best_expert"], abs=1e-4)
        assert joined["gaussians"] == first["gaussians"] + second["gaussians"]
        seconds = first["train_seconds"] + second["train_seconds"]
        assert joined["train_seconds"] == pytest.approx(seconds)
        # Given again, the command finds everything finished and scores.
        run(tiny_runs.scene, tmp_path, *args)
        assert len(typed_commands) == 3
