"""NVIDIA's MPS is started for trainings that share a GPU, by a program that stands for its own."""

import os
import stat
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fake_processes import FakeProcesses
from training_helpers import TEMPLATE

from moegs_ns.launch import mps
from moegs_ns.launch.executors import LocalExecutor
from moegs_ns.launch.jobs import TrainingJob
from moegs_ns.launch.mps import PLACES, can_compute, mps_daemon, shared_gpus

CONTROL = """#!{python}
import os, sys
text = "-d" if sys.argv[1:] == ["-d"] else sys.stdin.read().strip()
own = "own" if "moegs-mps-" in os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "") else "theirs"
gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
with open("{calls}", "a") as calls:
    calls.write(text + " " + own + " " + gpus + "\\n")
sys.exit(text in {failing})
"""


@pytest.fixture
def control(tmp_path: Path, monkeypatch) -> Callable[..., Path]:
    """Puts the program on PATH, which notes its calls in a file and fails at some; two GPUs."""

    def install(*failing: str) -> Path:
        program, calls = tmp_path / "bin" / mps.CONTROL, tmp_path / "calls"
        program.parent.mkdir()
        program.write_text(CONTROL.format(python=sys.executable, calls=calls, failing=failing))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
        calls.touch()
        return calls

    for name in PLACES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    monkeypatch.setattr(mps, "can_compute", lambda variables: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    return install


NONE_RUNS = "get_server_list"
ASKED = "get_server_list theirs 1,0"
STARTED, ENDED = "-d own all", "quit own all"


def made(tmp_path: Path, count: int = 3) -> list[TrainingJob]:
    return [replace(TEMPLATE, seed=seed, output_dir=tmp_path) for seed in range(count)]


def lines(calls: Path) -> list[str]:
    return calls.read_text().splitlines()


class TestTrainingsThatShareAGpu:
    def test_are_clients_of_a_daemon_that_ends_with_them(self, control, tmp_path, monkeypatch):
        calls, processes = control(NONE_RUNS), FakeProcesses(monkeypatch)
        LocalExecutor(2, mps=True).train_all(made(tmp_path))
        assert lines(calls) == [ASKED, STARTED, ENDED]
        assert all(set(variables) == set(PLACES) for variables in processes.variables)
        (folder,) = {text for variables in processes.variables for text in variables.values()}
        assert len(processes.variables) == 3 and not Path(folder).exists()

    def test_this_process_is_no_client(self, control):
        control(NONE_RUNS)
        with shared_gpus() as variables:
            assert variables and not set(PLACES) & set(os.environ)

    def test_the_daemon_ends_with_trainings_that_fail(self, control, tmp_path, monkeypatch):
        calls = control(NONE_RUNS)
        FakeProcesses(monkeypatch, failing=[0, 1, 2])
        with pytest.raises(RuntimeError, match="3 of 3 trainings failed"):
            LocalExecutor(2, mps=True).train_all(made(tmp_path))
        assert lines(calls) == [ASKED, STARTED, ENDED]

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
    def test_the_daemon_ends_with_an_interruption(self, control, error):
        calls = control(NONE_RUNS)
        with pytest.raises(error), shared_gpus():
            raise error
        assert lines(calls) == [ASKED, STARTED, ENDED]

    def test_a_daemon_of_somebody_else_is_left_alone(self, control, tmp_path, monkeypatch):
        calls, processes = control(), FakeProcesses(monkeypatch)
        LocalExecutor(2, mps=True).train_all(made(tmp_path))
        assert lines(calls) == [ASKED]
        assert processes.variables == [{}] * 3

    def test_a_daemon_that_does_not_start_costs_no_training(
        self, control, tmp_path, monkeypatch, capsys
    ):
        calls, processes = control(NONE_RUNS, "-d"), FakeProcesses(monkeypatch)
        LocalExecutor(2, mps=True).train_all(made(tmp_path))
        assert lines(calls) == [ASKED, STARTED]
        assert processes.variables == [{}] * 3
        assert "share GPUs without MPS: Expected NVIDIA's MPS to start" in capsys.readouterr().out

    def test_a_daemon_whose_clients_cannot_compute_is_ended(
        self, control, tmp_path, monkeypatch, capsys
    ):
        """As in a container that does not let them reach it."""
        calls, processes = control(NONE_RUNS), FakeProcesses(monkeypatch)
        monkeypatch.setattr(mps, "can_compute", lambda variables: False)
        LocalExecutor(2, mps=True).train_all(made(tmp_path))
        assert lines(calls) == [ASKED, STARTED, ENDED]
        assert processes.variables == [{}] * 3
        assert "its clients cannot compute here" in capsys.readouterr().out


class TestNothingIsStarted:
    @pytest.mark.parametrize(
        ("executor", "count", "gpus"),
        [
            (LocalExecutor(1, mps=True), 3, 2),
            (LocalExecutor(2, mps=False), 3, 2),
            (LocalExecutor(2, mps=True), 1, 2),
            (LocalExecutor(2, mps=True), 3, 0),
        ],
        ids=["one at a time", "off", "one training", "the CPU"],
    )
    def test_where_no_gpu_is_shared(self, control, tmp_path, monkeypatch, executor, count, gpus):
        calls = control(NONE_RUNS)
        FakeProcesses(monkeypatch)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        executor.train_all(made(tmp_path, count))
        assert lines(calls) == []

    def test_without_the_program(self, monkeypatch):
        monkeypatch.setenv("PATH", "/nowhere")
        with shared_gpus() as variables:
            assert variables == {}
        with pytest.raises(RuntimeError, match="MPS to start, but `nvidia-cuda-mps-control -d`"):
            mps_daemon().__enter__()


def test_a_first_client_tells_whether_clients_can_compute(monkeypatch):
    monkeypatch.setattr(mps, "FIRST_CLIENT", f"import os; os.environ['{PLACES[0]}']")
    assert can_compute({PLACES[0]: "somewhere"})
    assert not can_compute({})


@pytest.mark.gpu
def test_a_client_computes_on_a_gpu():
    assert can_compute({})
