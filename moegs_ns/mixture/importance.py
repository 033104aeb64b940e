"""Importance of Gaussians to a mixture: the criteria that pruning ranks them by."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from moegs_ns.cameras import View
from moegs_ns.gaussians import Gaussians
from moegs_ns.mixture.mixture import Mixture, gates_from
from moegs_ns.mixture.responsibilities import (
    NO_PIXEL_GATES,
    NO_VIEWS,
    OwnViews,
    Responsibilities,
    own_contributions,
    rendered_views,
    responsibilities,
    zeros_per_gaussian,
)
from moegs_ns.routers import PixelRouterConfig, RouterConfig, VolumeRouterConfig

SATURATED = 0.99
"""Largest gate of a pixel above which it counts as saturated; gradients of gates vanish there."""
NO_WEIGHTS = (
    "The criterion gate-gradient expects a router with weights per Gaussian, but the Pixel Router "
    "has none; choose gated-contribution."
)


@dataclass(frozen=True, eq=False)
class Importance:
    """One number per Gaussian of every expert's full set; larger is more important.

    Numbers are means over the pixels of all views (but for opacities and random numbers), so that
    a threshold means the same at any resolution and number of views.
    """

    values: list[Float[Tensor, "_"]]
    saturated_fraction: float | None = None
    """Pixels whose largest gate is above `SATURATED`; None where it is not measured."""

    def at_least(self, threshold: float) -> list[Bool[Tensor, "_"]]:
        """Masks of the Gaussians that reach a threshold, in the unit of the criterion."""
        return [values >= threshold for values in self.values]

    def best(self, count: int) -> list[Bool[Tensor, "_"]]:
        """Masks of the `count` most important Gaussians of all experts; ties go to the first."""
        together = Importance([torch.cat(self.values)]).best_per_expert([count])[0]
        return list(together.split([len(values) for values in self.values]))

    def best_per_expert(self, counts: Sequence[int]) -> list[Bool[Tensor, "_"]]:
        """Masks of the `counts[k]` most important Gaussians of each expert; ties as in `best`."""
        masks = [torch.zeros_like(values, dtype=torch.bool) for values in self.values]
        for mask, values, count in zip(masks, self.values, counts, strict=True):
            mask[torch.argsort(values, descending=True, stable=True)[:count]] = True
        return masks


@dataclass(frozen=True)
class Criterion:
    """A way to rank Gaussians, and what it needs of the mixture."""

    measure: Callable[[Mixture, Iterable[View], OwnViews, int], Importance]
    """Importance of every Gaussian on views, each of one camera on the mixture's device, from where
    experts believe the cameras to be, with a seed. Raises ValueError if the mixture lacks what the
    criterion needs, or there are no views."""
    needs_gates: bool = True
    """Whether gates per pixel are needed, which the Volume Router's mixture lacks."""
    needs_weights: bool = False
    """Whether weights per Gaussian are needed, which the Pixel Router lacks."""

    def check(self, router: RouterConfig) -> None:
        """Raise ValueError if mixtures with such a router lack what is needed."""
        if self.needs_gates and isinstance(router, VolumeRouterConfig):
            raise ValueError(NO_PIXEL_GATES)
        if self.needs_weights and isinstance(router, PixelRouterConfig):
            raise ValueError(NO_WEIGHTS)


