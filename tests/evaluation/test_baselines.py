"""What a mixture is compared with: averages, constant weights, oracles over regions."""

import pytest
import torch
from torch import Tensor

from moegs_ns.evaluation.baselines import (
    BLURS,
    baseline_metrics,
    blend_of,
    fit_constant_weights,
    oracle_errors,
    smallest_on_simplex,
)
from moegs_ns.mixture.mixture import blurred

H, W = 24, 40


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_blurring_is_a_mean_over_what_lies_in_the_image():
    torch.testing.assert_close(blurred(torch.ones(H, W), 8.0), torch.ones(H, W))
    peak = torch.zeros(81, 81)
    peak[40, 40] = 1.0
    at = torch.arange(81.0) - 40.0
    gaussian = torch.exp(-0.5 * (at / 3.0).square())
    expected = gaussian[:, None] * gaussian / gaussian.sum().square()
    torch.testing.assert_close(blurred(peak, 3.0), expected, atol=1e-6, rtol=1e-4)
    assert blurred(peak, 0.0) is peak


def test_an_oracle_over_regions_ignores_luck_and_follows_regions():
    """One expert is better on the left, the other on the right, both with independent noise."""
    left = torch.zeros(64, 64)
    left[:, 32:] = 1.0
    errors = torch.stack([left, 1.0 - left]) + noise(2, 64, 64)
    lucky, region = oracle_errors(errors, 0), oracle_errors(errors, 4.0)
    assert bool((lucky <= errors).all())
    assert region.mean() == pytest.approx(0.5, abs=0.05)
    torch.testing.assert_close(region[:, 40:], errors[1][:, 40:])
    same = noise(2, 64, 64, seed=1)
    assert oracle_errors(same, 32.0).mean() > oracle_errors(same, 0).mean() + 0.1


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_best_point_of_the_simplex_is_better_than_any_other(count: int):
    factors = noise(count, 7, seed=count) - 0.3
    products = (factors @ factors.T).double()
    best = smallest_on_simplex(products)
    assert float(best.sum()) == pytest.approx(1.0) and bool((best >= 0).all())
    others = 0.01 + noise(4000, count, seed=7).pow(4).double()
    others = others / others.sum(1, keepdim=True)
    values = torch.einsum("ni,ij,nj->n", others, products, others)
    assert float(best @ products @ best) <= float(values.min()) + 1e-9


def test_equal_experts_have_weights_that_sum_to_one():
    images = noise(1, H, W, 3).repeat(3, 1, 1, 1)
    weights = fit_constant_weights([(images, noise(H, W, 3, seed=5))])
    assert float(weights.sum()) == pytest.approx(1.0) and bool((weights >= 0).all())


def test_constant_weights_are_found_again():
    """The truth is a blend of the experts, so its weights have no error."""
    truth = torch.tensor([0.2, 0.0, 0.8])
    stacks = [noise(3, H, W, 3, seed=seed) for seed in range(2)]
    weights = fit_constant_weights((images, blend_of(images, truth)) for images in stacks)
    torch.testing.assert_close(weights, truth, atol=1e-4, rtol=0.0)


def test_constant_weights_need_images():
    with pytest.raises(ValueError, match="training images, got none"):
        fit_constant_weights([])


def test_figures_beside_those_of_a_mixture_are_in_order():
    images, target = noise(3, H, W, 3), noise(H, W, 3, seed=9)
    images[1] = 0.7 * target + 0.3 * images[1]
    batch = {"image": target}
    constant = fit_constant_weights([(images, target)])
    metrics = baseline_metrics(images, batch, constant)
    best = -10 * (images - target).square().flatten(1).mean(1).min().log10()
    order = [metrics[f"psnr_oracle_{blur}"] for blur in BLURS]
    assert metrics["psnr_oracle"] >= max(order) >= min(order) >= float(best) - 0.01
    assert metrics["psnr_constant"] >= max(metrics["psnr_average"], float(best)) - 0.01
    average = -10 * (images.mean(0) - target).square().mean().log10()
    assert metrics["psnr_average"] == pytest.approx(float(average), abs=0.01)
    assert "psnr_constant" not in baseline_metrics(images, batch, None)
