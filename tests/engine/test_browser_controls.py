"""Every control of ours pressed in a real browser, over a tiny run of a router."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
import torch
from browser import Page, difference, is_filled, saturation, viewer_page
from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.viewer.viewer import Viewer
from tiny import TinyRuns

from moegs_ns.cameras import view_from_cameras
from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.runs.checkpoint import open_run

PORT = 7195


@dataclass
class LivePage:
    """The page, and the viewer behind it in this process."""

    page: Page
    viewer: Viewer
    pipeline: Any

    @property
    def live(self) -> Any:
        return self.pipeline.live_viewer

    def drawn(self) -> torch.Tensor:
        """What the controls make of one camera, without the browser's scaling."""
        view = view_from_cameras(self.pipeline.datamanager.train_dataset.cameras[:1])
        view.times.fill_(float(self.viewer.control_panel.time))
        with torch.no_grad(), self.live._while_idle():
            return self.live.picture(view, self.live.choices())[0]

    def changes(self, act: Any, *arguments: Any) -> None:
        """Do something that has to change the picture, in the viewer and on the page."""
        drawn, seen = self.drawn(), self.page.picture()
        act(*arguments)
        what = f"{act.__name__} {arguments} does not change the picture"
        self.becomes(lambda: difference(self.drawn().numpy(), drawn.numpy()) > 0.01, what)
        self.becomes(lambda: difference(self.page.picture(), seen) > 0.005, f"{what} on the page")

    def becomes(self, is_so: Any, what_is_wrong: str) -> None:
        """Wait until something is the case."""
        deadline = time.monotonic() + 60.0
        while not is_so():
            assert time.monotonic() < deadline, self.page.because(what_is_wrong)
            time.sleep(0.05)


@pytest.fixture
def opened(tiny_runs: TinyRuns, tmp_path: Path) -> Iterator[LivePage]:
    """Chromium at the viewer of the tiny router, whose first expert flies aside over the clip."""
    pipeline: Any = load_pipeline(open_run(tiny_runs.router))
    expert = pipeline.model.mixture.experts[0]
    expert.gauss_params["motion"].data[:, :3] += 0.1 * expert.scene.extent
    log = tmp_path / "log"
    log.touch()
    config, data = ViewerConfig(websocket_port=PORT), pipeline.datamanager
    viewer = Viewer(config, log, tmp_path, pipeline, train_lock=Lock())
    viewer.control_panel._max_res.value = 128
    viewer.init_scene(data.train_dataset, "completed", data.eval_dataset)
    viewer.set_camera_visibility(False)
    try:
        # Another one than was asked for, while that of the test before is still being closed.
        address = f"http://localhost:{viewer.viser_server.get_port()}"
        with viewer_page(address, tmp_path / "profile", log) as page:
            page.control("Frame")
            yield LivePage(page, viewer, pipeline)
    finally:
        pipeline.live_viewer.playback.player.pause()
        for thread in list(viewer.render_statemachines.values()):
            thread.running = False
        viewer.viser_server.stop()


@pytest.mark.slow
def test_time_plays_steps_and_loops_in_a_browser(opened: LivePage):
    from selenium.webdriver.common.keys import Keys

    page, player = opened.page, opened.live.playback.player
    opened.becomes(lambda: is_filled(page.picture()), "there is no picture")
    opened.changes(page.slide, "Frame", Keys.END)
    assert player.frame == 5 and opened.viewer.control_panel.time == 1.0
    opened.changes(page.press, "Forward")
    assert player.frame == 0
    opened.changes(page.press, "Back")
    assert player.frame == 5
    opened.changes(page.slide, "Time", Keys.HOME)
    assert player.frame == 0

    page.type("Frames per second", 4)
    opened.becomes(lambda: player.speed == 4.0, "the speed is not taken")
    page.press("Play clip")
    frames, before = set(), page.picture()

    def has_gone_round() -> bool:
        frames.add(player.frame)
        return len(frames) == 6

    opened.becomes(has_gone_round, "not every frame is seen")
    opened.becomes(lambda: difference(page.picture(), before) > 0.01, "the picture stands still")
    page.press("Pause clip")
    opened.becomes(lambda: not player.is_playing, "it does not pause")
    page.check("Loop clip")
    opened.becomes(lambda: not player.loops, "loop does nothing")
    page.press("Play clip")
    opened.becomes(lambda: not player.is_playing and player.frame == 5, "it does not end")


