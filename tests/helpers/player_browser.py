"""A player page in Chromium, opened as a file, with its controls."""

import io
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import Float
from PIL import Image

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--window-size=640,640", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
)  # fmt: skip


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
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        chrome.get(path.resolve().as_uri())
        page = PlayerPage(chrome)
        deadline = time.monotonic() + 60
        while page.frame < 0:
            assert time.monotonic() < deadline, chrome.get_log("browser")
            time.sleep(0.1)
        yield page
    finally:
        chrome.quit()
