"""Bounds on what a gate can reach, and how near a router comes."""

import pytest
import torch

from moegs_ns.evaluation.image_metrics import quantize
from moegs_ns.evaluation.routing import best_blend_error, fraction_reached, routing_maps

H, W = 6, 7


def colors(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return quantize(torch.rand(count, H, W, 3, generator=generator))


def searched(images: torch.Tensor, target: torch.Tensor, steps: int = 4000) -> torch.Tensor:
    """The best blend by conditional gradients, slow but without cases."""
    images, target = images.double(), target.double()
    now = images[0].clone()
    for _ in range(steps):
        away = now - target
        corner = (images * away).sum(-1).argmin(0)
        aim = images.gather(0, corner[None, ..., None].expand(1, H, W, 3))[0]
        step = aim - now
        size = step.square().sum(-1).clamp(min=1e-30)
        length = (-(away * step).sum(-1) / size).clamp(0.0, 1.0)
        now = now + length[..., None] * step
    return (now - target).square().sum(-1).float()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_the_best_blend_is_found_exactly(count: int):
    images, target = colors(count), colors(1, seed=9)[0]
    found, reference = best_blend_error(images, target), searched(images, target)
    torch.testing.assert_close(found, reference, atol=3e-4, rtol=0)
    assert (found <= reference + 1e-6).all(), "the search never gets below the minimum"


def test_two_experts_are_blended_along_their_segment():
    images, target = colors(2), colors(1, seed=9)[0]
    step = images[1] - images[0]
    fraction = (((target - images[0]) * step).sum(-1) / step.square().sum(-1)).clamp(0.0, 1.0)
    expected = (images[0] + fraction[..., None] * step - target).square().sum(-1)
    torch.testing.assert_close(best_blend_error(images, target), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_equal_experts_gain_nothing_by_blending(count: int):
    images, target = colors(1).repeat(count, 1, 1, 1), colors(1, seed=9)[0]
    expected = (images[0] - target).square().sum(-1)
    torch.testing.assert_close(best_blend_error(images, target), expected)


def test_bounds_are_in_order_and_no_gate_is_better():
    """Best blend <= oracle <= every expert, best blend <= any softmax."""
    images, target = colors(3), colors(1, seed=9)[0]
    logits = torch.randn(3, H, W, 1, generator=torch.Generator().manual_seed(1))
    gates = logits.softmax(0)
    maps = routing_maps(images, gates, (gates * images).sum(0), target)
    assert (maps.blend_error <= maps.oracle_error + 1e-7).all()
    assert (maps.oracle_error <= maps.expert_errors).all()
    exact = ((gates * images).sum(0) - target).square().sum(-1)
    assert (maps.blend_error <= exact + 1e-6).all()


def test_entropy_agreement_and_best_experts():
    images, target = colors(2), colors(2)[1]
    certain = torch.zeros(2, H, W, 1)
    certain[1] = 1.0
    right = routing_maps(images, certain, images[1], target)
    assert (right.agreement == 1).all() and (right.entropy == 0).all()
    assert (right.best[1] == 1).all() and (right.best.sum(0) == 1).all()
    wrong = routing_maps(images, certain.flip(0), images[0], target)
    assert (wrong.agreement == 0).all()
    torn = routing_maps(images, torch.full_like(certain, 0.5), images.mean(0), target)
    torch.testing.assert_close(torn.entropy, torch.ones(H, W))


def test_the_average_is_of_images_as_they_are_shown():
    images = torch.tensor([1.4, 0.6]).reshape(2, 1, 1, 1).expand(2, 1, 1, 3)
    gates, target = torch.full((2, 1, 1, 1), 0.5), torch.full((1, 1, 3), 0.8)
    maps = routing_maps(images, gates, target, target)
    torch.testing.assert_close(maps.average_error, torch.zeros(1, 1))


def test_sums_over_masks_add_up_to_the_image():
    images, target = colors(3), colors(1, seed=9)[0]
    gates = torch.full((3, H, W, 1), 1 / 3)
    maps = routing_maps(images, gates, images.mean(0), target)
    mask = torch.rand(H, W, generator=torch.Generator().manual_seed(2)) > 0.5
    whole, parts = maps.sum(torch.ones_like(mask)), maps.sum(mask) + maps.sum(~mask)
    assert parts.pixels == whole.pixels == H * W
    torch.testing.assert_close(parts.expert_errors, whole.expert_errors)
    psnr = -10 * (images[1] - target).square().mean().log10()
    assert float(whole.psnr(whole.expert_errors)[1]) == pytest.approx(float(psnr), abs=1e-4)


def test_the_fraction_that_a_router_reaches():
    assert fraction_reached(26.0, 25.0, 27.0) == 0.5
    assert fraction_reached(24.0, 25.0, 27.0) == -0.5
    assert fraction_reached(25.0, 25.0, 25.0) is None
    assert fraction_reached(25.0, 25.0, float("inf")) is None
