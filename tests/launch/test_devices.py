"""A run trained on one kind of device opens on the other."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def command(module: str, *arguments: str, device: str) -> None:
    """One of nerfstudio's commands as a process that sees a GPU or none."""
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {})
    line = [sys.executable, "-W", "ignore", "-m", f"nerfstudio.scripts.{module}", *arguments]
    subprocess.run(line, check=True, env=environment)


@pytest.mark.gpu
@pytest.mark.data
@pytest.mark.slow
def test_runs_open_on_the_other_kind_of_device(data_dir: Path, tmp_path: Path):
    if not (data_dir / "panoptic_basketball" / "train_meta.json").is_file():
        pytest.skip(f"needs panoptic_basketball in {data_dir}")
    for trained_on, opened_on in (("cuda", "cpu"), ("cpu", "cuda")):
        command(
            "train", "moegs-stg", "--max-num-iterations", "6", "--vis", "tensorboard",
            "--steps-per-eval-image", "0", "--output-dir", str(tmp_path), "--experiment-name", "e",
            "--timestamp", trained_on, "--pipeline.datamanager.frame-store-dir",
            str(tmp_path / "frames"), "--data", str(data_dir / "panoptic_basketball"),
            "panoptic-data", "--frames", "0", "0", "--downscale-factor", "8", "--min-points", "10",
            "--points-file", "init_sift_t0.npz", device=trained_on,
        )  # fmt: skip
        config = tmp_path / "e" / "moegs-stg" / trained_on / "config.yml"
        scores = []
        for device in (trained_on, opened_on):
            output = tmp_path / f"{trained_on}_{device}.json"
            options = ["--load-config", str(config), "--output-path", str(output)]
            command("eval", *options, device=device)
            scores.append(json.loads(output.read_text())["results"]["psnr"])
        assert scores[0] == pytest.approx(scores[1], abs=0.01)
