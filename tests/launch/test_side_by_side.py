"""Trainings side by side: how many at once, failures, and two commands that want one run."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fake_processes import FakeProcesses
from filelock import FileLock
from training_helpers import TEMPLATE

from moegs_ns.launch import jobs as trainings
from moegs_ns.launch.executors import LocalExecutor
from moegs_ns.launch.jobs import TrainingJob, reason_in, train
from moegs_ns.launch.locks import COMMAND_LOCK, TRAINING_LOCK


class TestSideBySide:
    def make(self, tmp_path: Path, count: int) -> list[TrainingJob]:
        return [replace(TEMPLATE, seed=seed, output_dir=tmp_path) for seed in range(count)]

    @pytest.mark.parametrize(("at_once", "gpus", "most"), [(1, 0, 1), (2, 0, 2), (2, 2, 4)])
    def test_as_many_at_a_time_as_there_are_places(
        self, tmp_path, monkeypatch, at_once, gpus, most
    ):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        processes, ended = FakeProcesses(monkeypatch), []
        LocalExecutor(at_once).train_all(
            self.make(tmp_path, 6), lambda training, seconds: ended.append(training.seed)
        )
        assert processes.most == most and sorted(ended) == list(range(6))
        assert set(processes.places) == set(range(most))

    def test_a_failure_leaves_the_others_and_shows_its_log(self, tmp_path, monkeypatch):
        processes = FakeProcesses(monkeypatch, failing=[1])
        made = self.make(tmp_path, 4)
        with pytest.raises(RuntimeError, match=r"exit status 1.*go on.*\n?why it failed") as error:
            LocalExecutor().train_all(made)
        assert str(made[1].folder) in str(error.value)
        assert sorted(processes.ended) == [0, 1, 2, 3]

    def test_a_failure_is_told_at_once(self, tmp_path, monkeypatch, capsys):
        """Not when the others have ended; those that are kept are named at the end."""
        processes, told = FakeProcesses(monkeypatch, failing=[0]), []
        made = self.make(tmp_path, 3)
        with pytest.raises(RuntimeError, match=r"1 of 3 trainings failed; finished and") as error:
            LocalExecutor().train_all(made, lambda *_: told.append(capsys.readouterr().out))
        assert f"{made[0].label} failed, the others go on: Training" in told[0]
        assert told[0].rstrip().endswith("why it failed")
        assert f"kept: {made[1].label}, {made[2].label}.\n" in str(error.value)
        assert processes.ended == [0, 1, 2]

    @pytest.mark.parametrize(
        ("log", "reason"),
        [
            ("[1]\nTraceback:\nValueError: Expected a.\nmore\n", "ValueError: Expected a."),
            ("Error: Expected b.\n\n", "Error: Expected b."),
            ("torch.cuda.OutOfMemoryError: all\n", "torch.cuda.OutOfMemoryError: all"),
            ("Killed\n", "Killed"),
            ("", "it said nothing"),
        ],
    )
    def test_the_reason_is_the_last_error_of_this_session(self, tmp_path, log, reason):
        before = "ValueError: of the session before\n"
        (tmp_path / "log").write_text(before + log)
        assert reason_in(tmp_path / "log", len(before)) == reason

    def test_a_training_that_only_says_that_it_went_well(self, tmp_path: Path, monkeypatch):
        monkeypatch.setattr(trainings, "run_module", lambda *_: 0)
        with pytest.raises(RuntimeError, match=r"before its last step \(exit status 0\)"):
            train(replace(TEMPLATE, output_dir=tmp_path))

    def test_a_run_that_two_commands_want_is_trained_once(self, tmp_path, monkeypatch):
        processes = FakeProcesses(monkeypatch)
        LocalExecutor(2).train_all(self.make(tmp_path, 1) * 2)
        assert processes.ended == [0] and processes.most == 1

    @pytest.mark.parametrize(
        ("lock", "what"),
        [(COMMAND_LOCK, "another command"), (TRAINING_LOCK, "a training that is under way")],
    )
    def test_the_second_command_says_that_it_waits(self, tmp_path, monkeypatch, capsys, lock, what):
        processes = FakeProcesses(monkeypatch)
        (wanted,) = self.make(tmp_path, 1)
        wanted.folder.mkdir(parents=True)
        second = threading.Thread(target=train, args=(wanted, 0, wanted.folder / "log"))
        with FileLock(wanted.folder / lock):
            second.start()
            said, deadline = "", time.monotonic() + 20
            while f"Waiting for {what}" not in said and time.monotonic() < deadline:
                time.sleep(0.01)
                said += capsys.readouterr().out
            assert str(wanted.folder) in said and not processes.ended
        second.join()
        assert processes.ended == [0]

    def test_a_failure_lets_the_next_command_in(self, tmp_path, monkeypatch):
        (wanted,) = self.make(tmp_path, 1)
        FakeProcesses(monkeypatch, failing=[0])
        with pytest.raises(RuntimeError, match="exit status 1"):
            train(wanted, log=wanted.folder / "log")
        processes = FakeProcesses(monkeypatch)
        train(wanted, log=wanted.folder / "log")
        assert processes.ended == [0]
