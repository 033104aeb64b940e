"""Trainings in a Ray of this machine: lost workers, failures, interruptions."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from moegs_ns.demo.scene import write_demo_scene
from moegs_ns.launch.executors import LocalExecutor
from moegs_ns.launch.jobs import TrainingJob, progress_of
from moegs_ns.launch.ray_executor import ray_executor
from moegs_ns.runs.checkpoint import load_checkpoint, newest_checkpoint
from moegs_ns.runs.checkpoint_files import saved_steps

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
CHECKPOINTS = "nerfstudio_models"
PRESTART = "RAY_enable_worker_prestart"
"""Ray's own spelling."""


def job(scene: Path, output: Path) -> TrainingJob:
    """180 steps of a few hundred Gaussians, with a checkpoint every ten."""
    return TrainingJob(
        "moegs-stg", (), scene, ("n3v-data",), 0.006, 0, output, "runs",
        without_effect=(
            "--vis", "tensorboard", "--steps-per-eval-image", "0", "--steps-per-save", "10",
        ),
    )  # fmt: skip


def processes_of(folder: Path) -> dict[int, int]:
    """Ids of the processes that train into a folder, with those of their parents."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text()
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if str(folder) in words and "nerfstudio.scripts.train" in words and fields[0] != "Z":
            found[int(process.name)] = int(fields[1])
    return found


def wait_for(condition, seconds: float = 240.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def kill_twice(training: TrainingJob, kills: list[str]) -> None:
    """Kill the worker of a training in its middle, and the training itself in its second try."""
    for what in ("worker", "training"):
        before = set(saved_steps(training.folder / CHECKPOINTS))

        def is_further(before: set[int] = before) -> bool:
            saved = set(saved_steps(training.folder / CHECKPOINTS))
            return bool(saved - before) and bool(processes_of(training.output_dir))

        if not wait_for(is_further):
            return
        (pid, parent), *_ = processes_of(training.output_dir).items()
        os.kill(parent if what == "worker" else pid, signal.SIGKILL)
        kills.append(what)
        wait_for(lambda pid=pid: pid not in processes_of(training.output_dir))


@dataclass(frozen=True)
class Trained:
    """A round of trainings in a Ray of this machine, and what was said of it."""

    whole: TrainingJob
    killed: TrainingJob
    failing: TrainingJob
    kills: list[str]
    ended: list[Path]
    error: str
    handler: object
    """Of SIGTERM, while this process was connected."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray") / "scene"
    write_demo_scene(folder, num_cameras=4, num_frames=3, width=32, height=24, num_points=300)
    return folder


@pytest.fixture(scope="module")
def trained(scene: Path) -> Iterator[Trained]:
    whole, killed, failing = (job(scene, scene.parent / name) for name in ("a", "b", "c"))
    failing = replace(failing, data=scene.parent / "missing")
    kills, ended, error = list[str](), list[Path](), ""
    with ExitStack() as stack:
        try:
            executor = stack.enter_context(ray_executor("local", 2))
        except RuntimeError as too_slow:
            pytest.skip(str(too_slow))
        killer = threading.Thread(target=kill_twice, args=(killed, kills), daemon=True)
        killer.start()
        handler = signal.getsignal(signal.SIGTERM)
        try:
            executor.train_all(
                [whole, killed, failing], lambda training, _: ended.append(training.folder)
            )
        except RuntimeError as raised:
            error = str(raised)
    killer.join()
    yield Trained(whole, killed, failing, kills, ended, error, handler)


def weights(training: TrainingJob) -> dict[str, torch.Tensor]:
    content = load_checkpoint(newest_checkpoint(training.folder / CHECKPOINTS))
    return {name: value for name, value in content["pipeline"].items() if torch.is_tensor(value)}


