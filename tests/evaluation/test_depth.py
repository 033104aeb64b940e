"""Depth maps of experts, mixtures and fused sets, by either notion of depth."""

import pytest
import torch
from mixture_helpers import SCENE, expert, mix, mixture, views
from tolerances import EXACT, FORWARD
from toys import make_view, median_depth

from moegs_ns.cameras import View
from moegs_ns.evaluation.depth import (
    DEPTHS,
    EXPECTED,
    MEDIAN,
    SOLID,
    Depth,
    expert_depth,
    fused_depth,
    mixture_depth,
)
from moegs_ns.experts.stg.expert import STGExpertConfig
from moegs_ns.gaussians import Gaussians
from moegs_ns.mixture.fuse import fuse
from moegs_ns.mixture.mixture import Mixture
from moegs_ns.mixture.responsibilities import responsibilities
from moegs_ns.routers import VolumeRouterConfig
from moegs_ns.splatting import render

EITHER = pytest.mark.parametrize("depth", DEPTHS, ids=lambda depth: depth.name)


@pytest.fixture
def rig() -> View:
    """Three cameras at one time, 21 x 17 pixels."""
    return make_view(3, width=21, height=17)


def dense(*counts: int, **options) -> Mixture:
    """Experts that fill about half of the image."""
    built = mixture(*counts, **options)
    for one in built.experts:
        one.gauss_params["scales"].data += 1.2
    return built


def test_there_are_two_notions_with_names():
    assert [depth.name for depth in DEPTHS] == ["expected", "median"]


def test_an_expert_has_what_splatting_gives(rig: View):
    one = dense(60).experts[0]
    gaussians = one.at(rig.time)
    drawn = render(gaussians, rig, near=one.near)
    expected = torch.where(drawn.alpha >= SOLID, drawn.depth, 0.0).detach()
    EXACT.assert_close(expert_depth(one, rig, EXPECTED), expected)
    EXACT.assert_close(expert_depth(one, rig, MEDIAN), median_depth(gaussians, rig, near=one.near))
    assert (expected > 0).any() and (expected == 0).any()


def test_a_mixture_has_the_blended_expected_depth(rig: View):
    mixed = dense(60, 50)
    maps = mixture_depth(mixed, rig, EXPECTED)
    for camera in range(3):
        render = mixed.render(rig.select(torch.tensor([camera])))
        expected = torch.where(render.accumulation >= SOLID, render.depth, 0.0).detach()
        EXACT.assert_close(maps[camera], expected)


def test_a_mixture_has_the_median_depth_of_its_argmax_gate(rig: View):
    mixed = dense(60, 50)
    alone = torch.stack([expert_depth(one, rig, MEDIAN) for one in mixed.experts])
    maps = mixture_depth(mixed, rig, MEDIAN)
    wins = set()
    for camera in range(3):
        gates = mixed.render(rig.select(torch.tensor([camera]))).gates
        argmax = gates.argmax(0)
        wins |= set(argmax.flatten().tolist())
        own = torch.where(argmax == 0, alone[0, camera], alone[1, camera])
        EXACT.assert_close(maps[camera], own)
    assert wins == {0, 1} and not torch.equal(alone[0], alone[1])


@EITHER
def test_one_expert_stays_itself(depth: Depth, rig: View):
    mixed = dense(60)
    FORWARD.assert_close(
        mixture_depth(mixed, rig, depth), expert_depth(mixed.experts[0], rig, depth)
    )
    everything = [torch.ones(60)]
    FORWARD.assert_close(
        fused_depth(mixed, everything, rig, depth), expert_depth(mixed.experts[0], rig, depth)
    )


@EITHER
def test_a_fused_set_is_drawn_as_one_set(depth: Depth, rig: View):
    mixed = dense(60, 50)
    weights = responsibilities(mixed, views()).values
    joint = fuse(mixed, weights, rig.time)
    maps = fused_depth(mixed, weights, rig, depth)
    EXACT.assert_close(maps, depth.of_set(joint, rig, 0.01).detach())
    assert (maps > 0).any()


@EITHER
def test_near_planes_of_a_fused_set_are_those_of_its_experts(depth: Depth, rig: View):
    mixed = dense(60, 50)
    mixed.experts[0].near = 3.5
    weights = [torch.ones(60), torch.zeros(50)]
    alone = expert_depth(mixed.experts[0], rig, depth)
    FORWARD.assert_close(fused_depth(mixed, weights, rig, depth), alone)
    assert float(alone[alone > 0].min()) > 3.5


@EITHER
def test_a_volume_mixture_is_drawn_as_one_set(depth: Depth, rig: View):
    """Scores are 0 at first, so opacities are the experts' own."""
    mixed = dense(60, 50, router=VolumeRouterConfig(), scramble=False)
    joint = Gaussians.cat(mixed.gaussians(rig.time))
    FORWARD.assert_close(mixture_depth(mixed, rig, depth), depth.of_set(joint, rig, 0.01).detach())


def test_experts_that_decode_colours_have_no_fused_set(rig: View):
    mixed = mix([expert(0, 5), STGExpertConfig(color="full").setup(scene=SCENE)])
    with pytest.raises(ValueError, match=r"number 2 \(STGExpert\) decodes colours per pixel"):
        fused_depth(mixed, [torch.ones(5), torch.ones(0)], rig, MEDIAN)
