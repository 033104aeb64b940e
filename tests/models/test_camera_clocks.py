"""Experts whose training cameras run ahead or behind, in mixtures: only training views know it."""

from typing import Any

import pytest
import torch
from mixture_helpers import expert, mix, views
from nerfstudio.data.scene_box import OrientedBox
from tiny import TinyRuns
from tolerances import FORWARD

from moegs_ns.cameras import view_from_cameras
from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.experts.base import Expert
from moegs_ns.mixture.mixture import Mixture
from moegs_ns.routers import PixelRouterConfig, VolumeAwarePixelRouterConfig, VolumeRouterConfig
from moegs_ns.runs.checkpoint import open_run

COUNTS = (14, 9)
CAMERA, AHEAD = 3, 0.25
EVERYWHERE = OrientedBox(R=torch.eye(3), T=torch.zeros(3), S=torch.full((3,), 1e6))


def ahead(built: Expert) -> Expert:
    """The expert, as one camera's clock shows it."""
    plain = built.at

    def at(time, camera=None):
        is_ahead = camera is not None and int(camera) == CAMERA
        return plain(time + AHEAD if is_ahead else time)

    built.at = at
    return built


@pytest.mark.parametrize(
    "router", [PixelRouterConfig(), VolumeRouterConfig(), VolumeAwarePixelRouterConfig()]
)
def test_a_mixture_draws_its_experts_by_the_camera_s_clock(router):
    mixtures = []
    for wrapped in (lambda built: built, ahead):
        torch.manual_seed(0)  # Experts draw a part of their parameters from it.
        built = [wrapped(expert(seed, count)) for seed, count in enumerate(COUNTS)]
        mixtures.append(mix(built, router))
    on_time, early = mixtures
    view = views()[1]
    later = view.select(torch.tensor([0]))
    later.times.add_(AHEAD)
    for camera, shown in ((CAMERA, later), (CAMERA + 1, view), (None, view)):
        number = None if camera is None else torch.tensor(camera)
        found, expected = early.render(view, camera=number), on_time.render(shown)
        FORWARD.assert_close(found.images, expected.images)
        parts = early.gaussians(view.time, EVERYWHERE, number)
        FORWARD.assert_close(early.render(view, gaussians=parts).images, expected.images)
        parts = early.gaussians(view.time, camera=number)
        for part, wanted in zip(parts, on_time.gaussians(shown.time), strict=True):
            assert torch.equal(part.means, wanted.means)
    assert not torch.allclose(on_time.render(later).images, on_time.render(view).images, atol=1e-3)


def test_routers_and_students_see_clocks_and_held_out_views_do_not(
    tiny_runs: TinyRuns, monkeypatch
):
    asked, apart = [], []
    plain, sets = Mixture.render, Mixture.gaussians

    def render(self, view, camera=None, gaussians=None, **more):
        if gaussians is None:
            asked.append(None if camera is None else int(camera))
        return plain(self, view, camera=camera, gaussians=gaussians, **more)

    def gaussians(self, time, box=None, camera=None, **more):
        apart.append(None if camera is None else int(camera))
        return sets(self, time, box, camera, **more)

    monkeypatch.setattr(Mixture, "render", render)
    monkeypatch.setattr(Mixture, "gaussians", gaussians)
    pipeline = load_pipeline(open_run(tiny_runs.router))
    model: Any = pipeline.model
    cameras = pipeline.datamanager.train_dataset.cameras
    assert cameras.metadata is not None
    number = int(cameras.metadata["camera_id"][7])
    model.get_outputs_for_camera(cameras[7:8])
    model.recorded_outputs(view_from_cameras(cameras[7:8]))
    model.train().get_outputs(cameras[7:8])
    assert asked == [None, number, number] and apart == []
    # The gates of the next frame are looked at by the same clock.
    model.config.recipe.weight_gate_change = 0.1
    model.get_outputs(cameras[7:8])
    assert apart == [number]
