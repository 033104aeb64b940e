"""The player page of a mixture in a browser: its pictures and gates are those of the mixture."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import fused_clip, needles
from player_browser import PlayerPage, decibels, on_canvas, opened_page, rig, stage

from moegs_ns.cameras import View
from moegs_ns.mixture.fuse import fused_image
from moegs_ns.mixture.live import LiveChoices, render_live
from moegs_ns.mixture.mixture import GateConfig, MixtureRender, expert_colors
from moegs_ns.reports.clip_frames import FusedClip
from moegs_ns.reports.player_gates import GatedClip, gated
from moegs_ns.reports.player_page import write_page
from moegs_ns.routers import (
    EVIDENCE,
    PixelRouterConfig,
    RouterConfig,
    VolumeAwarePixelRouter,
    VolumeAwarePixelRouterConfig,
)

pytestmark = pytest.mark.slow

FRAMES = [0, 1, 2, 3, 4]
COUNTS = (150, 100, 80)
FEWEST_DB = 48.0
"""PSNR of the page's pictures against the mixture's; colours, opacities and a canvas of 8 bits cost
what lies above it. The fused set reaches less than 36 dB."""
FEWEST_DB_CORRECTED = 38.0
"""Evidence is a mean over what is seen, which jumps where a Gaussian ends, and gates with it; where
an opacity is rounded, the edge lies elsewhere."""
GATE_ERROR = 0.01
"""Mean error of gates that are read from colours of 8 bits."""


def made(router: RouterConfig | None = None, uniform: float = 0.0) -> GatedClip:
    clip = gated(needles(fused_clip(*COUNTS, router=router)))
    clip.mixture.gate_config = GateConfig(uniform=uniform)
    return clip


def written(clip: FusedClip | GatedClip, path: Path) -> Path:
    write_page(clip, FRAMES, None, stage(), 50.0, path)
    return path


def seen(clip: GatedClip, frame: int, camera: int, picture: np.ndarray) -> View:
    """The camera at a frame, on the page's canvas."""
    view = on_canvas(rig()[camera], picture.shape[1], picture.shape[0])
    return replace(view, times=torch.tensor([clip.time_of(frame)]))


@torch.no_grad()
def ours(clip: GatedClip, view: View, is_on: tuple[bool, ...] = ()) -> MixtureRender:
    """What the program renders of the mixture."""
    return render_live(clip.mixture, view, LiveChoices(is_on))


def image(tensor: torch.Tensor) -> np.ndarray:
    return tensor.clamp(0, 1).numpy()


def gates_of(picture: np.ndarray) -> np.ndarray:
    """Gates [H, W, E] from the experts' colours mixed by them."""
    return picture @ np.linalg.inv(np.array(expert_colors(len(COUNTS))))


def go_to(page: PlayerPage, frame: int, camera: int) -> None:
    page.run("player.pause()")
    page.choose("camera", f"camera {1 - camera}")
    page.choose("camera", f"camera {camera}")
    page.slide_to(frame)


@pytest.fixture(scope="module")
def clip() -> GatedClip:
    return made()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def browser(clip: GatedClip, folder: Path) -> Iterator[PlayerPage]:
    with opened_page(written(clip, folder / "clip.html"), folder / "profile") as page:
        yield page


@pytest.fixture
def page(browser: PlayerPage, folder: Path) -> PlayerPage:
    browser.open(folder / "clip.html")
    return browser


@pytest.mark.parametrize(("frame", "camera"), [(0, 0), (3, 1)])
def test_the_page_shows_the_mixture(page: PlayerPage, clip: GatedClip, frame: int, camera: int):
    go_to(page, frame, camera)
    assert page.run("return player.renderer.mixture.format") == "RGBA32F"
    picture = page.picture()
    view = seen(clip, frame, camera, picture)
    expected, fused = ours(clip, view), fused_image(clip.mixture, clip.responsibilities, view)
    assert float(expected.rgb.std()) > 0.05
    of_fused = decibels(image(fused), image(expected.rgb))
    assert decibels(picture, image(expected.rgb)) > max(FEWEST_DB, of_fused + 12)

    page.choose("show", "gates")
    gates = expected.gates[..., 0].permute(1, 2, 0).numpy()
    assert gates.std(axis=(0, 1)).min() > 0.05, "the gates are all alike"
    assert np.abs(gates_of(page.picture()) - gates).mean() < GATE_ERROR
    page.choose("show", "strongest gate")
    is_same = np.abs(page.picture() - expected.argmax_gate.numpy()).max(-1) < 2 / 255
    assert is_same.mean() > 0.98
    for k, alone in enumerate(expected.images):
        page.choose("show", f"expert_{k} alone")
        assert decibels(page.picture(), image(alone)) > FEWEST_DB
    page.choose("show", "fused set")
    assert decibels(page.picture(), image(fused)) > FEWEST_DB - 5
    page.choose("show", "mixture")
    np.testing.assert_allclose(page.picture(), picture, atol=1 / 255)


