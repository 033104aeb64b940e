"""Screen gradients: what decides which Gaussians are refined."""

from dataclasses import replace

import pytest
import torch
from toys import make_gaussians, make_view

from moegs_ns.gaussians import GaussianParams
from moegs_ns.splatting import render
from moegs_ns.training.densification import DensificationConfig, Densifier, screen_gradients


def gradient_in_image_of(side: int, reference_pixels: int | None, num_views: int = 1) -> float:
    """Of one Gaussian of a fixed size in pixels, in a square image whose mean error is the loss."""
    gaussians = make_gaussians(torch.Generator().manual_seed(0), 1, degree=0)
    gaussians = replace(
        gaussians,
        means=torch.tensor([[0.02, 0.0, 3.0]], requires_grad=True), scales=torch.full((1, 3), 0.1),
        opacities=torch.tensor([0.8]),
    )  # fmt: skip
    view = make_view(1)
    center = torch.tensor([[[40.0, 0.0, side / 2], [0.0, 40.0, side / 2], [0.0, 0.0, 1.0]]])
    view = replace(view, Ks=center, viewmats=torch.eye(4)[None], width=side, height=side)
    output = render(gaussians, view)
    output.retain_screen_gradients()
    # Where the Gaussian ought to be: a little to the left.
    target = torch.roll(output.rgb.detach(), -1, dims=2)
    ((output.rgb - target).square().mean() / num_views).backward()
    found = screen_gradients(
        output, num_views, DensificationConfig(reference_pixels=reference_pixels)
    )
    assert found is not None
    return float(found[0])


def test_a_smaller_image_has_larger_gradients_unless_they_are_told_so():
    large, small = gradient_in_image_of(64, None), gradient_in_image_of(32, None)
    assert small == pytest.approx(2.0 * large, rel=1e-3) and large > 0.0
    assert gradient_in_image_of(32, 64 * 64) == pytest.approx(large, rel=1e-3)


def test_images_above_the_reference_are_as_they_are():
    assert gradient_in_image_of(64, 32 * 32) == gradient_in_image_of(64, None)


def test_gradients_do_not_depend_on_the_number_of_views():
    assert gradient_in_image_of(32, 64 * 64, 3) == pytest.approx(gradient_in_image_of(32, 64 * 64))


def test_the_densifier_uses_its_reference():
    found = []
    for reference in (None, 4 * 32 * 32):
        gaussians = make_gaussians(torch.Generator().manual_seed(0), 5, degree=0)
        gaussians = replace(gaussians, means=gaussians.means.requires_grad_())
        output = render(gaussians, make_view(width=32, height=32))
        output.retain_screen_gradients()
        output.rgb.sum().backward()
        parameters = GaussianParams({"means": torch.nn.Parameter(gaussians.means.detach())})
        config = DensificationConfig(reference_pixels=reference)
        densifier = Densifier(config, parameters, 1.0, torch.Generator())
        densifier.observe(output, 1)
        found.append(densifier.statistics["gradients"])
    assert found[0].any()
    torch.testing.assert_close(found[1], found[0] / 2.0)
