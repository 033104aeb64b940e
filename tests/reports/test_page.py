"""The page of a report: what it says, and that it needs nothing else."""

import base64
import io
import json
import re
import xml.dom.minidom
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium_driver import NO_NETWORK, chromium
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from moegs_ns.reports import report
from moegs_ns.reports.page import headline_of, short_table, write_page
from moegs_ns.reports.plots import Axis, Series, line_plot, point_plot, scale_of
from moegs_ns.reports.report import report_paths, report_runs
from moegs_ns.reports.run_section import RunSection, View, jpeg, names_of, shown, training_curves
from moegs_ns.reports.scores import Score
from moegs_ns.reports.videos import FrameFolder, encode
from moegs_ns.runs.checkpoint import Run

SCORE = Score(
    method="moegs-stg", kind="expert", psnr=24.0, psnr_std=1.0, psnr_dynamic=19.0, ssim=0.9,
    lpips=None, gaussians=6000, mb=1.8, train_seconds=187.5, fps=27.0, seed=0, images=4,
    options="budget 0.03", run="runs/<stg>",
)  # fmt: skip
MIXTURE = replace(
    SCORE, method="moegs-router", kind="mixture", psnr=24.5, mb=8.0, fps=7.0,
    psnr_best_expert=24.2, psnr_average=24.3,
)  # fmt: skip
PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACw="
IMAGES = [
    {"camera": camera, "frame": frame, "psnr": 20.0 + camera + frame, "psnr_stg": 10.0}
    for camera in (0, 3)
    for frame in (0, 1)
]
ABOUT = {
    "command": "moegs report <a>", "hardware": "CPU", "commit": "abc", "date": "2026-01-01",
    "versions": {"torch": "2", "gsplat": None},
}  # fmt: skip


def section(score: Score, name: str, **changes: Any) -> RunSection:
    pictures = {"truth": PIXEL, "mixture": PIXEL, "error x 4": PIXEL}
    whole = RunSection(
        score=score, name=name, experts=(), images=IMAGES, curves={"loss": [(0, 1.0), (50, 0.5)]},
        views=[View("camera 0, frame 0", pictures)], video="data:video/mp4;base64,AAAA",
        video_caption="Camera 0", facts={"scene": "demo", "device": "cpu"},
        options=[("--pipeline.model.budget", "0.03", "1")],
    )  # fmt: skip
    return replace(whole, **changes)


def text_of(folder: Path, *sections: RunSection) -> str:
    write_page(folder / "page.html", sections, ABOUT)
    return (folder / "page.html").read_text("utf8")


def test_a_page_says_what_was_measured_and_how(tmp_path: Path):
    text = text_of(tmp_path, section(SCORE, "STG"), section(MIXTURE, "mixture"))
    assert "24.50 dB on 4 held-out images, 0.30 dB above its best expert" in text
    assert '<td class="best">24.50</td>' in text and '<td class="best">27.0</td>' in text
    assert "--pipeline.model.budget" in text and "<dt>device</dt><dd>cpu</dd>" in text
    assert "<h3>By frame</h3>" in text and "<h3>By camera</h3>" in text
    for column in vars(SCORE):
        assert f"<tr><td>{column}</td>" in text, column
    assert "runs/&lt;stg&gt;" in text and "moegs report &lt;a&gt;" in text, "nothing is markup"


def test_a_page_needs_no_network(tmp_path: Path):
    text = text_of(tmp_path, section(SCORE, "STG"))
    for address in re.findall(r"""(?:src|href)=["']?([^"'\s>]+)""", text):
        assert address.startswith("data:"), address
    assert not re.search(r"https?://|@import|url\(", text)


def test_what_is_not_there_is_not_drawn(tmp_path: Path):
    bare = section(
        SCORE, "STG", images=IMAGES[:1], curves={}, views=[], video="", options=[], facts={}
    )
    text = text_of(tmp_path, bare)
    assert "No log of this training was kept" in text and "<svg" not in text
    assert "<video" not in text and "Quality against cost" not in text
    assert "method's defaults" in text.replace("&#39;", "'")
    assert headline_of([bare]) == ""


