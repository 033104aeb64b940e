"""Both stages from one command: words, processes, what is finished and what goes on."""

import re
import shutil
import subprocess
import sys
from dataclasses import make_dataclass, replace
from enum import Enum
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from command_lines import parse
from fake_processes import FakeProcesses
from nerfstudio.data.dataparsers.base_dataparser import DataParserConfig
from tiny import TinyRuns, train_tiny
from training_helpers import TEMPLATE

from moegs_ns.data.datamanager import MoegsDataManagerConfig
from moegs_ns.data.dataparsers.n3v import N3VDataParserConfig
from moegs_ns.engine.trainer import MoegsTrainer
from moegs_ns.launch import jobs as trainings
from moegs_ns.launch.cli_args import option_args, parser_args, replaced_argv
from moegs_ns.launch.jobs import (
    environment_of,
    expert_trainings,
    progress_of,
)
from moegs_ns.models.expert_sources import expert_source
from moegs_ns.models.missing_experts import train_in_order
from moegs_ns.runs.checkpoint import open_run, training_record


class TestWords:
    def test_a_parser_and_datamanager_are_typed_as_they_are(self, tmp_path: Path):
        parser = N3VDataParserConfig(
            frames=(3, 9), downscale_factor=2, held_out_cameras=(1, 4), points_file=tmp_path / "p"
        )
        manager = MoegsDataManagerConfig(
            dataparser=parser, val_cameras=(2, 5), frame_store_dir=tmp_path, gpu_cache_gb=0.5
        )
        words = option_args(
            manager, MoegsDataManagerConfig(), "pipeline.datamanager.", skip=["data", "dataparser"]
        )
        typed = parse("moegs-stg", *words, "--data", "D", *parser_args(parser))
        assert typed.pipeline.datamanager == replace(manager, data=None)

    def test_settings_as_they_come_take_no_words(self):
        assert option_args(MoegsDataManagerConfig(), MoegsDataManagerConfig()) == []
        assert parser_args(N3VDataParserConfig(data=Path("elsewhere"))) == ["n3v-data"]

    def test_values_of_all_kinds(self):
        kind = Enum("kind", ["ROUND"])
        options = SimpleNamespace(a=None, b=True, c=kind.ROUND, d=[1, 2.5], e="x")
        words = [
            word
            for name, value in vars(options).items()
            for word in option_args(*fake_configs(name, value, "something else"))
        ]
        assert words == [
            "--a",
            "None",
            "--b",
            "True",
            "--c",
            "ROUND",
            "--d",
            "1",
            "2.5",
            "--e",
            "x",
        ]

    def test_values_that_cannot_be_typed(self):
        with pytest.raises(ValueError, match=r"--table for a command line, got \{1: 2\}"):
            option_args(*fake_configs("table", {1: 2}, {}))

    def test_a_parser_that_nobody_registered(self):
        class Unknown(DataParserConfig):
            pass

        with pytest.raises(ValueError, match="a parser that nerfstudio lists, got a Unknown"):
            parser_args(Unknown())


def fake_configs(name: str, value: object, usual: object) -> tuple[object, object]:
    kind = make_dataclass("Fake", [(name.replace("-", "_"), object)])
    return kind(value), kind(usual)


class TestTrainings:
    def test_other_settings_make_other_folders(self):
        others = [
            replace(TEMPLATE, **change)
            for change in (
                {"options": ()}, {"data": Path("/e")}, {"parser": ("panoptic-data",)},
                {"budget": 0.6}, {"seed": 5}, {"method": "moegs-ex4dgs"}, {"experiment": "x"},
            )
        ]  # fmt: skip
        assert len({each.folder for each in (TEMPLATE, *others)}) == len(others) + 1
        assert replace(TEMPLATE, without_effect=("--vis", "viewer")).folder == TEMPLATE.folder
        assert re.fullmatch(r"/o/scene/moegs-stg/seed-4-[0-9a-f]{8}", str(TEMPLATE.folder))

    def test_nerfstudio_puts_the_run_into_the_folder(self):
        config = parse(*TEMPLATE.args())
        config.set_timestamp()
        with replaced_argv(["ns-train", *TEMPLATE.args()]):
            assert config.get_base_dir() == TEMPLATE.folder
        assert config.pipeline.model.budget == 0.5 and config.machine.seed == 4
        assert config.pipeline.datamanager.val_cameras == (3,)

    def test_a_method_that_comes_again_gets_the_next_seed(self):
        made = expert_trainings(
            TEMPLATE, ["moegs-stg", "", "moegs-ex4dgs", "moegs-stg"], {"moegs-stg": ["--x", "1"]}
        )
        assert made[1] is None
        assert [(each.method, each.seed) for each in made if each] == [
            ("moegs-stg", 4), ("moegs-ex4dgs", 4), ("moegs-stg", 5)
        ]  # fmt: skip
        assert made[0] is not None and made[2] is not None and made[3] is not None
        assert made[0].options == made[3].options == ("--val-cameras", "3", "--x", "1")
        assert made[2].options == ("--val-cameras", "3")

    @pytest.mark.parametrize(
        ("count", "visible", "expected"),
        [(0, None, [None] * 3), (1, "5", ["5"] * 3), (2, None, ["0", "1", "0"]),
         (2, "3,7", ["3", "7", "3"])],
    )  # fmt: skip
    def test_gpus_are_dealt_out(self, monkeypatch, count: int, visible, expected: list):
        """Also of those that the user left visible."""
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        given = [environment_of(place).get("CUDA_VISIBLE_DEVICES") for place in range(3)]
        assert given == expected


