"""The viewer in a real browser, and how fast it opens."""

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import Page, differs, is_filled, saturation, viewer_page
from data_helpers import poses_bounds
from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.utils.eval_utils import eval_setup
from nerfstudio.viewer.viewer import Viewer
from tiny import TinyRuns, train_tiny

from moegs_ns.launch.cli_args import replaced_argv

PORT = 7191


@contextmanager
def running_viewer(config: Path, log: Path) -> Iterator[str]:
    """`ns-viewer` in a process of its own; yields its address once it answers."""
    command = [
        sys.executable, "-W", "ignore", "-m", "nerfstudio.scripts.viewer.run_viewer",
        "--load-config", str(config), "--viewer.websocket-port", str(PORT),
    ]  # fmt: skip
    address = f"http://localhost:{PORT}"
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(address, timeout=2).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def moving_run(tiny_runs: TinyRuns, tmp_path: Path) -> Path:
    """A mixture whose first expert flies aside over the clip.

    What experts learn of motion in 60 steps changes the picture less than the viewer's sharpness,
    which follows how fast the browser draws.
    """
    config = train_tiny("moegs-router", tiny_runs.scene, tmp_path, "--experts", *tiny_runs.experts)
    [path] = (config.parent / "nerfstudio_models").glob("*.ckpt")
    saved = torch.load(path, weights_only=False)
    expert = "_model.mixture.expert_modules.0."
    speed = 0.1 * saved["pipeline"][expert + "scene_extent"]
    saved["pipeline"][expert + "gauss_params.motion"][:, :3] += speed
    torch.save(saved, path)
    return config


@pytest.fixture
def page(moving_run: Path, tmp_path: Path) -> Iterator[Page]:
    """Chromium at the viewer of a tiny router run."""
    log = tmp_path / "viewer.log"
    with (
        running_viewer(moving_run, log) as address,
        viewer_page(address, tmp_path / "profile", log) as opened,
    ):
        yield opened


@pytest.mark.slow
def test_a_browser_shows_the_scene_over_time_and_every_output(page: Page):
    page.control("Time")
    first = page.settled_picture(is_filled)
    assert is_filled(first), page.because("the first picture is empty")

    page.slide_to_end("Time")
    has_moved = differs(first, 0.02)
    last = page.settled_picture(has_moved)
    assert has_moved(last), page.because("the time slider does not move the picture")

    page.choose("Show", "Strongest gate")
    shows_another = differs(last, 0.1)
    winner = page.settled_picture(shows_another)
    assert shows_another(winner), page.because("the map of winners does not appear")
    assert saturation(last) < 0.4 < saturation(winner), "a map of winners is in bright colours"

    page.choose("Show", "STG")
    shows_expert = differs(winner, 0.1)
    shown = page.settled_picture(shows_expert)
    assert shows_expert(shown), page.because("the picture of one expert does not appear")


def long_scene(folder: Path, num_cameras: int = 20, num_frames: int = 300) -> Path:
    """N3V layout of 6000 frames of one colour each."""
    import av

    folder.mkdir()
    for camera in range(num_cameras):
        with av.open(str(folder / f"cam{camera:02d}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=30)
            stream.width, stream.height, stream.pix_fmt = 48, 36, "yuv420p"
            for frame in range(num_frames):
                color = np.full((36, 48, 3), (frame + 3 * camera) % 256, dtype=np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(color, format="rgb24")))
            container.mux(stream.encode())
    np.save(folder / "poses_bounds.npy", poses_bounds(num_cameras, 48, 36))
    return folder


def seconds_without_a_core() -> float:
    """How long this thread was ready to run while other programs had the cores (Linux; proc(5))."""
    waits = Path("/proc/thread-self/schedstat")
    return int(waits.read_text().split()[1]) / 1e9 if waits.exists() else 0.0


@pytest.mark.slow
def test_six_thousand_frames_open_in_five_seconds(tmp_path: Path):
    """After imports: reading the run, its data and the checkpoint, and filling the viewer.

    What a busy machine keeps it waiting says nothing about opening, and is left out.
    """
    scene = long_scene(tmp_path / "scene")
    config = train_tiny(
        "moegs-stg", scene, tmp_path, "--budget", "0.0001",
        parser_options=["--num-random-points", "500"],
    )  # fmt: skip
    started, waited = time.perf_counter(), seconds_without_a_core()
    with replaced_argv(["ns-viewer", "--load-config", str(config)]):
        _, pipeline, _, _ = eval_setup(config, test_mode="test")
    viewer = Viewer(ViewerConfig(websocket_port=PORT + 1), tmp_path / "log", scene, pipeline)
    train_dataset = pipeline.datamanager.train_dataset
    assert train_dataset is not None
    viewer.init_scene(
        train_dataset=train_dataset,
        train_state="completed",
        eval_dataset=pipeline.datamanager.eval_dataset,
    )
    waited = seconds_without_a_core() - waited
    seconds = time.perf_counter() - started - waited
    assert len(train_dataset) == 19 * 300
    assert seconds < 5.0, f"opening took {seconds:.1f} s, and {waited:.1f} s of waiting for a core"