def test_a_single_mixture_is_drawn_beside_its_experts(tmp_path: Path):
    text = text_of(tmp_path, section(MIXTURE, "mixture", experts=("stg",)))
    assert text.count("dashed") > 2 and "STG" in text


def test_a_loss_is_told_as_one():
    worse = section(replace(MIXTURE, psnr_best_expert=25.0), "mixture")
    assert "0.50 dB below its best expert" in headline_of([worse])
    assert "and 0.20 dB above the plain average of its experts" in headline_of([worse])


def test_only_what_was_measured_has_a_column():
    table = short_table([section(SCORE, "STG"), section(MIXTURE, "mixture")])
    assert "LPIPS" not in table["columns"] and "PSNR" in table["columns"]
    best = [row[table["columns"].index("MB")]["is_best"] for row in table["rows"]]
    assert best == [True, False], "the smaller one"


def test_figures_by_camera_and_frame():
    found = section(SCORE, "STG")
    assert found.mean_by("camera") == [(0, 20.5), (3, 23.5)]
    assert found.mean_by("frame", "psnr_stg") == [(0, 10.0), (1, 10.0)]
    assert found.mean_by("frame", "psnr_gone") == []


def test_runs_are_told_apart():
    again = replace(SCORE, seed=1)
    assert names_of([SCORE, MIXTURE]) == ["STG", "mixture"]
    assert names_of([SCORE, again, MIXTURE]) == ["STG, seed 0", "STG, seed 1", "mixture"]
    assert names_of([SCORE, SCORE]) == ["STG, seed 0 (1)", "STG, seed 0 (2)"]


def test_values_are_shown_as_they_are_typed():
    assert [shown(v) for v in ((1, 2), (), 0.5, None)] == ["1 2", "none", "0.5", "None"]


def test_training_curves_are_those_of_the_log(tmp_path: Path):
    assert training_curves(tmp_path) == {}
    for start, values in ((0, (1.0, 0.5, 0.4)), (2, (0.3, 0.2))):
        with SummaryWriter(str(tmp_path), filename_suffix=f".{start}") as writer:
            for step, value in enumerate(values, start):
                writer.add_scalar("Train Loss", value, 50 * step)
                writer.add_scalar("learning_rate/means", value, step)
    curves = training_curves(tmp_path)
    assert list(curves) == ["loss"]
    assert [step for step, _ in curves["loss"]] == [0, 50, 100, 150]
    assert dict(curves["loss"])[100] == pytest.approx(0.3), "a resumed training replaces steps"


class TestPlots:
    def test_they_are_whole(self):
        lines = [Series("a & b", [(0.0, 1.0), (10.0, 3.0)], 0), Series("c", [(5.0, 2.0)], 1)]
        svg = line_plot(lines, Axis("frame", is_whole=True), Axis("PSNR"))
        assert len(xml.dom.minidom.parseString(svg).getElementsByTagName("svg")) == 1
        assert "a &amp; b" in svg and svg.count("<circle") == 1
        assert line_plot([], Axis("x"), Axis("y")) == ""

    def test_values_keep_their_order_on_every_axis(self):
        for axis in (Axis("x"), Axis("x", is_logarithmic=True)):
            scale = scale_of([1.0, 10.0, 100.0], 0.0, 90.0, axis)
            places = [scale.place(value) for value in (1.0, 10.0, 100.0)]
            assert places == sorted(places) and places[0] > 0 and places[-1] < 90
            assert 2 <= len(scale.ticks()) <= 12
        middle = scale_of([1.0, 100.0], 0.0, 90.0, Axis("x", is_logarithmic=True)).place(10.0)
        assert middle == pytest.approx(45.0)

    def test_equal_values_have_a_scale_too(self):
        svg = point_plot([Series("a", [(7.0, 24.0)], 0)], Axis("FPS", True), Axis("PSNR"))
        assert "nan" not in svg and "<circle" in svg
        assert scale_of([3.0, 3.0], 0.0, 9.0, Axis("x")).place(3.0) == pytest.approx(4.5)


