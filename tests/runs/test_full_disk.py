"""A disk that fills: what was there stays, nothing half-written is left, one sentence."""

import errno
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from moegs_ns.launch.cli_args import replaced_argv
from moegs_ns.launch.nerfstudio_commands import end_in_a_sentence
from moegs_ns.runs.checkpoint import Run
from moegs_ns.runs.stored_responsibilities import store_responsibilities

FULL = OSError(errno.ENOSPC, "No space left on device")


def test_responsibilities_that_cannot_be_kept(tmp_path: Path, monkeypatch):
    checkpoint = tmp_path / "models" / "step-000000001.ckpt"
    checkpoint.parent.mkdir()
    torch.save({"step": 1, "pipeline": {"_model.x": torch.zeros(3)}}, checkpoint)
    before = checkpoint.read_bytes()

    def fill(content, path):
        Path(path).write_bytes(b"half")
        raise FULL

    run = Run(tmp_path / "config.yml", SimpleNamespace(), checkpoint)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", fill)
        with pytest.raises(OSError, match=r"cannot be stored in .*, which is as it was; make room"):
            store_responsibilities(run, [torch.ones(2)])
    assert checkpoint.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["models"]
    store_responsibilities(run, [torch.ones(2)])
    stored = torch.load(checkpoint, weights_only=True)["pipeline"]
    assert torch.equal(stored["_model.responsibilities.0"], torch.ones(2))


@pytest.mark.parametrize("is_whole", [False, True])
def test_ns_eval_leaves_no_half_results(tmp_path: Path, monkeypatch, capsys, is_whole: bool):
    monkeypatch.setenv("MOEGS_TRACEBACK", "0")
    path = tmp_path / "scores.json"
    path.write_text(json.dumps({"results": {}}) if is_whole else '{"results": {')
    with replaced_argv(["/usr/bin/ns-eval", "--load-config", "c", "--output-path", str(path)]):
        end_in_a_sentence(OSError, FULL, None)
    said = capsys.readouterr().err
    assert said.startswith("Error: The disk is full (No space left on device); make room, then")
    assert "Traceback" not in said and path.exists() == is_whole


def test_other_commands_delete_nothing(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setenv("MOEGS_TRACEBACK", "0")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "output.json").write_text("{ half")
    with replaced_argv(["/usr/bin/ns-train"]):
        end_in_a_sentence(OSError, FULL, None)
    assert (tmp_path / "output.json").exists()
