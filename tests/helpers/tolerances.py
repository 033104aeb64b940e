"""Named tolerances: how closely two ways to compute the same thing must agree."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tolerance:
    """Largest |actual - expected|, as `atol` + `rtol` times |expected|."""

    rtol: float
    atol: float

    def assert_close(self, actual: Tensor | float | None, expected: Tensor, what: str = "") -> None:
        """Raise unless shapes, types and all values agree; NaN never agrees."""
        assert isinstance(actual, Tensor), f"{what}: expected a tensor, got {actual!r}"
        torch.testing.assert_close(
            actual.cpu(), expected.cpu(), rtol=self.rtol, atol=self.atol,
            msg=lambda text: f"{what}: {text}",
        )  # fmt: skip

    def exceeded(self, actual: Tensor, expected: Tensor) -> Tensor:
        """Where values do not agree; NaN never agrees."""
        return ~((actual - expected).abs() <= self.atol + self.rtol * expected.abs())


EXACT = Tolerance(0.0, 0.0)
"""Ids, masks and whatever must be the same bits."""
FORWARD = Tolerance(1e-5, 1e-6)
GRADIENT = Tolerance(1e-3, 1e-4)
KERNEL = Tolerance(1e-2, 1e-3)
"""Kernels with approximate arithmetic (fast exponentials, atomic sums)."""


def assert_gradients_agree(
    actual: Tensor, expected: Tensor, tolerance: Tolerance = GRADIENT, what: str = ""
) -> None:
    """Compare gradients in units of the largest one, as optimisers are blind to their scale."""
    unit = expected.detach().abs().max().clamp(min=1e-30) if expected.numel() else 1.0
    tolerance.assert_close(actual / unit, expected / unit, what)


def assert_images_agree(
    actual: Tensor,
    expected: Tensor,
    tolerance: Tolerance = FORWARD,
    max_flipped: float = 1e-3,
) -> None:
    """Compare images [..., H, W, D]: strict but for a small fraction of pixels that flipped.

    A Gaussian whose opacity lies on a threshold may be drawn by one implementation and skipped by
    another; rounding decides. Such a pixel may be off by any finite amount, but at most
    a fraction of `max_flipped` of all pixels may.
    """
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    actual, expected = actual.detach().cpu(), expected.detach().cpu()
    assert actual.isfinite().all(), "The image holds values that are not finite."
    is_off = tolerance.exceeded(actual, expected).any(dim=-1)
    fraction = is_off.double().mean().item() if is_off.numel() else 0.0
    largest = (actual - expected).abs().amax().item() if actual.numel() else 0.0
    assert fraction <= max_flipped, (
        f"{fraction:.2%} of the pixels differ by more than {tolerance}, {max_flipped:.2%} may; "
        f"the largest difference is {largest:.2e}."
    )
