"""A player page in Chromium, opened as a file, with its controls."""

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from chromium_driver import chromium
from jaxtyping import Float
from PIL import Image
from toys import make_view

from moegs_ns.cameras import View
from moegs_ns.reports.player_page import Stage


def rig() -> list[View]:
    """Two cameras."""
    together = make_view(2, width=120, height=90)
    return [together.select(torch.tensor([row])) for row in range(2)]


def stage(remark: str = "") -> Stage:
    """What a page of the two cameras stands in."""
    cameras = [(f"camera {row}", view) for row, view in enumerate(rig())]
    return Stage(cameras, torch.tensor([0.0, -1.0, 0.0]), "a </title> & a run", remark)


def on_canvas(view: View, width: int, height: int) -> View:
    """A camera on a canvas of another size, so that its whole image fits in."""
    scale = min(width / view.width, height / view.height)
    K = view.Ks.clone()
    K[:, :2] *= scale
    K[:, 0, 2] += (width - scale * view.width) / 2
    K[:, 1, 2] += (height - scale * view.height) / 2
    return replace(view, Ks=K, width=width, height=height)


def decibels(one: np.ndarray, other: np.ndarray) -> float:
    """PSNR of one image against another, both in [0, 1]."""
    return float(-10 * np.log10(np.square(one - other).mean()))


class PlayerPage:
    """What a person sees of the page and does with it."""

    def __init__(self, driver) -> None:
        self.driver = driver

    def run(self, script: str):
        """The value of a script in the page."""
        return self.driver.execute_script(script)

    @property
    def frame(self) -> float:
        """Where the clip is; a fraction while it plays."""
        return self.run("return window.player ? player.frame : -1")

    @property
    def shown_frame(self) -> str:
        """What the page says of it."""
        return self.run("return document.getElementById('frame').textContent")

    def click(self, name: str) -> None:
        """Press a button."""
        self.driver.find_element("id", name).click()

    def choose(self, name: str, option: str) -> None:
        """Pick an entry of a list by its text."""
        from selenium.webdriver.support.ui import Select

        Select(self.driver.find_element("id", name)).select_by_visible_text(option)

    def slide_to(self, frame: int) -> None:
        """Move the timeline, as dragging it does."""
        self.run(
            f"const line = document.getElementById('timeline'); line.value = {frame};"
            "line.dispatchEvent(new Event('input'));"
        )

    def drag(self, x: int, y: int) -> None:
        """Drag the picture with the left button."""
        from selenium.webdriver import ActionChains

        canvas = self.driver.find_element("id", "picture")
        ActionChains(self.driver).drag_and_drop_by_offset(canvas, x, y).perform()

    def open(self, path: Path) -> None:
        """Go to another page."""
        self.driver.get(path.resolve().as_uri())
        self.wait_for_player()

    def wait_for_player(self) -> None:
        """Wait until the page has unpacked what it holds."""
        deadline = time.monotonic() + 60
        while self.frame < 0:
            assert time.monotonic() < deadline, self.driver.get_log("browser")
            time.sleep(0.1)

    def settle(self) -> None:
        """Wait until what is drawn is of this instant and camera, in the right order."""
        deadline = time.monotonic() + 60
        while self.run("return document.getElementById('picture').dataset.drawn") != "settled":
            assert time.monotonic() < deadline, self.driver.get_log("browser")
            time.sleep(0.1)

    def picture(self) -> Float[np.ndarray, "H W 3"]:
        """The canvas in [0, 1], once it is settled."""
        self.settle()
        shot = self.driver.find_element("id", "picture").screenshot_as_png
        image = np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))
        return image.astype(np.float32) / 255.0


@contextmanager
def opened_page(path: Path, profile: Path) -> Iterator[PlayerPage]:
    """Chromium with the page, in a profile of its own; skips where there is no Chromium."""
    with chromium(path.resolve().as_uri(), profile, (640, 640)) as chrome:
        page = PlayerPage(chrome)
        page.wait_for_player()
        yield page
