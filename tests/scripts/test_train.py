"""`moegs train`: the plan, the trainings, the table."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from nerfstudio.data.dataparsers.dnerf_dataparser import DNeRFDataParserConfig
from tiny import TinyRuns
from training_helpers import TEMPLATE

from moegs_ns.data.dataparsers.n3v import N3VDataParserConfig
from moegs_ns.launch.cli_args import replaced_argv
from moegs_ns.launch.jobs import Progress, progress_of
from moegs_ns.launch.plan import (
    PlannedTraining,
    Speed,
    decoded_megabytes,
    duration,
    known_speed,
    planned,
    stage_seconds,
)
from moegs_ns.scripts import main as command
from moegs_ns.scripts.train import Train

TINY = ["--expert-budget", "0.0004", "--router-budget", "0.001"]


def run(*args: str, parser: tuple[str, ...] = ("n3v-data",), command_name: str = "train") -> None:
    with replaced_argv(["moegs", command_name, *args, *parser]):
        command.main()


class TestCommand:
    def test_experts_router_and_table(
        self,
        tiny_runs: TinyRuns,
        tmp_path: Path,
        typed_commands,
        capsys,
    ):
        args = ["--experts", "stg", tiny_runs.experts[1], *TINY, "--output-dir", str(tmp_path)]
        args += ["--data", str(tiny_runs.scene), "--output-path", str(tmp_path / "table.json")]
        args += ["--expert-options", "stg: --pipeline.model.expert.near 0.2"]
        run(*args)
        assert [args[0] for args in typed_commands] == ["moegs-stg", "moegs-router"]
        assert "moegs-stg (seed 42) new 12 unknown unknown no earlier run" in as_plain(capsys)
        rows = json.loads((tmp_path / "table.json").read_text())["rows"]
        assert {row["method"]: row["kind"] for row in rows} == {
            "moegs-4dgaussians": "expert", "moegs-stg": "expert", "moegs-router": "mixture"
        }  # fmt: skip
        folder = next((tmp_path / "scene" / "moegs-stg").iterdir())
        assert "near: 0.2" in (folder / "config.yml").read_text()
        run(*args, "--dry-run")
        assert len(typed_commands) == 2
        assert "moegs-router (seed 42) finished 5 0 s" in as_plain(capsys)

    def test_a_dry_run_prints_the_plan_only(
        self,
        tiny_runs: TinyRuns,
        tmp_path: Path,
        typed_commands,
        capsys,
    ):
        run(
            "--experts", "stg", "stg", *TINY, "--output-dir", str(tmp_path / "out"),
            "--val-cameras", "2", "--data", str(tiny_runs.scene), "--dry-run",
            parser=("n3v-data", "--frames", "0", "3"), command_name="recipe",
        )  # fmt: skip
        text = as_plain(capsys)
        assert "moegs-stg (seed 43) new 12" in text and "moegs-router (seed 42) new 5" in text
        assert "Time left in all: unknown (no earlier run" in text
        assert not typed_commands and not (tmp_path / "out").exists()

    def test_no_experts(self):
        with pytest.raises(ValueError, match="got none; add --experts stg ex4dgs before --data"):
            Train(N3VDataParserConfig()).main()

    def test_options_of_an_expert_that_is_not_there(self):
        for options in ("ex4dgs: --x 1", "--x 1"):
            recipe = Train(N3VDataParserConfig(), ("stg",), expert_options=(options,))
            with pytest.raises(ValueError, match="expects 'NAME: options' with a method of"):
                recipe.main()

    def test_a_misspelt_option_ends_before_anything_is_trained(
        self,
        tiny_runs: TinyRuns,
        tmp_path: Path,
        typed_commands,
    ):
        with pytest.raises(SystemExit):
            run(
                "--experts", "stg", "--train-options=--budgett 1", "--output-dir", str(tmp_path),
                "--data", str(tiny_runs.scene),
            )  # fmt: skip
        assert not typed_commands and not list(tmp_path.iterdir())

    def test_a_router_that_cannot_be_ends_before_anything_is_trained(
        self, tiny_runs: TinyRuns, tmp_path: Path, typed_commands
    ):
        with pytest.raises(ValueError, match="temperature expects a number above 0"):
            run(
                "--experts", "stg", "--router-options=--pipeline.model.temperature 0",
                "--data", str(tiny_runs.scene), "--output-dir", str(tmp_path),
            )  # fmt: skip
        assert not typed_commands

    def test_a_scene_that_is_not_there(self, tmp_path: Path):
        with pytest.raises(FileNotFoundError, match="Expected a scene folder"):
            run("--experts", "stg", "--data", str(tmp_path / "no"), "--dry-run")

    def test_the_help_says_how_options_of_options_are_typed(self, capsys):
        with pytest.raises(SystemExit):
            run("--help-verbose", parser=())
        text = as_plain(capsys)
        for name in ("train", "router"):
            assert f'--{name}-options="--steps-per-save 100"' in text

    def test_fewer_than_one_at_once(self):
        with pytest.raises(ValueError, match="--at-once expects at least 1, got 0"):
            Train(N3VDataParserConfig(), ("stg",), at_once=0).main()


def as_plain(capsys) -> str:
    """What was printed, without the lines of tables."""
    return " ".join(capsys.readouterr().out.replace("│", " ").replace("┃", " ").split())


class TestPlan:
    def record(self, folder: Path, seconds: float, steps: int, device: str = "cpu") -> None:
        (folder / "nerfstudio_models").mkdir(parents=True)
        content = {"seconds": seconds, "steps": steps, "device": device}
        (folder / "training.json").write_text(json.dumps(content))
        (folder / "nerfstudio_models" / "step-000000009.ckpt").write_bytes(b"0" * 2000)

    def test_speed_comes_from_earlier_runs_of_the_method(self, tmp_path: Path):
        training = replace(TEMPLATE, output_dir=tmp_path)
        assert known_speed(training) is None
        self.record(tmp_path / "other" / "moegs-stg" / "a", 30.0, 10)
        assert known_speed(training) == Speed(3.0, 0.002, "1 runs of other experiments")
        for name, seconds in (("a", 10.0), ("b", 20.0), ("c", 60.0)):
            self.record(tmp_path / "scene" / "moegs-stg" / name, seconds, 10)
        self.record(tmp_path / "scene" / "moegs-stg" / "gpu", 0.1, 10, "cuda:0")
        self.record(tmp_path / "scene" / "moegs-ex4dgs" / "a", 0.1, 10)
        assert known_speed(training) == Speed(2.0, 0.002, "3 earlier runs of this experiment")

    def plan(self, seconds: float | None, done: int = 0, is_finished: bool = False):
        speed = None if seconds is None else Speed(seconds / 100, None, "")
        return PlannedTraining(TEMPLATE, Progress(done, 100, None, is_finished), 100, speed)

    def test_time_left_is_that_of_the_steps_left(self):
        assert self.plan(50.0).seconds == 50.0
        assert self.plan(50.0, done=60).seconds == pytest.approx(20.0)
        assert self.plan(50.0, is_finished=True).seconds == 0.0
        assert self.plan(None).seconds is None

    @pytest.mark.parametrize(("places", "expected"), [(1, 60.0), (2, 40.0), (3, 30.0), (9, 30.0)])
    def test_trainings_take_the_first_place_that_is_free(self, places: int, expected: float):
        stage = [self.plan(seconds) for seconds in (20.0, 10.0, 30.0)]
        assert stage_seconds(stage, places) == expected
        assert stage_seconds([*stage, self.plan(None)], places) is None
        assert stage_seconds([], places) == 0.0

    def test_words_are_read_as_nerfstudio_will_read_them(self, tmp_path: Path):
        training = replace(
            TEMPLATE, output_dir=tmp_path, options=("--max-num-iterations", "400"), budget=0.5
        )
        assert planned(training).total == 200
        assert progress_of(training.folder) == Progress()

    def test_decoded_images_are_counted_in_both_splits(self, tiny_runs: TinyRuns):
        megabytes = decoded_megabytes(N3VDataParserConfig(), tiny_runs.scene)
        assert megabytes == pytest.approx(6 * 6 * 48 * 36 * 3 / 1e6)

    def test_durations_are_words(self):
        assert [duration(s) for s in (None, 0.4, 119, 150, 7200)] == [
            "unknown", "0 s", "119 s", "2 min", "120 min"
        ]  # fmt: skip


def test_parsers_of_nerfstudio_are_taken_too():
    recipe = Train(DNeRFDataParserConfig(data=Path("x")), ("4dgaussians",))
    assert recipe.template().parser[0] == "dnerf-data"
