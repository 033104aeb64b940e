"""What a Gaussian is worth to a mixture: the criteria that pruning chooses by."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from moegs_ns.cameras import View
from moegs_ns.gaussians import Gaussians
from moegs_ns.mixture.mixture import Mixture, gates_from
from moegs_ns.mixture.responsibilities import (
    NO_PIXEL_GATES,
    RowSums,
    expect_pixel_gates,
    expect_views,
    responsibilities,
)
from moegs_ns.routers import PixelRouterConfig, RouterConfig, VolumeRouterConfig
from moegs_ns.splatting.contributions import weighted_contributions

SATURATED = 0.99
"""Largest gate of a pixel above which it counts as saturated; gradients of gates vanish there."""
NO_WEIGHTS = (
    "The criterion gate-gradient expects a router with weights per Gaussian, but the Pixel Router "
    "has none; choose gated-contribution."
)


@dataclass(frozen=True, eq=False)
class Importance:
    """One number for every row of every expert's full set; larger is worth more."""

    values: list[Float[Tensor, "_"]]
    saturated_share: float | None = None
    """Share of all pixels whose largest gate is above `SATURATED`; None if it is not measured."""


@torch.no_grad()
def gate_importance(mixture: Mixture, views: Iterable[View]) -> Importance:
    """Gradient of the gates in the per-Gaussian weights (Eq. 10), at the blend's temperature.

    Mean over views of the L2 norm, over a Gaussian's weights w, w_dir and w_time, of the gradient
    of Σ_u G_k(u), the gate of its own expert summed over the pixels. It vanishes where gates are
    saturated, which may be where one expert alone carries the image.

    Raises:
        ValueError: the router has no weights per Gaussian or no gates per pixel; or no views.
    """
    expect_pixel_gates(mixture)
    if not mixture.router.has_weights:
        raise ValueError(NO_WEIGHTS)
    total, num_views, saturated = RowSums(mixture, columns=1), 0, 0.0
    for view in views:
        gaussians = mixture.gaussians(view.time)
        features = mixture.render(view, gaussians=gaussians).rendered.features[:, 0]
        maps, gates = own_gate_gradients(mixture, features, view)
        sums = weighted_contributions(gaussians, view, maps[:, None], near=mixture.near)
        for k, part in enumerate(gaussians):
            norms = weight_gradients(mixture, k, part, view.time, sums[k]).norm(dim=-1)
            total.parts[k] += norms[:, None]
        saturated += float((gates.amax(0) > SATURATED).double().mean())
        num_views += 1
    expect_views(num_views)
    return Importance([part[:, 0] / num_views for part in total.parts], saturated / num_views)


@torch.enable_grad()
def own_gate_gradients(
    mixture: Mixture, splatted: Float[Tensor, "E H W F"], view: View
) -> tuple[Float[Tensor, "E H W F"], Float[Tensor, "E H W 1"]]:
    """For each expert, ∂ Σ_u G_k(u) in its own splatted features at every pixel; and the gates."""
    splatted = splatted.detach().requires_grad_()
    gates = gates_from(mixture.logits(splatted, view), mixture.temperature)
    own = [
        torch.autograd.grad(gate.sum(), splatted, retain_graph=True)[0][k]
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
    """Gradients in an expert's weights from those in the features that are splatted (Eq. 6)."""
    features = mixture.router.gaussian_features(expert, gaussians.ids, time)
    weights = list(mixture.router.rows[expert].values())
    gradients = torch.autograd.grad(features, weights, feature_gradients)
    return torch.stack(gradients, dim=-1)


Measure = Callable[[Mixture, Iterable[View], torch.Generator], Importance]


def by_gate_gradient(mixture: Mixture, views: Iterable[View], _: torch.Generator) -> Importance:
    """Eq. 10."""
    return gate_importance(mixture, views)


def by_gated_contribution(
    mixture: Mixture, views: Iterable[View], _: torch.Generator
) -> Importance:
    """Σ_u G·T·alpha (Eq. 13)."""
    return Importance(responsibilities(mixture, views).gated)


def by_contribution(mixture: Mixture, views: Iterable[View], _: torch.Generator) -> Importance:
    """Σ_u T·alpha (Eq. 12), whatever the gates."""
    return Importance(responsibilities(mixture, views).contributions)


@torch.no_grad()
def by_opacity(mixture: Mixture, views: Iterable[View], _: torch.Generator) -> Importance:
    """The largest opacity at any instant of the views."""
    times = {float(view.time): view.time for view in views}
    expect_views(len(times))
    largest = [part[:, 0] for part in RowSums(mixture, columns=1).parts]
    for time in times.values():
        for total, part in zip(largest, mixture.gaussians(time), strict=True):
            rows = slice(None) if part.ids is None else part.ids
            total[rows] = torch.maximum(total[rows], part.opacities.double())
    return Importance(largest)


def by_chance(mixture: Mixture, _: Iterable[View], generator: torch.Generator) -> Importance:
    """Uniform random numbers: what any criterion has to beat."""
    rows = RowSums(mixture, columns=1).parts
    drawn = [torch.rand(len(part), generator=generator, dtype=torch.double) for part in rows]
    return Importance([values.to(part) for values, part in zip(drawn, rows, strict=True)])


@dataclass(frozen=True)
class Criterion:
    """A way to compare Gaussians, and what it asks of the mixture."""

    measure: Measure
    needs_gates: bool = True
    """Whether it asks for gates per pixel, which the Volume Router's mixture lacks."""
    needs_weights: bool = False
    """Whether it asks for weights per Gaussian, which the Pixel Router lacks."""

    def __call__(
        self, mixture: Mixture, views: Iterable[View], generator: torch.Generator
    ) -> Importance:
        """What every Gaussian is worth."""
        return self.measure(mixture, views, generator)

    def check(self, router: RouterConfig) -> None:
        """Raise ValueError if mixtures with such a router lack what it asks for."""
        if self.needs_gates and isinstance(router, VolumeRouterConfig):
            raise ValueError(NO_PIXEL_GATES)
        if self.needs_weights and isinstance(router, PixelRouterConfig):
            raise ValueError(NO_WEIGHTS)


CriterionName = Literal["gate-gradient", "gated-contribution", "contribution", "opacity", "random"]
CRITERIA: dict[CriterionName, Criterion] = {
    "gate-gradient": Criterion(by_gate_gradient, needs_weights=True),
    "gated-contribution": Criterion(by_gated_contribution),
    "contribution": Criterion(by_contribution),
    "opacity": Criterion(by_opacity, needs_gates=False),
    "random": Criterion(by_chance, needs_gates=False),
}
"""How Gaussians may be compared, by the names of the command line."""
