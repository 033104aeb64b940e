"""A demo into a folder that holds one goes on with it, and never mixes two."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from moegs_ns.launch.jobs import Progress
from moegs_ns.scripts import demo
from moegs_ns.scripts.demo import Demo


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What is given to ns-train, in a folder with a run of budget 0.03."""
    given: list[list[str]] = []
    checkpoint = tmp_path / "models" / "step-000000009.ckpt"
    model = SimpleNamespace(budget=0.03)
    config = SimpleNamespace(pipeline=SimpleNamespace(model=model))
    monkeypatch.setattr(demo, "progress_of", lambda folder: Progress(10, 20, checkpoint))
    monkeypatch.setattr(demo, "read_config", lambda path: config)
    monkeypatch.setattr(demo, "run_nerfstudio", lambda script, args: given.append(args))
    return given


def test_it_goes_on(tmp_path: Path, commands):
    Demo(tmp_path).train("moegs-stg", tmp_path / "scene", 0, ["--budget", "0.03"])
    (args,) = commands
    assert args[args.index("--load-dir") + 1] == str(tmp_path / "models")


def test_another_budget_needs_another_folder(tmp_path: Path, commands):
    with pytest.raises(ValueError, match=r"was trained there with another than 0\.06; name"):
        Demo(tmp_path).train("moegs-stg", tmp_path / "scene", 0, ["--budget", "0.06"])
    assert not commands
