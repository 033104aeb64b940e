"""What nerfstudio's viewer and renderer are shown: times, colours, crops, experts alone."""

import threading
from dataclasses import replace
from typing import Any
from unittest.mock import MagicMock, Mock

import pytest
import torch
from mixture_helpers import SCENE, expert, mix, views
from nerfstudio.cameras.camera_paths import get_interpolated_camera_path, get_path_from_json
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.model_components.renderers import background_color_override_context
from nerfstudio.viewer.render_state_machine import RenderStateMachine
from nerfstudio.viewer_legacy.server.viewer_utils import IOChangeException
from tiny_models import camera, expert_model, mixture_model
from tolerances import EXACT

from moegs_ns.engine.trainer import MoegsPipeline
from moegs_ns.mixture import volume_mixture
from moegs_ns.models import viewing
from moegs_ns.reports.scores import frame_seconds
from moegs_ns.routers import VolumeRouterConfig

MODELS = {
    "expert": expert_model,
    "mixture": mixture_model,
    "volume mixture": lambda: mixture_model(VolumeRouterConfig()),
}


@pytest.fixture(params=list(MODELS))
def model(request) -> Any:
    torch.manual_seed(0)
    viewing._tell_once.cache_clear()
    return MODELS[request.param]()


def test_a_camera_without_time_is_refused_and_told_what_to_use(model):
    with pytest.raises(ValueError, match=r"got one without; give every .* `moegs render RUN path"):
        model.get_outputs_for_camera(camera(time=None))


def test_a_scene_of_one_instant_needs_no_time(model):
    model.kwargs["metadata"]["scene"] = replace(SCENE, num_frames=1)
    model.get_outputs_for_camera(camera(time=None))


def test_one_missing_time_does_not_freeze_the_path(model):
    frames: list[dict[str, Any]] = [
        {"camera_to_world": torch.eye(4).flatten().tolist(), "fov": 50, "render_time": time}
        for time in (0.0, 0.5, 1.0)
    ]
    path = {"render_height": 18, "render_width": 24, "camera_path": frames}
    for one in get_path_from_json(path):
        model.get_outputs_for_camera(one)
    del frames[1]["render_time"]
    with pytest.raises(ValueError, match="every frame of a camera path its render_time"):
        model.get_outputs_for_camera(get_path_from_json(path)[:1])


def test_time_runs_between_cameras_or_the_path_is_refused(model):
    """nerfstudio 1.1.5 drops the times of `ns-render interpolate`."""
    first = camera(0.0)
    both = Cameras(
        first.camera_to_worlds.repeat(2, 1, 1), 20.0, 20.0, 12.0, 9.0, 24, 18,
        times=torch.tensor([[0.0], [1.0]]),
    )  # fmt: skip
    path = get_interpolated_camera_path(both, steps=3, order_poses=False)
    if path.times is None:
        with pytest.raises(ValueError, match=r"ns-render interpolate loses the times"):
            model.get_outputs_for_camera(path[:1])
    else:
        shown = [model.get_outputs_for_camera(path[k : k + 1])["rgb"] for k in (0, -1)]
        assert not torch.allclose(*shown, atol=0.02)


@pytest.mark.parametrize(("outside", "end"), [(-0.2, 0.0), (7.0, 1.0)])
def test_a_time_outside_of_the_clip_shows_its_end_and_says_so(model, capfd, outside, end):
    shown = model.get_outputs_for_camera(camera(outside))["rgb"]
    assert f"has the time {outside:g}" in capfd.readouterr().out
    EXACT.assert_close(shown, model.get_outputs_for_camera(camera(end))["rgb"])
    other = model.get_outputs_for_camera(camera(0.5))["rgb"]
    assert (shown - other).abs().max() > 0.02
    assert capfd.readouterr().out == ""


