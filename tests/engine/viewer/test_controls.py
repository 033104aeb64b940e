"""Every control of the viewer does what it says, in nerfstudio's viewer without a browser."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from live_viewers import NUM_FRAMES, Opened, data, in_front, opened, training_view
from tiny_models import expert_model, mixture_model

from moegs_ns.engine.viewer.nearest import NearestImages
from moegs_ns.engine.viewer.picture import GATES
from moegs_ns.mixture.live import at_temperature
from moegs_ns.models.viewing import Crop
from moegs_ns.routers import VolumeRouterConfig


@pytest.fixture(scope="module")
def module_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("viewer")


@pytest.fixture(scope="module")
def module_viewer(module_folder: Path) -> Iterator[Opened]:
    model = in_front(mixture_model())
    with opened(model, data(module_folder / "scene"), module_folder, port=7431) as seen:
        yield seen


@pytest.fixture
def seen(module_viewer: Opened) -> Iterator[Opened]:
    """The viewer of a mixture of `a` and `b`, as it is when it opens."""
    live = module_viewer.live
    controls = [
        *vars(live.look).values(), *live.experts.switches, live.experts.temperature,
        live.experts.prune, live.playback.frame, live.playback.loop, live.playback.speed,
    ]  # fmt: skip
    before = [(control, control.value) for control in controls if hasattr(control, "value")]
    yield module_viewer
    live.playback.player.pause()
    live.playback.player.loops = True
    live.playback.player.seek(0)
    for control, value in before:
        if control.value != value:
            control.value = value
    module_viewer.viewer.control_panel._time.value = 0.0


def render(seen: Opened, temperature: float | None = None):
    """The mixture as it is without the viewer, at the viewer's time."""
    view = training_view(seen.datamanager)
    view.times.fill_(float(seen.viewer.control_panel.time))
    with torch.no_grad(), at_temperature(seen.model.mixture, temperature):
        return seen.model.mixture.render(view)


# ---- time ----


def test_the_frame_slider_and_nerfstudios_time_slider_are_one(seen: Opened):
    first = seen.picture()
    seen.set("Frame", 3)
    seen.wait(lambda: seen.viewer.control_panel.time == 0.75, "the time slider does not follow")
    assert (seen.picture() - first).abs().max() > 0.02
    seen.set("Time", 0.5)
    seen.wait(lambda: seen.live.playback.frame.value == 2, "the frame slider does not follow")
    seen.wait(lambda: seen.client.control("Frame")["value"] == 2, "the page is not told")


def test_play_advances_by_itself_and_pause_stops_it(seen: Opened):
    seen.client.set("Frames per second", 4.0)
    seen.wait(lambda: seen.live.playback.player.speed == 4.0, "the speed does nothing")
    num_pictures, frames = len(seen.client.pictures), set()
    seen.client.set("Play clip", True)

    def has_shown_all() -> bool:
        frames.add(seen.client.control("Frame")["value"])
        return len(frames) == NUM_FRAMES

    seen.wait(has_shown_all, "not all frames come")
    seen.wait(lambda: len(seen.client.pictures) > num_pictures + 2, "the picture stands still")
    assert (
        seen.client.control("Pause clip")["visible"]
        and not seen.client.control("Play clip")["visible"]
    )
    seen.client.set("Pause clip", True)
    seen.wait(lambda: not seen.live.playback.player.is_playing, "pause does nothing")
    frame = seen.live.playback.player.frame
    time.sleep(0.3)
    assert seen.live.playback.player.frame == frame


def test_without_loop_it_stops_at_the_last_frame(seen: Opened):
    seen.client.set("Loop clip", False)
    seen.wait(lambda: not seen.live.playback.player.loops, "loop does nothing")
    seen.client.set("Frames per second", 100.0)
    seen.client.set("Play clip", True)
    seen.wait(lambda: seen.viewer.control_panel.time == 1.0, "the end does not come")
    seen.wait(lambda: bool(seen.client.control("Play clip")["visible"]), "it seems to play on")


@pytest.mark.parametrize(("button", "frame"), [("Forward", 1), ("Back", NUM_FRAMES - 1)])
def test_steps_are_frames(seen: Opened, button: str, frame: int):
    seen.set("Step", button)
    seen.wait(lambda: seen.live.playback.frame.value == frame, "it does not step")
    assert seen.viewer.control_panel.time == frame / (NUM_FRAMES - 1)


def test_the_picture_is_of_the_newest_time_however_long_it_takes(seen: Opened):
    """What is drawn last is what the slider shows, though frames came while it was drawn."""
    held, draw = threading.Event(), seen.live.draw

    def slow(view, crop):
        held.wait(10.0)
        return draw(view, crop)

    seen.model.draw_live = slow
    try:
        for frame in (1, 2, 3):
            seen.client.set("Frame", frame)
            seen.wait(lambda f=frame: seen.live.playback.frame.value == f, "it does not move")
        held.set()
        seen.wait(lambda: seen.live._seen[0][0].times.item() == 0.75, "the picture lags behind")
    finally:
        held.set()
        seen.model.draw_live = draw


# ---- what is shown ----


