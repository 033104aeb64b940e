"""The player page: it shows what the program renders, plays by itself, and every control works."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import expert_clip, fused_clip, needles
from player_browser import PlayerPage, decibels, on_canvas, opened_page, rig, stage
from tolerances import FORWARD

from moegs_ns.cameras import View
from moegs_ns.mixture.volume_mixture import joint_composite
from moegs_ns.reports.clip_frames import ClipSet
from moegs_ns.reports.player_page import camera_entry, focus_of, write_page

FRAMES = [0, 1, 2, 3, 4]
FEWEST_DB = 33.0
"""PSNR of the page's picture against the program's; rounding to 8 bits at every Gaussian, and
cutting none off at three deviations, costs what lies above it."""


def rendered(clip: ClipSet, frame: int, view: View, width: int, height: int) -> np.ndarray:
    """What the program draws of the Gaussians as one set."""
    seen = on_canvas(view, width, height)
    background = torch.stack([expert.background for expert in clip.experts]).mean(0)
    near = [expert.near for expert in clip.experts]
    with torch.no_grad():
        image, _ = joint_composite(clip.parts(frame), seen, near=near, background=background)
    return image.clamp(0, 1).numpy()


@pytest.fixture(scope="module")
def clip() -> ClipSet:
    return needles(fused_clip(150, 100))


@pytest.fixture(scope="module")
def written(clip: ClipSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "clip.html"
    write_page(clip, FRAMES, None, stage(), 50.0, path)
    return path


class TestFile:
    def test_it_says_what_it_shows_and_loads_nothing(self, written: Path):
        text = written.read_text("utf8")
        assert "the fused set of expert_0 and expert_1" in text and "at 5 key frames" in text
        assert "no gates per pixel" in text
        assert "<title>a &lt;/title&gt; &amp; a run</title>" in text
        assert "default-src 'none'" in text and not re.search(r"(src|href)=|https?://", text)
        assert "{{" not in text

    def test_it_is_no_larger_than_asked_for(self, clip: ClipSet, written: Path, tmp_path: Path):
        path = tmp_path / "small.html"
        most = 0.9 * written.stat().st_size / 1e6
        report = write_page(clip, FRAMES, None, stage(), most, path)
        assert path.stat().st_size / 1e6 == report.megabytes <= most
        assert 0 < report.gaussians < report.found
        left_out = f"({report.found - report.gaussians:,} less important ones are left out)"
        assert left_out in path.read_text("utf8")

    def test_a_name_cannot_end_the_header(self, clip: ClipSet, tmp_path: Path):
        named = replace(clip, names=["</script>", "b"])
        write_page(named, FRAMES, None, stage(), 50.0, tmp_path / "a.html")
        text = (tmp_path / "a.html").read_text("utf8")
        header = re.search(r'id="header" type="application/json">(.*?)</script>', text, re.DOTALL)
        assert header is not None
        assert json.loads(header.group(1))["experts"][0]["name"] == "</script>"

    def test_a_camera_is_that_of_the_view(self):
        view = rig()[1]
        entry = camera_entry("b", view, 2.0)
        axes, position = torch.tensor(entry["axes"]), torch.tensor(entry["position"])
        point = torch.tensor([0.3, -0.2, 4.0])
        expected = view.viewmats[0, :3, :3] @ point + view.viewmats[0, :3, 3]
        FORWARD.assert_close(axes @ (point - position), expected)

    def test_the_focus_lies_where_cameras_look(self):
        found = focus_of(rig())
        depths = [float((v.viewmats[0, :3, :3] @ found + v.viewmats[0, :3, 3])[2]) for v in rig()]
        assert all(depth > 1.0 for depth in depths), depths


@pytest.fixture(scope="module")
def page(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlayerPage]:
    with opened_page(written, tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.mark.slow
class TestBrowser:
    def test_it_plays_by_itself_until_somebody_pauses(self, page: PlayerPage):
        found = set()
        deadline = time.monotonic() + 30
        while len(found) < 3 and time.monotonic() < deadline:
            found.add(page.frame)
        assert len(found) >= 3
        page.click("play")
        paused = page.frame
        time.sleep(0.5)
        assert page.frame == paused
        page.click("play")
        deadline = time.monotonic() + 30
        while page.frame == paused and time.monotonic() < deadline:
            time.sleep(0.1)
        assert page.frame != paused
        page.click("play")

    @pytest.mark.parametrize("camera", [0, 1])
    @pytest.mark.parametrize("frame", [0, 3])
    def test_it_shows_what_the_program_renders(self, page, clip, frame: int, camera: int):
        page.choose("camera", f"camera {1 - camera}")
        page.choose("camera", f"camera {camera}")
        page.slide_to(frame)
        picture = page.picture()
        height, width = picture.shape[:2]
        expected = rendered(clip, frame, rig()[camera], width, height)
        assert expected.std() > 0.05
        assert decibels(picture, expected) > FEWEST_DB
        page.run(
            "const { order, starts } = player.last;"
            "player.renderer.uploadOrder(order.slice().reverse(), starts); player.changed();"
        )
        time.sleep(0.5)
        assert decibels(page.picture(), expected) < FEWEST_DB - 4, "any order would do"

    def test_every_control_changes_the_picture(self, page: PlayerPage):
        page.choose("camera", "camera 1")
        page.choose("camera", "camera 0")
        page.slide_to(0)
        first = page.picture()
        assert page.shown_frame == "frame 0 of 0 to 4"
        page.click("ahead")
        second = page.picture()
        assert page.frame == 1 and page.shown_frame == "frame 1 of 0 to 4"
        assert np.abs(second - first).mean() > 0.002
        page.click("back")
        np.testing.assert_allclose(page.picture(), first, atol=1 / 255)
        page.choose("camera", "camera 1")
        assert np.abs(page.picture() - first).mean() > 0.02
        page.choose("camera", "camera 0")
        np.testing.assert_allclose(page.picture(), first, atol=1 / 255)
        page.choose("colours", "by expert")
        assert np.abs(page.picture() - first).mean() > 0.02
        page.choose("colours", "of the scene")
        page.driver.find_element("css selector", "#legend input").click()
        without = page.picture()
        assert np.abs(without - first).mean() > 0.02
        page.driver.find_element("css selector", "#legend input").click()
        np.testing.assert_allclose(page.picture(), first, atol=1 / 255)
        page.drag(60, 10)
        assert np.abs(page.picture() - first).mean() > 0.02

    def test_nothing_was_loaded_and_nothing_went_wrong(self, page: PlayerPage):
        loaded = page.run("return performance.getEntriesByType('resource').map((e) => e.name)")
        assert [name for name in loaded if not name.startswith("blob:")] == []
        assert [each for each in page.driver.get_log("browser") if each["level"] == "SEVERE"] == []

    def test_a_single_expert_with_colours_by_direction(self, tmp_path: Path):
        clip = expert_clip(200)
        write_page(clip, [0, 4], 1, stage(), 50.0, tmp_path / "expert.html")
        with opened_page(tmp_path / "expert.html", tmp_path / "profile") as page:
            page.click("play")
            page.slide_to(4)
            picture = page.picture()
            height, width = picture.shape[:2]
            expected = rendered(clip, 4, rig()[0], width, height)
            assert decibels(picture, expected) > FEWEST_DB