@pytest.mark.slow
def test_every_control_of_the_picture_in_a_browser(opened: LivePage):
    from selenium.webdriver.common.keys import Keys

    page = opened.page
    opened.becomes(lambda: is_filled(page.picture()), "there is no picture")
    names = opened.live._subject.names
    assert names == ("STG", "4DGaussians")
    assert all(name in page.text() for name in names), "the legend names no experts"
    opened.changes(page.choose, "Overlay", "Strongest gate")
    opened.changes(page.slide, "Overlay strength", Keys.END)
    opened.changes(page.choose, "Overlay", "None")
    opened.changes(page.check, "Split")
    opened.changes(page.choose, "Right of the line", "Strongest gate")
    opened.changes(page.slide, "Line", Keys.HOME)
    opened.changes(page.check, "Split")
    for name in ("Depth", "Gate of STG", "Training image", "Error", "STG", "Mixture"):
        opened.changes(page.choose, "Show", name)
    opened.changes(page.choose, "Show", "Accumulation")
    opened.changes(page.choose, "Map colours", "gray")
    opened.becomes(lambda: saturation(page.picture()) < 0.05, "gray is in colours")
    opened.changes(page.choose, "Show", "Error")
    opened.becomes(lambda: "PSNR" in page.text(), "the error is not told")


@pytest.mark.slow
def test_experts_cameras_and_clicks_in_a_browser(opened: LivePage):
    from selenium.webdriver.common.keys import Keys

    page, model = opened.page, opened.pipeline.model
    opened.becomes(lambda: is_filled(page.picture()), "there is no picture")
    page.open_tab("Experts")
    opened.changes(page.check, "STG")
    opened.changes(page.press, "As trained")
    opened.changes(page.slide, "Prune", Keys.END)
    left, total = opened.live.choices().keep, model.mixture.num_gaussians
    count = f"{sum(int(mask.sum()) for mask in left):,} of {total:,} Gaussians"
    opened.becomes(lambda: count in page.text(), f"the count is not told: {count}")
    opened.changes(page.slide, "Prune", Keys.HOME)
    page.slide("Gate temperature", Keys.END)
    opened.becomes(lambda: opened.live.choices().temperature == 5.0, "no temperature is set")

    page.open_tab("Cameras")
    page.choose("Camera", "Camera 0 (held out)")
    seen = page.picture()
    page.press("Look through it")
    [client] = opened.viewer.viser_server.get_clients().values()
    camera = opened.pipeline.datamanager.eval_dataset.cameras[0]

    def looks_through() -> bool:
        state = opened.viewer.get_camera_state(client)
        return bool((state.c2w - camera.camera_to_worlds).abs().max() < 1e-3) and bool(
            abs(state.fov - 2 * torch.atan(camera.height / 2 / camera.fy)) < 1e-3
        )

    opened.becomes(looks_through, "it looks through another camera")
    opened.becomes(lambda: difference(page.picture(), seen) > 0.01, "the page stays where it was")

    page.open_tab("Click")
    page.check("Read out clicks")
    page.check("Trajectories")
    time.sleep(1.0)
    page.click_picture(0.4, 0.5)
    opened.becomes(lambda: opened.live.click.reading is not None, "a click reads nothing")
    reading, (view, choices) = opened.live.click.reading, opened.live._seen[client.client_id]
    assert abs(reading.x - 0.4 * view.width) <= 2 and abs(reading.y - 0.5 * view.height) <= 2
    with torch.no_grad():
        drawn = opened.live._subject.draw(view, choices)
    torch.testing.assert_close(torch.tensor(reading.gates), drawn.gates[:, reading.y, reading.x, 0])
    opened.becomes(lambda: f"{reading.gates[0]:.3f}" in page.text(), "the gates are not told")
    assert f"Pixel {reading.x}, {reading.y}" in page.text()