class TestTwoStages:
    BUDGETS = ("--expert-budget", "0.0004", "--budget", "0.001")

    def test_experts_named_by_method_are_trained_once(
        self, tiny_runs: TinyRuns, tmp_path: Path, typed_commands
    ):
        experts = ["--experts", "stg", tiny_runs.experts[1], "moegs-stg", *self.BUDGETS]
        options = [*experts, "--machine.seed", "5"]
        config = train_tiny("moegs-router", tiny_runs.scene, tmp_path, *options)
        assert [words[0] for words in typed_commands] == ["moegs-stg"] * 2
        model = open_run(config).config.pipeline.model
        assert model.expert_names == ("stg", "4dgaussians", "stg_2")
        assert model.experts[1] == Path(tiny_runs.experts[1])
        for path, seed in ((model.experts[0], 5), (model.experts[2], 6)):
            expert = open_run(path).config
            assert expert.pipeline.model.budget == 0.0004 and expert.machine.seed == seed
            assert progress_of(path.parent).total == progress_of(path.parent).steps == 12
        again = train_tiny("moegs-router", tiny_runs.scene, tmp_path, *options, name="again")
        assert len(typed_commands) == 2
        assert open_run(again).config.pipeline.model.experts == model.experts

    def test_honest_gates_come_from_one_command(
        self, tiny_runs: TinyRuns, tmp_path: Path, typed_commands
    ):
        options = ["--experts", "stg", "--honest-cameras", "3", *self.BUDGETS]
        config = train_tiny("moegs-router", tiny_runs.scene, tmp_path, *options)
        (words,) = typed_commands
        assert words[words.index("--honest-cameras") + 1] == "3"
        router = open_run(config).config.pipeline.model
        expert = open_run(router.experts[0])
        assert training_record(expert.config_path)["honest_cameras"] == [3]
        assert expert.before_finish_path.is_file()
        assert training_record(config)["honest_gates"] is True

    def test_an_interrupted_expert_goes_on(
        self, tiny_runs: TinyRuns, tmp_path: Path, typed_commands, monkeypatch
    ):
        iterate = MoegsTrainer.train_iteration

        def interrupt(self, step):
            if step == 9:
                raise KeyboardInterrupt
            return iterate(self, step)

        options = ["--experts", "stg", *self.BUDGETS, "--steps-per-save", "4", "--val-cameras", "3"]
        parser = ["--frames", "0", "4"]
        with monkeypatch.context() as patch:
            patch.setattr(MoegsTrainer, "train_iteration", interrupt)
            # nerfstudio ends well when it is interrupted, so the record has to tell.
            with pytest.raises(RuntimeError, match=r"before its last step \(exit status 0\)"):
                train_tiny(
                    "moegs-router", tiny_runs.scene, tmp_path, *options, parser_options=parser
                )
        (folder,) = (tmp_path / "runs" / "moegs-stg").iterdir()
        progress = progress_of(folder)
        assert (progress.steps, progress.total, progress.is_finished) == (9, 12, False)
        (router,) = (tmp_path / "runs" / "moegs-router").iterdir()
        assert [path.name for path in router.glob("[!.]*")] == ["config.yml"]
        steps = []

        def count(self, step):
            steps.append((type(self.pipeline.model).__name__, step))
            return iterate(self, step)

        monkeypatch.setattr(MoegsTrainer, "train_iteration", count)
        config = train_tiny(
            "moegs-router", tiny_runs.scene, tmp_path, *options, parser_options=parser
        )
        assert [step for name, step in steps if name == "ExpertModel"] == [9, 10, 11]
        assert progress_of(folder).is_finished
        run = open_run(config)
        assert run.config.pipeline.model.experts == (folder / "config.yml",)
        for each in (run, open_run(folder)):
            assert each.config.pipeline.datamanager.dataparser.frames == (0, 4)
            assert each.config.pipeline.datamanager.val_cameras == (3,)

    def test_a_record_without_its_checkpoint_is_not_finished(self, tiny_runs: TinyRuns, tmp_path):
        folder = shutil.copytree(tiny_runs.config("moegs-stg").parent, tmp_path / "run")
        assert progress_of(folder).is_finished
        (checkpoint,) = (folder / "nerfstudio_models").iterdir()
        checkpoint.rename(checkpoint.with_name("step-000000049.ckpt"))
        assert (progress_of(folder).steps, progress_of(folder).is_finished) == (50, False)
        shutil.rmtree(folder / "nerfstudio_models")
        assert progress_of(folder) == trainings.Progress(total=60)

    @pytest.mark.parametrize("word", ["sgt", "router"])
    def test_a_word_that_is_neither_run_nor_method(self, tiny_runs, tmp_path, typed_commands, word):
        with pytest.raises(ValueError, match=rf"'{word}' is neither; .*4dgaussians, .*, stg"):
            train_tiny("moegs-router", tiny_runs.scene, tmp_path, "--experts", "stg", word)
        assert not typed_commands and not list(tmp_path.rglob("config.yml"))

    def test_the_name_of_the_parser_among_the_words(self):
        """What tyro before 1.0 makes of `--experts stg n3v-data`."""
        with pytest.raises(ValueError, match=r"'n3v-data' is neither.*was read as an expert"):
            expert_source("n3v-data")

    def test_a_lonely_plus(self):
        with pytest.raises(ValueError, match=r"'\+' is neither"):
            expert_source("+")

    def test_a_training_that_fails(self, tiny_runs, tmp_path, monkeypatch):
        monkeypatch.setattr(trainings, "run_module", lambda *_: 3)
        with pytest.raises(RuntimeError, match=r"Training moegs-stg in .* \(exit status 3\)"):
            train_tiny("moegs-router", tiny_runs.scene, tmp_path, "--experts", "stg")
        assert not list(tmp_path.rglob("training.json"))

    def test_what_was_finished_before_a_failure_is_told(self, tmp_path, monkeypatch):
        processes = FakeProcesses(monkeypatch, failing=[6])
        options = {"options": (), "output_dir": tmp_path}
        jobs = [replace(TEMPLATE, seed=seed, **options) for seed in (5, 6, 7)]
        monkeypatch.setattr("moegs_ns.models.missing_experts.progress_of", processes.progress_of)
        monkeypatch.setattr(
            trainings, "run_module", lambda words, *_: processes.run(words, log=tmp_path / "log")
        )
        with pytest.raises(RuntimeError, match=r"^Two: .*\(exit status 1\).*") as error:
            train_in_order(zip(jobs, ("One", "Two", "Three"), strict=True))
        assert str(error.value).endswith("Finished and kept: moegs-stg (seed 5).")
        assert processes.ended == [5, 6]

    def test_an_expert_budget_of_nothing(self, tiny_runs, tmp_path, typed_commands):
        with pytest.raises(ValueError, match=r"--expert-budget expects .* above 0, got 0"):
            train_tiny(
                "moegs-router", tiny_runs.scene, tmp_path, "--experts", "stg",
                "--expert-budget", "0",
            )  # fmt: skip


@pytest.mark.slow
def test_one_command_trains_both_stages_in_processes(tiny_runs: TinyRuns, tmp_path: Path):
    command = [sys.executable, "-W", "ignore", "-m", "nerfstudio.scripts.train", "moegs-router"]
    options = ["--experts", "stg", "4dgaussians", "--expert-budget", "0.001", "--budget", "0.002"]
    place = ["--output-dir", "out", "--vis", "tensorboard", "--data", str(tiny_runs.scene)]
    done = None
    for _ in range(2):
        done = subprocess.run(
            [*command, *options, *place, "n3v-data"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert done is not None
    printed = " ".join(done.stdout.split())  # long paths wrap lines anywhere
    assert "Expert 2 of 2" in printed and "is finished" in printed, printed[-2000:]
    runs = sorted((tmp_path / "out" / "scene").glob("*/*/training.json"))
    methods = [path.parent.parent.name for path in runs]
    assert methods == ["moegs-4dgaussians", "moegs-router", "moegs-router", "moegs-stg"]