class TestTrained:
    def test_a_training_whose_machine_was_lost_is_that_of_an_uninterrupted_run(self, trained):
        """Bit by bit: its worker was killed in the middle, and then the training itself."""
        assert trained.kills == ["worker", "training"]
        assert progress_of(trained.killed.folder).is_finished
        one, other = weights(trained.whole), weights(trained.killed)
        assert one.keys() == other.keys() and len(one) > 3
        for name, value in one.items():
            assert torch.equal(value, other[name]), name

    def test_a_failure_is_told_by_name_and_the_others_finish(self, trained):
        assert set(trained.ended) == {trained.whole.folder, trained.killed.folder}
        assert trained.error.startswith("1 of 3 trainings failed; finished and kept: ")
        assert "Expected a scene folder" in trained.error
        assert str(trained.failing.folder) in trained.error

    def test_nothing_is_left_behind(self, trained):
        for training in (trained.whole, trained.killed, trained.failing):
            assert not processes_of(training.output_dir)
            assert not list(training.folder.glob(".shared-*"))

    def test_ray_takes_no_signal_from_the_command(self, trained):
        assert trained.handler == signal.getsignal(signal.SIGTERM)

    def test_a_finished_run_is_that_of_this_machine_alone(self, trained, tmp_path):
        """Where a run is trained changes nothing of it."""
        local = replace(trained.whole, output_dir=tmp_path)
        LocalExecutor().train_all([local])
        one, other = weights(trained.whole), weights(local)
        assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_an_interruption_leaves_no_processes(scene: Path, tmp_path: Path):
    """SIGTERM to the command, while a training runs and another waits for its place."""
    command = [
        sys.executable, "-W", "ignore", "-m", "moegs_ns.scripts.main", "train",
        "--experts", "stg", "stg", "--ray", "local", "--expert-budget", "0.1",
        "--train-options=--steps-per-save 10", "--output-dir", str(tmp_path / "out"),
        "--data", str(scene), "n3v-data",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path,
        preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL),  # noqa: PLW1509
    )  # fmt: skip
    started = wait_for(lambda: bool(list((tmp_path / "out").rglob("*.ckpt"))))
    running = processes_of(tmp_path)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=120)
    if "less busy" in said:
        pytest.skip(said[-300:])
    assert started and len(running) > 0, said
    assert process.returncode == 128 + signal.SIGTERM, said
    assert "Stopped by SIGTERM. Give the same command again: finished trainings are kept" in said
    assert "on " in said and ": begins" in said, said
    assert wait_for(lambda: not processes_of(tmp_path), 5.0)
    assert "Traceback" not in said


@pytest.mark.parametrize("error", ["ConnectionError", "RpcError"])
def test_no_cluster_at_an_address(monkeypatch, error: str):
    """What Ray raises without a cluster, and, after most of a minute, at a wrong address."""
    import ray
    from ray.exceptions import RpcError

    kind = {"ConnectionError": ConnectionError, "RpcError": RpcError}[error]

    def fail(**_: object) -> None:
        raise kind("nobody answers")

    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(ValueError, match=r"or the address of a .*, got 'host:1' \(nobody answers"):
        ray_executor("host:1", 1).__enter__()


@pytest.mark.parametrize("failures", [2, 3])
def test_a_ray_that_takes_too_long_to_start_is_started_anew(monkeypatch, failures: int):
    """As on a machine whose processors are busy; Ray raises a bare Exception then."""
    import ray

    tried: list[str] = []
    monkeypatch.delenv(PRESTART, raising=False)

    def init(address: str, **options) -> None:
        tried.append(address)
        assert os.environ[PRESTART] == "0"
        if len(tried) <= failures:
            raise Exception("The current node timed out during startup.")

    for name, stand_in in {
        "init": init, "shutdown": lambda: None, "nodes": list, "cluster_resources": dict
    }.items():  # fmt: skip
        monkeypatch.setattr(ray, name, stand_in)
    if failures == 2:
        with ray_executor("local", 4) as executor:
            assert executor.at_once == 4
    else:
        with (
            pytest.raises(RuntimeError, match=r"local .* timed out .* less busy"),
            ray_executor("local", 4),
        ):
            pass
    assert tried == ["local"] * 3