def test_every_output_is_shown_by_its_name(seen: Opened):
    whole = render(seen)
    expected = {
        "Mixture": whole.rgb, "a": whole.images[0], "b": whole.images[1],
        "Strongest gate": whole.argmax_gate,
    }  # fmt: skip
    options = seen.client.control("Show")["options"]
    assert list(options) == [
        "Mixture", "a", "b", "Depth", "Accumulation", "Strongest gate",
        "Gate of a", "Gate of b", "Training image", "Error",
    ]  # fmt: skip
    pictures = {}
    for name in options[1:] + options[:1]:
        seen.set("Show", name)
        pictures[name] = seen.picture()
        if name in expected:
            torch.testing.assert_close(pictures[name], expected[name].clamp(0, 1))
    for one in options:
        same = [other for other in options if torch.equal(pictures[one], pictures[other])]
        assert same == [one]


def test_an_expert_alone_costs_no_mixture(seen: Opened, monkeypatch: pytest.MonkeyPatch):
    seen.set("Show", "b")
    monkeypatch.setattr(type(seen.model.mixture), "render", None)
    seen.picture()


def test_the_colours_of_maps_can_be_chosen(seen: Opened):
    seen.set("Show", "Gate of a")
    seen.set("Map colours", "gray")
    gray = seen.picture()
    torch.testing.assert_close(gray, render(seen).gates[0].expand(-1, -1, 3))


def test_the_overlay_follows_its_strength(seen: Opened):
    plain = seen.picture()
    seen.set("Overlay", GATES)
    half = seen.picture()
    seen.set("Overlay strength", 1.0)
    full = seen.picture()
    torch.testing.assert_close(half, 0.5 * (plain + full), atol=2e-2, rtol=0.0)
    assert (full - plain).abs().max() > 0.1


def test_split_shows_a_second_output_right_of_the_line(seen: Opened):
    mixture = seen.picture()
    seen.set("Split", True)
    seen.set("Right of the line", "b")
    seen.set("Line", 0.25)
    shown, width = seen.picture(), mixture.shape[1]
    column = int(0.25 * width)
    assert torch.equal(shown[:, :column], mixture[:, :column])
    own = render(seen).images[1].clamp(0, 1)
    torch.testing.assert_close(shown[:, column + 1 :], own[:, column + 1 :])


def test_the_legend_names_every_expert(seen: Opened):
    assert any("■</span> a" in text and "■</span> b" in text for text in seen.client.texts())


def test_the_error_is_that_of_the_training_image_of_the_instant(seen: Opened):
    seen.set("Frame", 3)
    seen.set("Show", "Error")
    seen.set("Map colours", "gray")
    view, image = seen.datamanager.training_image(3)
    with torch.no_grad():
        drawn = seen.model.mixture.render(view).rgb.clamp(0, 1)
    error = (drawn - image).abs().mean(-1, keepdim=True)
    expected = (error / 0.2).clamp(0, 1).expand(-1, -1, 3)
    torch.testing.assert_close(seen.picture(3), expected)
    seen.wait(lambda: any("Camera 1, frame 3: PSNR" in t for t in seen.client.texts()), "not told")


# ---- experts ----


def test_an_expert_can_be_switched_off_but_not_the_last_one(seen: Opened):
    both = seen.picture()
    seen.set("a", False)
    torch.testing.assert_close(seen.picture(), render(seen).images[1].clamp(0, 1))
    seen.wait(lambda: bool(seen.client.control("b")["disabled"]), "nothing is left to be seen")
    assert seen.live.experts.is_on() == (False, True)
    seen.set("As trained", True)
    seen.wait(lambda: all(seen.live.experts.is_on()), "it is not as trained")
    seen.wait(lambda: not seen.client.control("b")["disabled"], "it stays disabled")
    assert torch.equal(seen.picture(), both)


def test_the_temperature_sharpens_the_gates(seen: Opened):
    seen.set("Show", "Gate of a")
    seen.set("Map colours", "gray")
    seen.set("Gate temperature", 0.1)
    gate = render(seen, temperature=0.1).gates[0]
    torch.testing.assert_close(seen.picture(), gate.expand(-1, -1, 3))


def test_pruning_is_a_preview_with_a_live_count(seen: Opened):
    whole = seen.picture()
    before = {name: value.clone() for name, value in seen.model.named_parameters()}
    seen.set("Prune", 0.8)
    kept = seen.live.choices().keep
    assert kept is not None and sum(int(mask.sum()) for mask in kept) == 14  # of 70
    seen.wait(lambda: any("14 of 70 Gaussians" in t for t in seen.client.texts()), "no count")
    assert (seen.picture() - whole).abs().max() > 0.02
    torch.testing.assert_close(dict(seen.model.named_parameters()), before, rtol=0.0, atol=0.0)


# ---- cameras ----


