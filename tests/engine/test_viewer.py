"""What nerfstudio's viewer asks of a run."""

import os
import subprocess
import sys
from pathlib import Path

import jaxtyping
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.viewer.utils import parse_object
from nerfstudio.viewer.viewer import Viewer
from nerfstudio.viewer.viewer_elements import ViewerElement
from nerfstudio.viewer_legacy.server.viewer_utils import IOChangeException, SetTrace
from tiny import TinyRuns

from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.engine.viewer import LiveViewer
from moegs_ns.runs.checkpoint import open_run


@pytest.fixture(scope="module")
def pipelines(tiny_runs: TinyRuns):
    """An expert's and the router's pipelines."""
    methods = ("moegs-stg", "moegs-router")
    return {method: load_pipeline(open_run(tiny_runs.config(method))) for method in methods}


def viewer_camera(pipeline, time: float) -> Cameras:
    """A camera as the viewer makes it: an odd size, metadata of its own."""
    source = pipeline.datamanager.train_dataset.cameras[:1]
    return Cameras(
        camera_to_worlds=source.camera_to_worlds, fx=30.0, fy=30.0, cx=16.5, cy=12.5,
        width=33, height=25, times=torch.tensor([[time]]),
        metadata={"cam_idx": 0},
    )  # fmt: skip


@pytest.mark.parametrize("method", ["moegs-stg", "moegs-router"])
def test_the_time_slider_appears_and_moves_the_picture(pipelines, method):
    pipeline = pipelines[method]
    assert pipeline.datamanager.includes_time
    early, late = (
        pipeline.model.get_outputs_for_camera(viewer_camera(pipeline, time)) for time in (0.0, 1.0)
    )
    assert (early["rgb"] - late["rgb"]).abs().max() > 0.02


def test_outputs_to_choose_from(pipelines):
    pipeline = pipelines["moegs-router"]
    outputs = pipeline.model.get_outputs_for_camera(viewer_camera(pipeline, 0.5))
    assert set(outputs) == {
        "rgb", "depth", "accumulation", "argmax_gate",
        "rgb_stg", "gate_stg", "rgb_4dgaussians", "gate_4dgaussians",
    }  # fmt: skip
    for name, value in outputs.items():
        channels = 3 if name.startswith(("rgb", "argmax_gate")) else 1
        assert value.shape == (25, 33, channels), name
        assert value.isfinite().all(), name
    gates = outputs["gate_stg"] + outputs["gate_4dgaussians"]
    torch.testing.assert_close(gates, torch.ones_like(gates))


@pytest.mark.parametrize("method", ["moegs-stg", "moegs-router"])
def test_a_crop_box_hides_what_lies_outside(pipelines, method):
    pipeline = pipelines[method]
    camera = viewer_camera(pipeline, 0.5)
    nowhere = OrientedBox(R=torch.eye(3), T=torch.full((3,), 1e4), S=torch.ones(3))
    everywhere = OrientedBox(R=torch.eye(3), T=torch.zeros(3), S=torch.full((3,), 1e6))
    whole = pipeline.model.get_outputs_for_camera(camera)
    assert pipeline.model.get_outputs_for_camera(camera, nowhere)["accumulation"].max() == 0
    cropped = pipeline.model.get_outputs_for_camera(camera, everywhere)
    torch.testing.assert_close(cropped["rgb"], whole["rgb"])


class BrokenOff:
    """Ends an image at one of its lines of Python, as the viewer does when the camera moves."""

    def __init__(self, line: int | None = None) -> None:
        self.line, self.num_lines = line, 0

    def __call__(self, frame, event, argument):
        self.num_lines += event == "line"
        if event == "line" and self.num_lines == self.line:
            raise IOChangeException
        return self


