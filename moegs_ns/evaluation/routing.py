"""Quality of a router: gates against errors, and bounds on what any gate could reach."""

import itertools
import math
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from moegs_ns.evaluation.baselines import BLURS, blend_of, oracle_errors, squared_error
from moegs_ns.evaluation.image_metrics import decibels, quantize

SMALLEST_DETERMINANT = 1e-12
"""Gram determinant below which colours count as collinear or equal and span no simplex."""


@dataclass(frozen=True, eq=False)
class RoutingFigures:
    """Errors and gates of every pixel, or their sums over pixels of one image or many.

    Errors are squared and summed over colours.
    """

    pixels: Float[Tensor, "*s"]
    """Number of pixels, 1 in a map."""
    expert_errors: Float[Tensor, "E *s"]
    mixture_error: Float[Tensor, "*s"]
    average_error: Float[Tensor, "*s"]
    """Of the plain mean of the experts' images."""
    constant_error: Float[Tensor, "*s"]
    """Of the best constant weights, fitted on training views; NaN without them."""
    oracle_error: Float[Tensor, "*s"]
    """Of the best expert at every pixel."""
    blurred_oracle_errors: Float[Tensor, "B *s"]
    """Of the best expert by errors blurred by each of `BLURS`."""
    blend_error: Float[Tensor, "*s"]
    """Of the best blend with gates that sum to 1: no softmax gate can be better."""
    gates: Float[Tensor, "E *s"]
    best: Float[Tensor, "E *s"]
    """1 for the expert with the smallest error, the first of equals."""
    entropy: Float[Tensor, "*s"]
    """Of the gates, as a fraction of that of equal gates; 0 for a single expert."""
    agreement: Float[Tensor, "*s"]
    """1 where the largest gate is that of an expert with the smallest error."""

    def sum(self, mask: Bool[Tensor, "H W"]) -> "RoutingFigures":
        """Sums of maps over the pixels of a mask."""
        return RoutingFigures(*(value[..., mask].sum(-1).double() for value in self._values()))

    def __add__(self, other: "RoutingFigures") -> "RoutingFigures":
        pairs = zip(self._values(), other._values(), strict=True)
        return RoutingFigures(*(one + another for one, another in pairs))

    def _values(self) -> list[Tensor]:
        return [getattr(self, field.name) for field in fields(self)]

    def psnr(self, error: Float[Tensor, "*e"]) -> Float[Tensor, "*e"]:
        """PSNR in dB of the mean over all pixels of one of the errors."""
        return decibels(error / (3.0 * self.pixels))


def routing_maps(
    images: Float[Tensor, "E H W 3"],
    gates: Float[Tensor, "E H W 1"],
    mixture: Float[Tensor, "H W 3"],
    target: Float[Tensor, "H W 3"],
    constant: Float[Tensor, "E"] | None = None,
) -> RoutingFigures:
    """Maps of one rendered image; images are clamped to [0, 1] and rounded to 8 bits
    as for any metric.

    Args:
        constant: the weights of `fit_constant_weights`; without them their error is NaN.
    """
    # As the model shows them, and `baselines` therefore sees them.
    images = images.clamp(0.0, 1.0)
    average = squared_error(images.mean(0), target)
    constant_error = torch.full_like(average, torch.nan)
    if constant is not None:
        constant_error = squared_error(blend_of(images, constant), target)
    images, gates = quantize(images), gates[..., 0]
    errors = squared_error(images, target)
    smallest = errors.amin(0)
    chosen = errors.gather(0, gates.argmax(0, keepdim=True))[0]
    # A single expert has no entropy, whatever it is divided by.
    largest = math.log(max(2, len(images)))
    return RoutingFigures(
        pixels=torch.ones_like(smallest),
        expert_errors=errors,
        mixture_error=squared_error(mixture, target),
        average_error=average,
        constant_error=constant_error,
        oracle_error=smallest,
        blurred_oracle_errors=torch.stack([oracle_errors(errors, blur) for blur in BLURS]),
        blend_error=best_blend_error(images, target),
        gates=gates,
        best=torch.nn.functional.one_hot(errors.argmin(0), len(images)).movedim(-1, 0).float(),
        entropy=torch.special.entr(gates).sum(0) / largest,
        agreement=(chosen <= smallest).float(),
    )


def best_blend_error(
    images: Float[Tensor, "E H W 3"], target: Float[Tensor, "H W 3"]
) -> Float[Tensor, "H W"]:
    """Squared error of the best convex combination of the experts' colours at every pixel.

    Exact for any number of experts: the nearest point of the convex hull of E colours is a corner,
    or lies within an edge, a triangle or, at distance 0, a tetrahedron of them.
    """
    best = (images - target).square().sum(-1).amin(0)
    for size in range(2, min(4, len(images)) + 1):
        for corners in itertools.combinations(range(len(images)), size):
            best = torch.minimum(best, _inner_error(images[list(corners)], target))
    return best


def _inner_error(
    corners: Float[Tensor, "n H W 3"], target: Float[Tensor, "H W 3"]
) -> Float[Tensor, "H W"]:
    """Squared distance to the affine hull of the corners; infinite if the foot lies outside."""
    edges = (corners[1:] - corners[0]).permute(1, 2, 0, 3).double()
    aim = (target - corners[0]).double()
    # Barycentric coordinates of the foot, by the normal equations.
    gram = edges @ edges.transpose(-1, -2)
    is_proper = torch.linalg.det(gram) > SMALLEST_DETERMINANT
    eye = torch.eye(len(edges[0, 0]), device=gram.device, dtype=gram.dtype)
    gram = torch.where(is_proper[..., None, None], gram, eye)
    weights = torch.linalg.solve(gram, edges @ aim[..., None])
    error = (aim - (weights * edges).sum(-2)).square().sum(-1)
    inside = is_proper & (weights >= 0).all(-2)[..., 0] & (weights.sum(-2)[..., 0] <= 1.0)
    return torch.where(inside, error, torch.inf).to(target)


def fraction_reached(reached: float, best_expert: float, bound: float) -> float | None:
    """Fraction of the gain in dB over the best expert that a bound allows; None without a gain.

    Below 0 the mixture is worse than its best expert.
    """
    gain = bound - best_expert
    return (reached - best_expert) / gain if 0.0 < gain < math.inf else None
