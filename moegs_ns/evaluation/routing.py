"""How well a router chooses: gates against errors, and bounds on what any gate could reach."""

import itertools
import math
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from moegs_ns.evaluation.metrics import quantize

SMALLEST_DETERMINANT = 1e-12
"""Experts whose colours are as good as on one line or point span no area of their own."""


@dataclass(frozen=True, eq=False)
class RoutingMaps:
    """Errors and gates of one image, pixel by pixel; errors are squared and summed over colours."""

    expert_errors: Float[Tensor, "E H W"]
    mixture_error: Float[Tensor, "H W"]
    oracle_error: Float[Tensor, "H W"]
    """Of the best expert at every pixel."""
    blend_error: Float[Tensor, "H W"]
    """Of the best blend with gates that sum to 1: no softmax gate can be better."""
    gates: Float[Tensor, "E H W"]
    best: Float[Tensor, "E H W"]
    """1 for the expert with the smallest error, the first one where several are equal."""
    entropy: Float[Tensor, "H W"]
    """Of the gates, as a share of that of equal gates; 0 where one expert draws alone."""
    agreement: Float[Tensor, "H W"]
    """1 where the largest gate is that of an expert with the smallest error."""

    def sums(self, mask: Bool[Tensor, "H W"]) -> "RoutingSums":
        """Sums over the pixels of a mask."""
        totals = {
            field.name: getattr(self, field.name)[..., mask].sum(-1).double()
            for field in fields(self)
        }
        return RoutingSums(pixels=int(mask.sum()), **totals)


@dataclass(frozen=True, eq=False)
class RoutingSums:
    """Sums of `RoutingMaps` over pixels, of one image or many."""

    pixels: int
    expert_errors: Float[Tensor, "E"]
    mixture_error: Float[Tensor, ""]
    oracle_error: Float[Tensor, ""]
    blend_error: Float[Tensor, ""]
    gates: Float[Tensor, "E"]
    best: Float[Tensor, "E"]
    entropy: Float[Tensor, ""]
    agreement: Float[Tensor, ""]

    def __add__(self, other: "RoutingSums") -> "RoutingSums":
        return RoutingSums(
            **{
                field.name: getattr(self, field.name) + getattr(other, field.name)
                for field in fields(self)
            }
        )

    def psnr(self, name: str) -> float | list[float]:
        """PSNR in dB of the mean squared error over all pixels, of one of the errors."""
        error = getattr(self, name) / (3.0 * self.pixels)
        return (-10.0 * torch.log10(error)).tolist()


def routing_maps(
    images: Float[Tensor, "E H W 3"],
    gates: Float[Tensor, "E H W 1"],
    mixture: Float[Tensor, "H W 3"],
    target: Float[Tensor, "H W 3"],
) -> RoutingMaps:
    """Everything about one rendered image; images are rounded to 8 bits as for any metric."""
    shown, shares = quantize(images), gates[..., 0]
    errors = (shown - target).square().sum(-1)
    smallest = errors.amin(0)
    chosen = errors.gather(0, shares.argmax(0, keepdim=True))[0]
    # One expert has no choice, and no entropy.
    largest = math.log(max(2, len(images)))
    return RoutingMaps(
        expert_errors=errors,
        mixture_error=(quantize(mixture) - target).square().sum(-1),
        oracle_error=smallest,
        blend_error=best_blend_error(shown, target),
        gates=shares,
        best=torch.nn.functional.one_hot(errors.argmin(0), len(images)).movedim(-1, 0).float(),
        entropy=-torch.special.xlogy(shares, shares).sum(0) / largest,
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
    """Squared distance to the plane through the corners; infinite if its foot lies outside."""
    edges = (corners[1:] - corners[0]).permute(1, 2, 0, 3).double()
    aim = (target - corners[0]).double()
    gram = edges @ edges.transpose(-1, -2)
    is_proper = torch.linalg.det(gram) > SMALLEST_DETERMINANT
    eye = torch.eye(len(edges[0, 0]), device=gram.device, dtype=gram.dtype)
    gram = torch.where(is_proper[..., None, None], gram, eye)
    weights = torch.linalg.solve(gram, edges @ aim[..., None])
    error = (aim - (weights * edges).sum(-2)).square().sum(-1)
    inside = is_proper & (weights >= 0).all(-2)[..., 0] & (weights.sum(-2)[..., 0] <= 1.0)
    return torch.where(inside, error, torch.inf).to(target)


def share_reached(reached: float, best_expert: float, bound: float) -> float | None:
    """Part of the gain over the best expert that a bound allows; None where it allows none.

    All in dB. Below 0 the mixture is worse than its best expert.
    """
    gain = bound - best_expert
    return (reached - best_expert) / gain if 0.0 < gain < math.inf else None
