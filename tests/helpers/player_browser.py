"""A player page in Chromium, opened as a file, with its controls."""

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from chromium_driver import chromium
from jaxtyping import Float
from PIL import Image


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
        deadline = time.monotonic() + 60
        while page.frame < 0:
            assert time.monotonic() < deadline, chrome.get_log("browser")
            time.sleep(0.1)
        yield page