def test_a_jump_looks_through_the_camera(seen: Opened):
    names = seen.client.control("Camera")["options"]
    assert list(names) == ["Camera 1", "Camera 2", "Camera 3", "Camera 0 (held out)"]
    [client] = seen.viewer.viser_server.get_clients().values()
    for name, dataset, row in (
        ("Camera 3", seen.datamanager.train_dataset, 2 * NUM_FRAMES),
        ("Camera 0 (held out)", seen.datamanager.eval_dataset, 0),
    ):
        camera = dataset.cameras[row]
        seen.client.set("Camera", name)
        seen.client.set("Look through it", True)
        fov = float(2 * torch.atan(camera.height / 2 / camera.fy))
        place = 10 * camera.camera_to_worlds[:, 3].numpy()
        seen.wait(lambda p=place: np.allclose(client.camera.position, p), "it stays where it is")
        # The field of view is told last.
        seen.wait(lambda f=fov: abs(client.camera.fov - f) < 1e-6, "it keeps its field of view")
        state = seen.viewer.get_camera_state(client)
        torch.testing.assert_close(state.c2w.float(), camera.camera_to_worlds, atol=1e-5, rtol=0.0)


def test_held_out_cameras_have_frustums_too(seen: Opened):
    frustums = [name for name in seen.client.nodes if "camera_" in name]
    assert sorted(name.split("/")[1] for name in frustums) == ["cameras"] * 15 + ["held_out"]


# ---- clicks ----


def test_a_click_reads_out_the_tensors(seen: Opened):
    seen.client.set("Read out clicks", True)
    seen.wait(lambda: seen.client.clicks_are_wanted, "the page is not told")
    seen.set("Frame", 2)
    seen.wait(lambda: seen.live._seen[0][0].height == 42, "the last picture does not come")
    view = seen.live._seen[0][0]
    whole = seen.model.mixture.render(view)
    y, x = divmod(int((whole.accumulation[..., 0]).argmax()), view.width)
    seen.client.click((x + 0.5) / view.width, (y + 0.5) / view.height)
    seen.wait(lambda: seen.live.click.reading is not None, "a click reads nothing")
    reading = seen.live.click.reading
    assert (reading.x, reading.y) == (x, y)
    torch.testing.assert_close(reading.color, whole.rgb[y, x].clamp(0, 1))
    torch.testing.assert_close(torch.tensor(reading.gates), whole.gates[:, y, x, 0])
    torch.testing.assert_close(reading.expert_colors, whole.images[:, y, x].clamp(0, 1))
    assert reading.depth == pytest.approx(float(whole.depth[y, x]))
    seen.wait(lambda: any(f"Pixel {x}, {y}" in t for t in seen.client.texts()), "not told")
    seen.wait(lambda: "/probe/point" in seen.client.nodes, "there is no marker")

    seen.client.set("Trajectories", True)
    seen.client.set("Number of lines", 7)
    seen.client.click((x + 0.5) / view.width, (y + 0.5) / view.height)
    lines = lambda: [name for name in seen.client.nodes if "/probe/line" in name]  # noqa: E731
    seen.wait(lambda: len(lines()) == 7, "there are no lines")
    seen.client.set("Clear", True)
    seen.wait(lambda: not lines() and "/probe/point" not in seen.client.nodes, "not cleared")
    seen.client.set("Read out clicks", False)
    seen.wait(lambda: not seen.client.clicks_are_wanted, "clicks stay wanted")


# ---- around it ----


def test_nothing_but_the_picture_is_drawn_and_only_in_the_viewer(seen: Opened):
    assert seen.viewer.control_panel.output_render == "rgb"
    from tiny_models import camera

    assert set(seen.model.get_outputs_for_camera(camera())) > {"rgb", "gate_a", "rgb_b"}


def test_a_crop_hides_what_lies_outside(seen: Opened):
    from nerfstudio.data.scene_box import OrientedBox

    nowhere = OrientedBox(R=torch.eye(3), T=torch.full((3,), 1e4), S=torch.ones(3))
    color = torch.tensor([0.2, 0.4, 0.6])
    shown = seen.live.draw(training_view(seen.datamanager), Crop(nowhere, color))["rgb"]
    torch.testing.assert_close(shown, color.expand_as(shown))


def test_nearest_is_the_camera_that_stands_and_looks_alike(seen: Opened):
    nearest = NearestImages(seen.datamanager)
    for index in (0, 7, 14):
        assert nearest.index(training_view(seen.datamanager, index)) == index


@pytest.mark.parametrize("kind", ["expert", "volume"])
def test_other_models_have_the_controls_that_fit_them(tmp_path: Path, kind: str):
    model = expert_model() if kind == "expert" else mixture_model(VolumeRouterConfig())
    port = 7433 if kind == "expert" else 7434
    with opened(in_front(model), data(tmp_path / "scene"), tmp_path, port) as seen:
        first = seen.picture()
        for name in seen.client.control("Show")["options"][1:]:
            seen.set("Show", name)
            assert (seen.picture() - first).abs().max() > 0.02, name
        seen.set("Prune", 0.5)
        seen.set("Frame", 3)
        if kind == "expert":
            assert not seen.live.experts.switches
            assert not seen.client.control("Overlay")["visible"]
        else:
            seen.set("Show", "Mixture")
            both = seen.picture()
            seen.set("a", False)
            assert (seen.picture() - both).abs().max() > 0.02
