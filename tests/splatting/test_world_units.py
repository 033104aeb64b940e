"""Worlds in any unit are drawn alike: no length of the code is one of the world."""

from dataclasses import replace
from types import ModuleType

import pytest
import torch
from mixture_helpers import SCENE, mixture, views

from moegs_ns.cameras import View
from moegs_ns.evaluation.depth import DEPTHS, fused_depth
from moegs_ns.experts.base import near_plane
from moegs_ns.experts.stg.expert import STGExpertConfig
from moegs_ns.mixture.fuse import fused_image
from moegs_ns.mixture.mixture import Mixture
from moegs_ns.mixture.volume_mixture import mixture_of
from moegs_ns.routers import RouterConfig, VolumeAwarePixelRouterConfig, VolumeRouterConfig
from moegs_ns.scene import InitialPoints
from moegs_ns.splatting import backend_numba, reference, render
from moegs_ns.splatting.projection import NEAR

UNITS = (1e-4, 1e-3, 1e3)
"""Sizes of a world in its own unit, beside that of the helpers."""


def in_unit(built: Mixture, config: RouterConfig, unit: float, near: float = 0.15) -> Mixture:
    """The same mixture, in a world where all lengths are `unit` times as large."""
    center, extent = SCENE.center, unit * SCENE.extent
    scene = replace(SCENE, center=tuple(unit * value for value in center), extent=extent)
    experts = []
    for expert in built.experts:
        count = expert.num_gaussians
        cloud = InitialPoints(torch.rand(count, 3), torch.rand(count, 3))
        other = STGExpertConfig(near=near).setup(scene=scene, points=cloud)
        for name, value in expert.gauss_params.items():
            own = value.detach().clone()
            if name in ("means", "motion"):
                own = own * unit
            elif name == "scales":
                own = own + torch.tensor(unit).log()
            other.gauss_params[name].data = own
        experts.append(other)
    counts = [expert.num_gaussians for expert in experts]
    router = config.setup(scene=scene, counts=counts)
    state = {k: v for k, v in built.router.state_dict().items() if not k.startswith("scene_")}
    router.load_state_dict(state, strict=False)
    return mixture_of(experts, router, built.temperature)


def seen_in_unit(view: View, unit: float) -> View:
    viewmats = view.viewmats.clone()
    viewmats[:, :3, 3] *= unit
    return replace(view, viewmats=viewmats)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("config", [VolumeAwarePixelRouterConfig(), VolumeRouterConfig()])
@torch.no_grad()
def test_mixtures_look_the_same_in_any_unit(config: RouterConfig, unit: float):
    """Below an extent of 0.01 units nothing was drawn."""
    built = mixture(30, 20, router=config)
    plain, scaled = (in_unit(built, config, value) for value in (1.0, unit))
    view = views()[1]
    expected = plain.render(view)
    found = scaled.render(seen_in_unit(view, unit))
    assert float(expected.rgb.mean()) > 0.05
    torch.testing.assert_close(found.rgb, expected.rgb, atol=2e-3, rtol=0)
    torch.testing.assert_close(found.depth / unit, expected.depth, atol=2e-2, rtol=1e-2)


@pytest.mark.parametrize("unit", UNITS)
@torch.no_grad()
def test_fused_sets_look_the_same_in_any_unit(unit: float):
    config = VolumeAwarePixelRouterConfig()
    built = mixture(30, 20, router=config)
    shares = [torch.rand(expert.num_gaussians) for expert in built.experts]
    plain, scaled = (in_unit(built, config, value) for value in (1.0, unit))
    view = views()[1]
    there = seen_in_unit(view, unit)
    expected = fused_image(plain, shares, view)
    assert float(expected.mean()) > 0.02
    torch.testing.assert_close(fused_image(scaled, shares, there), expected, atol=2e-3, rtol=0)
    for depth in DEPTHS:
        found = fused_depth(scaled, shares, there, depth) / unit
        close = (found - fused_depth(plain, shares, view, depth)).abs() < 0.02
        assert float(close.float().mean()) > 0.97


@pytest.mark.parametrize("backend", [reference, backend_numba])
@torch.no_grad()
def test_a_near_plane_below_the_default_is_kept(backend: ModuleType):
    """A render took 0.01 where it was asked for less."""
    built = in_unit(mixture(30), VolumeAwarePixelRouterConfig(), 1e-3)
    gaussians = built.experts[0].at(torch.tensor(0.5))
    view = seen_in_unit(views()[1], 1e-3)
    shown = render(gaussians, view, near=built.experts[0].near, backend=backend)
    assert built.experts[0].near < NEAR
    assert float(shown.alpha.mean()) > 0.05
    assert not bool(render(gaussians, view, near=NEAR, backend=backend).alpha.any())


@pytest.mark.parametrize(
    ("near", "extent", "expected"),
    [
        (0.15, 2.0, 0.3), (0.15, 0.002, 0.0003), (0.0, 2.0, NEAR), (0.0, 500.0, NEAR),
        (0.0, 0.002, 1e-5), (0.001, 4.0, NEAR),
    ],
)  # fmt: skip
def test_near_planes_go_with_the_extent(near: float, extent: float, expected: float):
    scene = replace(SCENE, extent=extent)
    assert near_plane(STGExpertConfig(near=near), scene) == pytest.approx(expected)
