"""The real demo, as `make demo` runs it, and nerfstudio's commands as subprocesses."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from tiny import TinyRuns

EXPERT_FLOOR = 23.5
"""dB on the held-out camera that every healthy expert reaches; see docs/status.md."""
MINUTES = 10


@pytest.mark.slow
def test_the_demo_is_sane_and_the_mixture_beats_its_experts(tmp_path: Path):
    started = time.perf_counter()
    command = [sys.executable, "-W", "ignore", "-m", "moegs_ns.scripts.main", "demo"]
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
    subprocess.run([*command, "--output-dir", str(tmp_path)], check=True, env=environment)
    assert time.perf_counter() - started < 60 * MINUTES
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    experts = [row["psnr"] for row in rows if row["kind"] == "expert"]
    (mixture,) = [row["psnr"] for row in rows if row["kind"] == "mixture"]
    assert len(experts) == 2 and min(experts) > EXPERT_FLOOR
    assert mixture > max(experts)
    assert (tmp_path / "orbit.mp4").stat().st_size > 10_000
    assert (tmp_path / "frozen_time.mp4").stat().st_size > 10_000


@pytest.mark.slow
def test_ns_eval_runs_as_a_process(tiny_runs: TinyRuns, tmp_path: Path):
    output = tmp_path / "out.json"
    command = [sys.executable, "-W", "ignore", "-m", "nerfstudio.scripts.eval"]
    options = ["--load-config", str(tiny_runs.router), "--output-path", str(output)]
    subprocess.run([*command, *options], check=True, cwd=tmp_path)
    assert json.loads(output.read_text())["results"]["psnr"] > 5.0


@pytest.mark.slow
def test_ns_viewer_serves_its_page(tiny_runs: TinyRuns, tmp_path: Path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "nerfstudio.scripts.viewer.run_viewer"]
    options = ["--load-config", str(tiny_runs.router), "--viewer.websocket-port", str(port)]
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen([*command, *options], stdout=output, stderr=output)
    try:
        page = _first_page(f"http://127.0.0.1:{port}/", process, seconds=120)
    finally:
        process.terminate()
        process.wait()
    assert b"<html" in page.lower(), log.read_text()[-2000:]


def _first_page(address: str, process: subprocess.Popen, seconds: float) -> bytes:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            return urllib.request.urlopen(address, timeout=5).read()
        except OSError:
            time.sleep(1)
    return b""