@pytest.mark.parametrize("method", ["moegs-stg", "moegs-router"])
def test_an_image_that_is_broken_off_leaves_the_model_as_it_was(pipelines, method, monkeypatch):
    # The checker of shapes would make a TypeCheckError of what breaks it off.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    model = pipelines[method].model
    camera = viewer_camera(pipelines[method], 0.3)

    def draw(trace: BrokenOff) -> dict[str, torch.Tensor]:
        with torch.no_grad(), SetTrace(trace):
            return model.get_outputs_for_camera(camera)

    draw(BrokenOff())  # What only the first image does counts neither here nor below.
    whole = BrokenOff()
    expected = draw(whole)
    kept = dict(model.named_parameters()) | dict(model.named_buffers())
    before = {name: value.detach().clone() for name, value in kept.items()}
    for line in range(1, whole.num_lines, whole.num_lines // 50):
        with pytest.raises(IOChangeException):
            draw(BrokenOff(line))
    torch.testing.assert_close(kept, before, rtol=0.0, atol=0.0)
    torch.testing.assert_close(draw(BrokenOff()), expected, rtol=0.0, atol=0.0)


@pytest.mark.parametrize("method", ["moegs-stg", "moegs-router"])
def test_no_trace_function_runs_inside_a_render(pipelines, method):
    """Numba's dispatcher, which calls Python from C, would turn the viewer's exception into a
    SystemError and its thread would end; an import that was aborted would fail every later one."""
    model, camera = pipelines[method].model, viewer_camera(pipelines[method], 0.3)
    modules = set()

    def trace(frame, event, argument):
        modules.add(frame.f_globals.get("__name__", ""))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        model.get_outputs_for_camera(camera)
        assert sys.gettrace() is trace, "what comes after the render can be aborted"
    finally:
        sys.settrace(before)
    assert "moegs_ns.cameras" in modules, "what comes before the render can be aborted"
    assert not [name for name in modules if name.startswith(("numba", "moegs_ns.splatting"))]


@pytest.mark.parametrize("method", ["moegs-stg", "moegs-router"])
def test_the_viewer_can_walk_through_the_pipeline(pipelines, method):
    """It evaluates every property on the way; one that raises would break the viewer."""
    parse_object(pipelines[method], ViewerElement, "Custom Elements")


@pytest.mark.parametrize(("asked", "pictures_per_camera"), [(512, 1), (-1, 6)])
def test_each_camera_hangs_one_picture_into_the_viewer(
    pipelines, tmp_path, asked, pictures_per_camera
):
    pipeline = pipelines["moegs-stg"]
    dataset = pipeline.datamanager.train_dataset
    config = ViewerConfig(websocket_port=7391, max_num_display_images=asked)
    viewer = Viewer(config, tmp_path / "log", tmp_path, pipeline)
    try:
        viewer.init_scene(dataset, "completed")
    finally:
        viewer.viser_server.stop()
    shown = dataset.frame_table.camera_ids[list(viewer.camera_handles)]
    cameras, counts = shown.unique(return_counts=True)
    assert len(cameras) == len(dataset.frame_table.camera_ids.unique())
    assert (counts == pictures_per_camera).all()


@pytest.mark.parametrize("method", ["moegs-stg", "moegs-router"])
def test_a_run_brings_our_controls_and_hides_what_they_replace(pipelines, tmp_path, method):
    """The pipeline of every training and of ns-viewer is this one."""
    viewer = Viewer(
        ViewerConfig(websocket_port=7392), tmp_path / "log", tmp_path, pipelines[method]
    )
    panel = viewer.control_panel
    try:
        [live] = [one for one in viewer.viewer_controls if isinstance(one, LiveViewer)]
        assert live.playback is not None and live.playback.player.num_frames == 6
        # With it nerfstudio would offer `gl_z_buf_depth`, and mistake our depth for a distance.
        assert not panel.layer_depth
        hidden = [panel._output_render, panel._normalize, panel._layer_depth, panel._train_speed]
        assert not any(element.gui_handle.visible for element in hidden)
        assert not (viewer.pause_train.visible or viewer.resume_train.visible)
    finally:
        pipelines[method].model.draw_live = None
        viewer.viser_server.stop()


def test_a_command_ends_well_while_the_viewer_draws():
    code = """
import threading, time, torch
from toys import make_gaussians, make_view
from moegs_ns.engine.viewer import RenderThreads
from moegs_ns.splatting.rendering import render

class Drawing(threading.Thread):
    running = True

    def run(self):
        while self.running:
            render(gaussians, view)
            drawn.set()

class OpenViewer:
    viser_server = None

    def __init__(self):
        self.render_statemachines = {0: Drawing(daemon=True)}

gaussians, view = make_gaussians(torch.Generator().manual_seed(0)), make_view()
drawn, viewer = threading.Event(), OpenViewer()
RenderThreads()._setup(viewer)
viewer.render_statemachines[0].start()
assert drawn.wait(60)
"""
    # By PYTHONPATH: with PYTHONSAFEPATH set, `-c` does not look into the working folder.
    helpers = {"PYTHONPATH": str(Path(__file__).parents[1] / "helpers")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | helpers,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
