"""What a machine of a cluster does with a training, without Ray."""

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from training_helpers import TEMPLATE

from moegs_ns.data.dataparsers.n3v import N3VDataParserConfig
from moegs_ns.launch import cluster_task, ray_executor
from moegs_ns.launch.cluster_task import (
    ClusterTask,
    ProgressLines,
    TrainingKilledError,
    last_step,
    task_of,
    train_here,
)
from moegs_ns.launch.jobs import LOG, Progress
from moegs_ns.launch.processes import PARENT
from moegs_ns.scripts.train import Train


@pytest.fixture
def task(tmp_path: Path, monkeypatch) -> ClusterTask:
    """The task of a run that has a mark in its folder."""
    monkeypatch.chdir(tmp_path)
    training = replace(TEMPLATE, output_dir=tmp_path)
    training.folder.mkdir(parents=True)
    mark = training.folder / ".shared"
    mark.touch()
    return task_of(training, mark)


class Process:
    """Stands for the training's process, which ends with a status."""

    def __init__(self, monkeypatch, status: int = 0) -> None:
        self.status = status
        self.environments: list[dict[str, str]] = []
        monkeypatch.setattr(cluster_task, "run_process", self.run)

    def run(self, words: list[str], environment: dict[str, str], log: Path, look: Callable) -> int:
        assert words[:2] == ["nerfstudio.scripts.train", "moegs-stg"]
        self.environments.append(environment)
        log.write_text("10 (8.33%)  1 ms\n20 (16.67%)  1 ms\n")
        look()
        return self.status


class TestAMachine:
    def test_tells_how_far_it_is(self, task, monkeypatch, capsys):
        process = Process(monkeypatch)
        assert train_here(task) == 0
        first, second = capsys.readouterr().out.splitlines()
        assert first == f"{task.training.label} on {task.host}: begins"
        assert second == f"{task.training.label} on {task.host}: step 20"
        assert len(process.environments) == 1

    def test_goes_on_from_the_last_checkpoint(self, task, monkeypatch, capsys):
        Process(monkeypatch)
        monkeypatch.setattr(
            cluster_task, "progress_of", lambda folder: Progress(1200, 3000, folder / "x.ckpt")
        )
        train_here(task)
        first, second = capsys.readouterr().out.splitlines()
        assert first.endswith(": goes on from step 1,200") and second.endswith("step 20 of 3,000")

    def test_does_nothing_for_a_finished_run(self, task, monkeypatch):
        process = Process(monkeypatch)
        monkeypatch.setattr(cluster_task, "progress_of", lambda _: Progress(is_finished=True))
        assert train_here(task) == 0 and not process.environments

    def test_a_killed_training_may_be_tried_elsewhere(self, task, monkeypatch):
        Process(monkeypatch, -signal.SIGKILL)
        with pytest.raises(TrainingKilledError, match="was killed on"):
            train_here(task)

    def test_another_end_is_handed_on(self, task, monkeypatch):
        Process(monkeypatch, 1)
        assert train_here(task) == 1

    def test_that_does_not_see_the_folder(self, task):
        task.mark.unlink()
        with pytest.raises(OSError, match="all machines of the cluster share") as error:
            train_here(task)
        assert str(task.training.folder) in str(error.value)

    def test_with_another_version(self, task):
        with pytest.raises(RuntimeError, match=r"Expected moegs_ns 0\.0\.1, as on .*; install"):
            train_here(replace(task, version="0.0.1"))

    def test_gets_what_the_command_was_told(self, task, monkeypatch):
        """But neither the threads that Ray deals out nor the command's own parent."""
        monkeypatch.setenv("MOEGS_CUDA_GRAPHS", "0")
        monkeypatch.setenv(PARENT, "1")
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        told = task_of(task.training, task.mark)
        monkeypatch.delenv("MOEGS_CUDA_GRAPHS")
        monkeypatch.setenv("OMP_NUM_THREADS", "7")
        assert PARENT not in told.variables
        process = Process(monkeypatch)
        train_here(told)
        (environment,) = process.environments
        assert environment["MOEGS_CUDA_GRAPHS"] == "0" and "OMP_NUM_THREADS" not in environment

    def test_works_where_the_command_was_given(self, task, tmp_path, monkeypatch):
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        Process(monkeypatch)
        train_here(task)
        assert Path.cwd() == tmp_path


class TestProgressLines:
    def test_only_of_this_try_and_only_if_it_has_come_further(self, tmp_path, monkeypatch, capsys):
        training = replace(TEMPLATE, output_dir=tmp_path)
        training.folder.mkdir(parents=True)
        log = training.folder / LOG
        log.write_text("90 (75.00%)  of an earlier try\n")
        monkeypatch.setattr(cluster_task, "SECONDS_BETWEEN_LINES", 0.0)
        lines = ProgressLines(training)
        lines.look()
        with log.open("a") as file:
            file.write("30 (25.00%)  1 ms\n")
        lines.look()
        lines.look()
        assert capsys.readouterr().out.count("step 30") == 1

    def test_the_last_step_of_a_long_log(self, tmp_path):
        log = tmp_path / "log"
        log.write_text("".join(f"{step} (1.00%)   0.1\n" for step in range(5000)))
        assert last_step(log) == 4999
        log.write_text("nothing yet\n")
        assert last_step(log) is None


@pytest.mark.parametrize("option", ["local", "auto"])
def test_without_ray_one_sentence_says_what_to_install(monkeypatch, option: str):
    monkeypatch.setattr(ray_executor, "find_spec", lambda name: None)
    command = Train(N3VDataParserConfig(), ("stg",), ray=option)
    with pytest.raises(ImportError, match=r"run `pip install moegs_ns\[cluster\]`"):
        command.main()
