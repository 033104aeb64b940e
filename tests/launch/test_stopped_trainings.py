"""Real trainings in processes that are stopped by signals."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import TinyRuns

FOLDER = "nerfstudio_models"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_training_says_how_to_go_on(
    tiny_runs: TinyRuns, tmp_path: Path, number: signal.Signals
):
    """In one sentence, with the exit status of shells; meanwhile no other trains in its folder."""
    folder = tmp_path / "out" / "runs" / "moegs-stg" / "first"
    command = [sys.executable, "-W", "ignore", "-m", "nerfstudio.scripts.train", "moegs-stg"]
    place = ["--output-dir", "out", "--experiment-name", "runs", "--timestamp", "first"]
    options = ["--steps-per-save", "5", "--vis", "tensorboard", "--data", str(tiny_runs.scene)]
    whole = [*command, *place, *options, "n3v-data"]
    process = subprocess.Popen(
        whole, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # noqa: PLW1509
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(folder.glob(f"{FOLDER}/*.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.1)
    load = ["--load-dir", str(folder / FOLDER)]
    second = subprocess.run(
        [*command, *load, *place, *options, "n3v-data"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert second.returncode == 1
    assert "Another training is under way in" in second.stderr
    process.send_signal(number)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number, errors
    assert "Traceback" not in said + errors
    (sentence,) = [line for line in errors.splitlines() if line.startswith("Stopped by ")]
    assert sentence.startswith(f"Stopped by {number.name}. ")
    assert sentence.endswith(f"with --load-dir {folder / FOLDER} goes on from there.")
    assert not [path for path in folder.iterdir() if path.name.startswith(".writing-")]
