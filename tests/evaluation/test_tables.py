"""Files of results: what stands in them, cell by cell."""

import json
import math
import os
import platform
import subprocess
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from moegs_ns.evaluation import tables
from moegs_ns.evaluation.tables import PACKAGES, commit, hardware, markdown_table, write_results


def test_a_markdown_table_has_the_columns_of_all_rows_in_order():
    rows = [{"a": 1, "b": 2.0}, {"c": "x", "b": None}, {"a": 123456789, "b": 0.123456}]
    assert markdown_table(rows).splitlines() == [
        "| a | b | c |",
        "| --- | --- | --- |",
        "| 1 | 2 | - |",
        "| - | - | x |",
        "| 123456789 | 0.1235 | - |",
    ]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine and a checkout whose names are known."""
    monkeypatch.setenv("MOEGS_COMMIT", "abc1234")
    monkeypatch.setattr(tables, "hardware", lambda: "a machine")


@pytest.mark.usefixtures("here")
class TestFiles:
    def test_both_say_what_made_them_and_where(self, tmp_path: Path):
        path = tmp_path / "table.json"
        write_results(path, [{"psnr": 20.5, "name": "x"}], "moegs report A")
        content = json.loads(path.read_text())
        today = datetime.now(timezone.utc).date().isoformat()
        versions = content.pop("versions")
        assert content == {
            "command": "moegs report A", "hardware": "a machine", "commit": "abc1234",
            "date": today, "rows": [{"psnr": 20.5, "name": "x"}],
        }  # fmt: skip
        assert versions.keys() == {*PACKAGES, "python"}
        assert versions["torch"] == version("torch")
        assert versions["python"] == platform.python_version()
        assert path.read_text().startswith('{\n "command"') and path.read_text().endswith("}\n")
        assert path.with_suffix(".md").read_text() == (
            f"`moegs report A`  \na machine, commit abc1234, {today}\n\n"
            "| psnr | name |\n| --- | --- |\n| 20.5 | x |\n"
        )
        assert sorted(one.name for one in tmp_path.iterdir()) == ["table.json", "table.md"]

    @pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
    def test_what_is_missing_is_null_and_has_a_reason(self, tmp_path: Path, value: Any):
        path = tmp_path / "table.json"
        with pytest.raises(ValueError, match=r"^The figures \['psnr'\] of .* say why under 'reaso"):
            write_results(path, [{"psnr": value, "reason": ""}], "c")
        with pytest.raises(ValueError, match=r"\['psnr'\]"):
            write_results(path, [{"ssim": 0.5}, {"psnr": value, "reason": None}], "c")
        assert not list(tmp_path.iterdir())
        write_results(path, [{"psnr": value, "reason": "why"}, {"psnr": 1, "reason": None}], "c")
        rows = json.loads(path.read_text())["rows"]
        assert rows == [{"psnr": None, "reason": "why"}, {"psnr": 1, "reason": None}]

    def test_a_package_that_is_not_there_has_no_version(self, tmp_path: Path, monkeypatch):
        monkeypatch.setattr(tables, "PACKAGES", ("torch", "no-such-package"))
        write_results(tmp_path / "table.json", [], "c")
        versions = json.loads((tmp_path / "table.json").read_text())["versions"]
        assert versions["no-such-package"] is None and versions["torch"] == version("torch")

    def test_a_place_that_cannot_be_written_has_a_sentence(self, tmp_path: Path):
        (tmp_path / "file").touch()
        with pytest.raises(OSError, match=r"table.*name another place for it"):
            write_results(tmp_path / "file" / "table.json", [], "c")
        (tmp_path / "other.md").mkdir()
        with pytest.raises(OSError, match=r"\btable\b.*name another place for it"):
            write_results(tmp_path / "other.json", [], "c")


def test_a_commit_is_that_of_the_checkout(monkeypatch):
    monkeypatch.delenv("MOEGS_COMMIT", raising=False)
    seen: list[Any] = []

    def git(command: list[str], **options: Any) -> str:
        seen.append((command, options))
        return "1234abc+\n"

    monkeypatch.setattr(subprocess, "check_output", git)
    assert commit() == "1234abc+"
    command, options = seen[0]
    assert command == ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    assert options == {
        "cwd": Path(tables.__file__).parent, "stderr": subprocess.DEVNULL, "text": True
    }  # fmt: skip
    for error in (OSError("no git"), subprocess.CalledProcessError(128, "git")):
        monkeypatch.setattr(subprocess, "check_output", raising(error))
        assert commit() == "unknown"
    monkeypatch.setenv("MOEGS_COMMIT", "given")
    assert commit() == "given"


def raising(error: Exception) -> Any:
    def raise_it(*args: Any, **options: Any) -> None:
        raise error

    return raise_it


def test_hardware_is_the_device_that_computes(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    assert hardware() == "a GPU, 7 CPU cores"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    info = tmp_path / "cpuinfo"
    places = {"/proc/cpuinfo": info}
    monkeypatch.setattr(tables, "Path", lambda name: places[name])
    info.write_text("processor\t: 0\nmodel name\t:  a CPU \nmodel name\t: another\n")
    assert hardware() == "a CPU, 7 CPU cores"
    for text in ("processor\t: 0\n", None):
        if text is None:
            info.unlink()
        else:
            info.write_text(text)
        monkeypatch.setattr(platform, "processor", lambda: "a chip")
        assert hardware() == "a chip, 7 CPU cores"
        monkeypatch.setattr(platform, "processor", lambda: "")
        monkeypatch.setattr(platform, "machine", lambda: "arm")
        assert hardware() == "arm, 7 CPU cores"