@pytest.mark.parametrize(
    ("output", "table", "page"),
    [
        (None, None, None),
        ("a.json", "a.json", None),
        ("a.md", "a.json", None),
        ("a.html", "a.json", "a.html"),
        ("folder", "folder/report.json", "folder/report.html"),
    ],
)
def test_an_output_is_known_by_its_ending(output, table, page):
    paths = tuple(None if name is None else Path(name) for name in (table, page))
    assert report_paths(None if output is None else Path(output)) == paths


def test_an_output_of_another_kind():
    with pytest.raises(ValueError, match=r"a \.json, \.md, \.html file or of a folder.*table.pdf"):
        report_paths(Path("table.pdf"))


def test_a_page_comes_with_its_tables(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(report, "load_pipeline", lambda run: None)
    monkeypatch.setattr(
        report, "score_runs", lambda runs, run, pipeline: replace(SCORE, reason="none")
    )
    monkeypatch.setattr(
        report, "run_section", lambda run, pipeline, score, name: section(score, name)
    )
    run = Run(Path("runs/stg/config.yml"), None, Path("runs/stg/step-000000009.ckpt"))
    report_runs([(run,)], tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"report.html", "report.json", "report.md"}
    assert json.loads((tmp_path / "out/report.json").read_text())["rows"][0]["psnr"] == 24.0
    assert "Written: " in capsys.readouterr().out


def whole_page(folder: Path) -> str:
    """A page with pictures of one colour each and a video; its address."""
    colors = {"truth": (200, 0, 0), "mixture": (0, 200, 0), "depth": (0, 0, 200)}
    pictures = {
        name: jpeg(np.full((90, 120, 3), color, np.uint8)) for name, color in colors.items()
    }
    frames = FrameFolder(folder / "frames")
    for index in range(4):
        frames.write(index, np.full((48, 64, 3), 60 * index, np.uint8))
    encode([frames.path(index) for index in range(4)], folder / "v.mp4", 4.0)
    video = base64.b64encode((folder / "v.mp4").read_bytes()).decode()
    shown = section(
        MIXTURE, "mixture", views=[View("camera 0, frame 0", pictures)],
        video=f"data:video/mp4;base64,{video}",
    )  # fmt: skip
    write_page(folder / "page.html", [section(SCORE, "STG", views=[], video=""), shown], ABOUT)
    return (folder / "page.html").as_uri()


@pytest.mark.slow
def test_a_browser_shows_the_page(tmp_path: Path):
    """Also without a network."""
    address, profile = whole_page(tmp_path), tmp_path / "profile"
    with chromium(address, profile, (900, 1200), [NO_NETWORK]) as driver:
        look_at_the_page(driver)


def look_at_the_page(browser: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import Select, WebDriverWait

    sizes = "return [...document.images].map(i => i.naturalWidth * i.clientWidth)"
    assert len(widths := browser.execute_script(sizes)) == 2 and min(widths) > 0
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 900
    # The video plays.
    playing = "return document.querySelector('video').readyState >= 2"
    WebDriverWait(browser, 20).until(lambda chrome: chrome.execute_script(playing))
    # The slider moves the edge between both pictures.
    compare = browser.find_element(By.CSS_SELECTOR, ".compare")

    def pixel(x: float) -> list[int]:
        picture = Image.open(io.BytesIO(compare.screenshot_as_png)).convert("RGB")
        pixels = np.asarray(picture)
        return pixels[picture.height // 2, int(x * picture.width)].tolist()

    assert pixel(0.25)[0] > 150 and pixel(0.75)[1] > 150
    slider = browser.find_element(By.CSS_SELECTOR, ".controls input")
    slider.send_keys(Keys.HOME)
    assert pixel(0.25)[1] > 150, "nothing of the truth is left"
    slider.send_keys(Keys.END)
    assert pixel(0.75)[0] > 150
    Select(browser.find_element(By.CSS_SELECTOR, "select.left")).select_by_visible_text("depth")
    assert pixel(0.5)[2] > 150
    severe = [each for each in browser.get_log("browser") if each["level"] == "SEVERE"]
    assert not severe