@torch.no_grad()
def gate_gradient(
    mixture: Mixture, views: Iterable[View], own_views: OwnViews, seed: int
) -> Importance:
    """Gradient of the gates in the per-Gaussian weights (Eq. 10), at the blend's temperature.

    Mean over views of the L2 norm, over a Gaussian's weights w, w_dir and w_time, of the gradient
    of the mean over pixels of G_k(u), the gate of its own expert (published: of the sum). It
    vanishes where gates are saturated, which may be where one expert alone carries the image.
    """
    if not mixture.router.has_weights:
        raise ValueError(NO_WEIGHTS)
    totals, saturated = zeros_per_gaussian(mixture), []
    for each in rendered_views(mixture, views, own_views):
        # From gates to rendered features, to each Gaussian's features, to its weights.
        view, features = each.view, each.render.rendered.features[:, 0]
        maps, gates = own_gate_gradients(mixture, features, view)
        sums = own_contributions(mixture, each, maps)
        for k, part in enumerate(each.gaussians):
            norms = weight_gradients(mixture, k, part, view.time, sums[k]).norm(dim=-1)
            totals[k] += norms[:, None] / (view.height * view.width)
        saturated.append(float((gates.amax(0) > SATURATED).double().mean()))
    count = len(saturated)
    return Importance([total[:, 0] / count for total in totals], sum(saturated) / count)


def _per_pixel(sums: Responsibilities, name: Literal["gated", "contributions"]) -> Importance:
    return Importance([values / sums.num_pixels for values in getattr(sums, name)])


@torch.no_grad()
def opacity(mixture: Mixture, views: Iterable[View], own_views: OwnViews, seed: int) -> Importance:
    """The largest opacity at any time of the views."""
    times = {float(view.time): view.time for view in views}
    if not times:
        raise ValueError(NO_VIEWS)
    largest = [zeros[:, 0] for zeros in zeros_per_gaussian(mixture)]
    for time in times.values():
        for values, part in zip(largest, mixture.gaussians(time), strict=True):
            ids = slice(None) if part.ids is None else part.ids
            values[ids] = torch.maximum(values[ids], part.opacities.double())
    return Importance(largest)


def random(mixture: Mixture, views: Iterable[View], own_views: OwnViews, seed: int) -> Importance:
    """Uniform random numbers: the baseline of any criterion."""
    generator = torch.Generator().manual_seed(seed)
    zeros = zeros_per_gaussian(mixture)
    draws = (torch.rand(len(z), generator=generator, dtype=torch.double).to(z) for z in zeros)
    return Importance(list(draws))


CriterionName = Literal["gate-gradient", "gated-contribution", "contribution", "opacity", "random"]
CRITERIA: dict[CriterionName, Criterion] = {
    "gate-gradient": Criterion(gate_gradient, needs_weights=True),
    # Mean of G·T·alpha (Eq. 13)
    "gated-contribution": Criterion(
        lambda m, views, own, _: _per_pixel(responsibilities(m, views, own), "gated")
    ),
    # Mean of T·alpha (Eq. 12), whatever the gates
    "contribution": Criterion(
        lambda m, views, own, _: _per_pixel(responsibilities(m, views, own), "contributions")
    ),
    "opacity": Criterion(opacity, needs_gates=False),
    "random": Criterion(random, needs_gates=False),
}
"""The criteria by their names on the command line."""


@torch.enable_grad()
def own_gate_gradients(
    mixture: Mixture, features: Float[Tensor, "E H W F"], view: View
) -> tuple[Float[Tensor, "E H W F"], Float[Tensor, "E H W 1"]]:
    """For each expert ∂ Σ_u G_k(u) in its own rendered features at every pixel; and the gates."""
    features = features.detach().requires_grad_()
    gates = gates_from(mixture.logits(features, view), mixture.temperature, mixture.gate_config)
    own = [
        torch.autograd.grad(gate.sum(), features, retain_graph=True)[0][k]
        for k, gate in enumerate(gates)
    ]
    return torch.stack(own), gates.detach()


@torch.enable_grad()
def weight_gradients(
    mixture: Mixture,
    expert: int,
    gaussians: Gaussians,
    time: Float[Tensor, ""],
    feature_gradients: Float[Tensor, "n F"],
) -> Float[Tensor, "N W"]:
    """Gradients in an expert's weights from those in its Gaussians' features (Eq. 6)."""
    features = mixture.router.gaussian_features(expert, gaussians.ids, time)
    weights = list(mixture.router.gaussian_weights[expert].values())
    gradients = torch.autograd.grad(features, weights, feature_gradients)
    return torch.stack(gradients, dim=-1)
