"""Threads that wait for each other must not spin, however a command is started."""

import os
import subprocess
import sys

import pytest
import torch

from moegs_ns.launch import nerfstudio_commands
from moegs_ns.launch.cli_args import replaced_argv

POLICY = "import os, {first}, {second}; print(os.environ.get('OMP_WAIT_POLICY'))"
COMMANDS = {
    "a library, before torch": ["-c", POLICY.format(first="moegs_ns", second="torch")],
    "the moegs command": ["-m", "moegs_ns.scripts.main", "--version"],
    "nerfstudio's command": ["-m", "nerfstudio.scripts.eval", "--load-config", "missing.yml"],
}
REPORT = """
import atexit, os, sys
sys.addaudithook(lambda event, args: event == "os.exec" and print("AGAIN", file=sys.stderr))
atexit.register(lambda: print("POLICY", os.environ.get("OMP_WAIT_POLICY"), file=sys.stderr))
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_ends_with_threads_that_sleep(command: str, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(REPORT)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    del environment["OMP_WAIT_POLICY"]
    done = subprocess.run(
        [sys.executable, *COMMANDS[command]],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr.count("POLICY PASSIVE") == 1
    is_late = command.startswith("nerfstudio") and not torch.cuda.is_available()
    assert done.stderr.count("AGAIN") == is_late, "only where torch was there already"


def test_a_policy_that_the_user_has_set_stays(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.setattr(os, "execv", pytest.fail)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    nerfstudio_commands.start_again_without_spinning()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


def test_help_does_not_wait_for_a_second_import(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setattr(os, "execv", pytest.fail)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with replaced_argv(["/usr/bin/ns-train", "moegs-stg", "--help"]):
        nerfstudio_commands.start_again_without_spinning()
    assert "OMP_WAIT_POLICY" not in os.environ


@pytest.mark.parametrize("has_gpu", [True, False])
def test_the_command_is_started_again_as_it_was(monkeypatch, has_gpu: bool):
    started: list[list[str]] = []
    monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setattr(sys, "orig_argv", ["python3", "-X", "dev", "/usr/bin/ns-eval", "--x"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(os, "execv", lambda path, words: started.append([path, *words[1:]]))
    with replaced_argv(["/usr/bin/ns-eval", "--x"]):
        nerfstudio_commands.start_again_without_spinning()
    again = [sys.executable, "-X", "dev", "/usr/bin/ns-eval", "--x"]
    assert started == ([] if has_gpu else [again])
    assert os.environ.get("OMP_WAIT_POLICY") == (None if has_gpu else "PASSIVE")
