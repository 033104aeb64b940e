"""Chromium at the viewer, as a person uses it."""

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from chromium_driver import chromium
from PIL import Image

PANEL = 320
"""Pixels on the right of the window that the viewer's panel covers."""
WINDOW = (1100, 800)


class Page:
    """The viewer's page as a person uses it, with what the viewer prints meanwhile."""

    def __init__(self, driver, log: Path) -> None:
        self.driver, self.log = driver, log

    def because(self, what_is_wrong: str) -> str:
        """A complaint, with all that the viewer and the browser have said to explain it."""
        heard = [f"{each['level']} {each['message']}" for each in self.driver.get_log("browser")]
        return "\n".join(
            [what_is_wrong, "The viewer:", self.log.read_text(), "The browser:", *heard]
        )

    def control(self, label: str):
        """The input or slider that belongs to a label; waits until the page has it."""
        from selenium.webdriver.common.by import By
        from selenium.webdriver.support.ui import WebDriverWait

        path = f"//label[text()='{label}']"
        found = WebDriverWait(self.driver, 60).until(
            lambda driver: driver.find_element(By.XPATH, path)
        )
        return self.driver.find_element(By.ID, found.get_attribute("for"))

    def choose(self, label: str, option: str) -> None:
        """Pick an entry of a drop-down list."""
        from selenium.webdriver.common.by import By
        from selenium.webdriver.support.ui import WebDriverWait

        path = f"//*[@role='option'][.='{option}']"

        def shown_ones(driver):
            # Other lists, which are closed, may have such an entry as well.
            return [one for one in driver.find_elements(By.XPATH, path) if one.is_displayed()]

        self.control(label).click()
        WebDriverWait(self.driver, 20).until(shown_ones)[0].click()

    def open_tab(self, label: str) -> None:
        """Bring a tab of the panel to the front."""
        from selenium.webdriver.common.by import By
        from selenium.webdriver.support.ui import WebDriverWait

        path = f"//button[@role='tab'][contains(., '{label}')]"
        tab = WebDriverWait(self.driver, 60).until(
            lambda driver: driver.find_element(By.XPATH, path)
        )
        self.driver.execute_script("arguments[0].click()", tab)

    def press(self, label: str) -> None:
        """Press a button."""
        from selenium.webdriver.common.by import By
        from selenium.webdriver.support.ui import WebDriverWait

        path = f"//button[not(@role='tab')][.='{label}']"
        shown = WebDriverWait(self.driver, 60).until(
            lambda driver: [
                one for one in driver.find_elements(By.XPATH, path) if one.is_displayed()
            ]
        )
        self.driver.execute_script("arguments[0].click()", shown[0])

    def check(self, label: str) -> None:
        """Switch a box on or off."""
        self.driver.execute_script("arguments[0].click()", self.control(label))

    def type(self, label: str, value: float) -> None:
        """Type a number into a field."""
        from selenium.webdriver.common.keys import Keys

        field = self.control(label)
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(str(value), Keys.ENTER)

    def slide(self, label: str, *keys: str) -> None:
        """Press keys on a slider."""
        from selenium.webdriver.common.by import By

        self.control(label).find_element(By.CSS_SELECTOR, "[role=slider]").send_keys(*keys)

    def text(self) -> str:
        """All that the page says."""
        return self.driver.execute_script("return document.body.innerText")

    def click_picture(self, across: float, down: float) -> None:
        """Click at fractions of the canvas."""
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.by import By

        canvases = self.driver.find_elements(By.TAG_NAME, "canvas")
        # One reaches under the panel; the picture is on the one beside it.
        room = self.driver.execute_script("return window.innerWidth") - PANEL // 2
        beside = [one for one in canvases if one.size["width"] < room]
        canvas = max(beside, key=lambda one: one.size["width"])
        size = canvas.size
        x, y = (across - 0.5) * size["width"], (down - 0.5) * size["height"]
        chain = ActionChains(self.driver)
        chain.move_to_element_with_offset(canvas, round(x), round(y)).click().perform()

    def slide_to_end(self, label: str) -> None:
        """Move a slider to its largest value."""
        from selenium.webdriver.common.by import By
        from selenium.webdriver.common.keys import Keys

        thumb = self.control(label).find_element(By.CSS_SELECTOR, "[role=slider]")
        thumb.send_keys(Keys.END)

    def picture(self) -> np.ndarray:
        """What the window shows left of the panel, below the title, in [0, 1]."""
        image = Image.open(io.BytesIO(self.driver.get_screenshot_as_png())).convert("RGB")
        return np.asarray(image)[60:-80, 80:-PANEL].astype(np.float32) / 255.0

    def settled_picture(self, is_there: Callable[[np.ndarray], bool]) -> np.ndarray:
        """The picture once it stands still and is the awaited one.

        Returns what is there after two minutes; it is for the test to judge it.
        """
        deadline, last = time.monotonic() + 120, self.picture()
        while time.monotonic() < deadline:
            time.sleep(1.5)
            now = self.picture()
            if np.abs(now - last).max() < 1e-3 and is_there(now):
                return now
            last = now
        return last


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Mean absolute difference of two pictures in [0, 1]."""
    return float(np.abs(a - b).mean())


def differs(before: np.ndarray, change: float) -> Callable[[np.ndarray], bool]:
    """Whether a picture's mean pixel differs from another's by a change."""
    return lambda picture: difference(picture, before) > change


def is_filled(picture: np.ndarray) -> bool:
    """Whether anything can be told apart; a page that still loads is one colour."""
    return picture.std() > 0.05


def saturation(image: np.ndarray) -> float:
    """Mean difference of the largest and the smallest channel."""
    return float(np.ptp(image, axis=-1).mean())


@contextmanager
def viewer_page(address: str, profile: Path, log: Path) -> Iterator[Page]:
    """A browser at the viewer's page; `log` is what the viewer prints."""
    with chromium(address, profile, WINDOW) as chrome:
        yield Page(chrome, log)
