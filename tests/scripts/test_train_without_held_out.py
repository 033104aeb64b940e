"""`moegs train` on a scene that holds no camera out ends well, and says what is missing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rig_helpers import rig_scene


@pytest.mark.slow
def test_all_cameras_are_trained_on(tmp_path: Path):
    scene = rig_scene(tmp_path / "scene")
    command = [sys.executable, "-W", "ignore", "-m", "moegs_ns.scripts.main", "train"]
    options = ["--experts", "stg", "4dgaussians", "--expert-budget", "0.001"]
    options += ["--router-budget", "0.001", "--output-path", "table.json", "--data", str(scene)]
    done = subprocess.run(
        [*command, *options, "rig-data", "--num-random-points", "200"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    printed = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 0, printed[-3000:]
    assert "There is nothing to score: all evaluation images of the data (4)" in printed
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert [row["method"] for row in rows] == ["moegs-stg", "moegs-4dgaussians", "moegs-router"]
    for row in rows:
        assert row["psnr"] is None and "nothing is held out" in row["reason"]
        assert row["gaussians"] > 0 and row["fps"] > 0 and row["train_seconds"] > 0