def test_an_expert_whose_box_is_off_has_no_gate(page: PlayerPage, clip: GatedClip):
    go_to(page, 3, 0)
    boxes = page.driver.find_elements("css selector", "#legend input")
    boxes[1].click()
    picture = page.picture()
    expected = ours(clip, seen(clip, 3, 0, picture), (True, False, True))
    assert decibels(picture, image(expected.rgb)) > FEWEST_DB
    page.choose("show", "gates")
    gates = gates_of(page.picture())
    assert np.abs(gates[..., 1]).mean() < GATE_ERROR
    assert np.abs(gates - expected.gates[..., 0].permute(1, 2, 0).numpy()).mean() < GATE_ERROR
    for box in (boxes[0], boxes[2]):
        box.click()
    np.testing.assert_allclose(page.picture(), 0.4, atol=1.5 / 255)  # the mean of the backgrounds


def test_colours_by_expert_are_blended_by_the_gates(page: PlayerPage):
    go_to(page, 0, 0)
    own = page.picture()
    page.choose("colours", "by expert")
    assert np.abs(page.picture() - own).mean() > 0.02


def corrected() -> GatedClip:
    """A mixture whose logits are corrected by evidence, with a quarter of equal gates."""
    clip = made(VolumeAwarePixelRouterConfig(stacked=True), uniform=0.25)
    router = clip.mixture.router
    assert isinstance(router, VolumeAwarePixelRouter) and router.correction is not None
    generator = torch.Generator().manual_seed(8)
    evidence = [{name: torch.rand(n, generator=generator) for name in EVIDENCE} for n in COUNTS]
    slopes = torch.tensor([0.7, -0.4, 2.0, -1.5, 1.0, 0.8])
    router.correction.set_(evidence, torch.tensor([0.3, -0.2, 0.1]), slopes)
    clip.mixture.eval()
    assert router.fitted_correction is not None
    return clip


ROUTERS = {
    "without Φ": lambda: made(VolumeAwarePixelRouterConfig(refine=False)),
    "without w_dir": lambda: made(VolumeAwarePixelRouterConfig(direction_weights=False), 0.2),
    "wide Φ": lambda: made(VolumeAwarePixelRouterConfig(hidden=(20, 18))),
    "rays alone": lambda: made(PixelRouterConfig(hidden=(8, 8))),
    "corrected": corrected,
}


@pytest.mark.parametrize("name", ROUTERS)
def test_routers_of_other_kinds(browser: PlayerPage, folder: Path, name: str):
    clip = ROUTERS[name]()
    browser.open(written(clip, folder / "other.html"))
    go_to(browser, 3, 1)
    picture = browser.picture()
    expected = ours(clip, seen(clip, 3, 1, picture))
    assert float(expected.gates.std(dim=(1, 2)).mean()) > 0.02
    fewest = FEWEST_DB_CORRECTED if name == "corrected" else FEWEST_DB
    assert decibels(picture, image(expected.rgb)) > fewest
    browser.choose("show", "gates")
    gates = expected.gates[..., 0].permute(1, 2, 0).numpy()
    assert np.abs(gates_of(browser.picture()) - gates).mean() < GATE_ERROR


@pytest.mark.parametrize(
    ("missing", "found"),
    [("EXT_float_blend", "RGBA16F"), ("EXT_color_buffer_float|EXT_color_buffer_half_float", None)],
)
def test_browsers_that_can_do_less(browser, folder, clip, missing: str, found: str | None):
    """Half floats are good enough; without them the fused set is shown, and the page says so."""
    before = (
        "<script>const all = WebGL2RenderingContext.prototype.getExtension;"
        "WebGL2RenderingContext.prototype.getExtension = function (name) {"
        f"return /{missing}/.test(name) ? null : all.call(this, name); }};</script>"
    )
    text = (folder / "clip.html").read_text("utf8")
    (folder / "less.html").write_text(text.replace("<body>", f"<body>{before}", 1), "utf8")
    browser.open(folder / "less.html")
    go_to(browser, 3, 0)
    made_of = "return player.renderer.mixture && player.renderer.mixture.format"
    assert browser.run(made_of) == found
    picture = browser.picture()
    view = seen(clip, 3, 0, picture)
    about = browser.driver.find_element("id", "about").text
    shows = browser.driver.find_element("id", "show").is_displayed()
    if found is None:
        expected = fused_image(clip.mixture, clip.responsibilities, view)
        assert "This browser cannot draw into textures of floats" in about and not shows
    else:
        expected = ours(clip, view).rgb
        assert "This browser cannot" not in about and shows
    assert decibels(picture, image(expected)) > 40.0


def test_nothing_was_loaded_and_nothing_went_wrong(browser: PlayerPage):
    logged = browser.driver.get_log("browser")
    assert [each for each in logged if each["level"] in ("SEVERE", "WARNING")] == []
