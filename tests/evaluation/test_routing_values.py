"""Errors and gates of flat images, which are known by hand."""

import math

import pytest
import torch

from moegs_ns.evaluation.baselines import BLURS
from moegs_ns.evaluation.routing import fraction_reached, routing_maps

H, W = 3, 4
TRUTH = 0.4


def flat(*values: float) -> torch.Tensor:
    return torch.tensor(values)[:, None, None, None].expand(-1, H, W, 3)


def gates(*values: float) -> torch.Tensor:
    return torch.tensor(values)[:, None, None, None].expand(-1, H, W, 1)


def figures(constant: torch.Tensor | None = None):
    """Experts that are off by 0.2 and 0.6, a mixture that is off by 0.4."""
    shown, target = flat(0.2, 1.0), flat(TRUTH)[0]
    maps = routing_maps(shown, gates(0.25, 0.75), flat(0.8)[0], target, constant)
    return maps.sum(torch.ones(H, W, dtype=torch.bool))


def test_errors_are_squares_summed_over_colours_and_pixels():
    found = figures(torch.tensor([0.25, 0.75]))
    pixels = H * W
    assert float(found.pixels) == pixels
    expected = {
        "mixture_error": 0.4, "average_error": 0.2, "constant_error": 0.4, "oracle_error": 0.2,
    }  # fmt: skip
    for name, off in expected.items():
        assert float(getattr(found, name)) == pytest.approx(3 * pixels * off * off, rel=1e-5), name
    assert found.expert_errors.tolist() == pytest.approx([3 * pixels * 0.04, 3 * pixels * 0.36])
    assert len(found.blurred_oracle_errors) == len(BLURS)
    assert found.blurred_oracle_errors.tolist() == pytest.approx([3 * pixels * 0.04] * len(BLURS))
    # The truth lies between both experts.
    assert float(found.blend_error) == pytest.approx(0.0, abs=1e-6)
    assert float(found.psnr(found.mixture_error)) == pytest.approx(-10 * math.log10(0.16), abs=1e-4)


def test_without_constant_weights_their_error_is_unknown():
    assert math.isnan(float(figures().constant_error))


def test_gates_are_counted_by_pixel():
    found = figures()
    pixels = H * W
    assert found.gates.tolist() == pytest.approx([0.25 * pixels, 0.75 * pixels])
    assert found.best.tolist() == [pixels, 0] and float(found.agreement) == 0.0
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75)) / math.log(2)
    assert float(found.entropy) == pytest.approx(entropy * pixels, rel=1e-5)
    both = found + found
    assert float(both.pixels) == 2 * pixels and both.best.tolist() == [2 * pixels, 0]
    assert float(both.psnr(both.oracle_error)) == pytest.approx(-10 * math.log10(0.04), abs=1e-4)


def test_the_first_of_equal_experts_is_the_best_and_any_agrees():
    maps = routing_maps(flat(0.2, 0.2), gates(0.25, 0.75), flat(0.2)[0], flat(TRUTH)[0])
    assert bool((maps.best[0] == 1).all()) and bool((maps.best[1] == 0).all())
    assert bool((maps.agreement == 1).all())


def test_a_single_expert_has_no_entropy_and_three_have_at_most_one():
    one = routing_maps(flat(0.2), gates(1.0), flat(0.2)[0], flat(TRUTH)[0])
    assert bool((one.entropy == 0).all()) and bool((one.gates == 1).all())
    third = 1.0 / 3.0
    three = routing_maps(
        flat(0.2, 0.4, 0.6), gates(third, third, third), flat(0.2)[0], flat(0.4)[0]
    )
    torch.testing.assert_close(three.entropy, torch.ones(H, W))


def test_images_are_clamped_and_rounded_before_they_are_judged():
    maps = routing_maps(flat(-1.0, 1.4), gates(0.5, 0.5), flat(1.4)[0], flat(1.0)[0])
    assert bool((maps.expert_errors[1] == 0).all()) and bool((maps.mixture_error == 0).all())
    torch.testing.assert_close(maps.expert_errors[0], torch.full((H, W), 3.0))
    # The average is of clamped images: 0.5, in 8 bits 128 of 255.
    torch.testing.assert_close(maps.average_error, torch.full((H, W), 3 * (127 / 255) ** 2))


def test_the_fraction_of_a_gain_that_is_reached():
    assert fraction_reached(31.0, 30.0, 34.0) == 0.25
    assert fraction_reached(29.0, 30.0, 34.0) == -0.25
    assert fraction_reached(30.0, 30.0, 30.0) is None
    assert fraction_reached(30.0, 30.0, 29.0) is None
    assert fraction_reached(30.0, 30.0, math.inf) is None
    assert fraction_reached(30.0, 30.0, 30.5) == 0.0