def test_colours_that_exceed_one_do_not_wrap_in_eight_bits(model):
    experts = [model.expert] if hasattr(model, "expert") else model.mixture.experts
    for one in experts:
        one.gauss_params["sh0"].data += 5.0
    outputs = model.get_outputs_for_camera(camera())
    pictures = {name: value for name, value in outputs.items() if value.shape[-1] == 3}
    assert len(pictures) == (1 if hasattr(model, "expert") else 4)
    for name, value in pictures.items():
        assert value.min() >= 0.0 and value.max() <= 1.0, name
    assert outputs["rgb"].max() == 1.0
    assert outputs["depth"].max() > 1.0, "depth is no colour"


def test_a_crop_lies_over_the_colour_that_the_viewer_chose(model):
    nowhere = OrientedBox(R=torch.eye(3), T=torch.full((3,), 1e4), S=torch.ones(3))
    color = torch.tensor([0.2, 0.4, 0.8])
    with background_color_override_context(color):
        cropped = model.get_outputs_for_camera(camera(), nowhere)
        whole = model.get_outputs_for_camera(camera())
    for name in [name for name in cropped if name.startswith("rgb")]:
        torch.testing.assert_close(cropped[name], color.expand(18, 24, 3))
    EXACT.assert_close(whole["rgb"], model.get_outputs_for_camera(camera())["rgb"])


@pytest.mark.parametrize("kind", ["FISHEYE", "EQUIRECTANGULAR", "VR180_L"])
def test_the_viewer_survives_a_camera_that_cannot_be_drawn(model, capfd, kind):
    found: list[BaseException] = []

    class Thread(RenderStateMachine):
        def __init__(self) -> None:
            threading.Thread.__init__(self)

        def run(self) -> None:
            for _ in range(2):
                try:
                    model.get_outputs_for_camera(camera(kind=CameraType[kind]))
                except BaseException as error:
                    found.append(error)

    thread = Thread()
    thread.start()
    thread.join()
    assert [type(error) for error in found] == [IOChangeException] * 2
    assert capfd.readouterr().out.count(f"the type {kind}") == 1


class TestExpertsAlone:
    """The Volume Router renders one set; each expert by itself is more than as much again."""

    @pytest.fixture
    def drawn(self, monkeypatch) -> list[int]:
        calls: list[int] = []
        plain = volume_mixture.render_experts

        def render_experts(gaussians, *args, **kwargs):
            calls.append(len(gaussians))
            return plain(gaussians, *args, **kwargs)

        monkeypatch.setattr(volume_mixture, "render_experts", render_experts)
        return calls

    def test_they_are_drawn_once_and_only_if_asked_for(self, drawn):
        mixed = mix([expert(0, 12), expert(1, 14)], VolumeRouterConfig())
        render = mixed.render(views()[0])
        assert render.rgb.shape == (17, 21, 3) and render.gates.shape == (2, 17, 21, 1)
        assert drawn == []
        assert not torch.allclose(render.images[0], render.images[1])
        assert not render.images.requires_grad
        assert len(render.rendered) == 2
        assert drawn == [2]

    def test_training_draws_one_set(self, drawn):
        model = mixture_model(VolumeRouterConfig()).train()
        model.training_outputs(views()[0])["rgb"].sum().backward()
        assert drawn == []

    def test_evaluation_still_compares_with_the_best_expert(self, drawn):
        model = mixture_model(VolumeRouterConfig())
        outputs = model.get_outputs_for_camera(camera())
        batch = {"image": outputs["rgb_b"], "is_moving": torch.ones(18, 24, 1, dtype=torch.bool)}
        metrics, _ = model.get_image_metrics_and_images(outputs, batch)
        assert metrics["psnr_b"] > metrics["psnr_a"]
        assert drawn == [2]

    def test_frames_are_timed_without_them(self, drawn):
        model = mixture_model(VolumeRouterConfig())
        pipeline = Mock(spec=MoegsPipeline, model=model, device="cpu")
        pipeline.datamanager = Mock(eval_dataset=MagicMock(cameras=camera()))
        pipeline.datamanager.eval_dataset.__len__.return_value = 1
        assert len(frame_seconds(pipeline, 1)) == 1
        assert drawn == []
        assert "rgb_a" in model.get_outputs_for_camera(camera()) and drawn == [2]
