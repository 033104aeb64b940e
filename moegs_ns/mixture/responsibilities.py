"""How much each Gaussian contributes to a mixture: gates lifted from pixels to Gaussians."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from moegs_ns.cameras import View
from moegs_ns.gaussians import Gaussians
from moegs_ns.mixture.mixture import Mixture, MixtureRender
from moegs_ns.mixture.volume_mixture import VolumeMixture
from moegs_ns.splatting.rendering import weighted_contributions

NO_PIXEL_GATES = (
    "Expected a mixture with gates per pixel, but the Volume Router's renders all experts as one "
    "set; use a run of moegs-router or moegs-pixel-router."
)
NO_VIEWS = "Expected training views to measure Gaussians on, got none."
OwnViews = Callable[[View], Sequence[View] | None]
"""A training view from where each expert believes its camera to be; None where all believe the
view."""


def as_given(view: View) -> None:
    """All experts believe the data set's poses."""


@dataclass(frozen=True, eq=False)
class Responsibilities:
    """Sums over all pixels of all views, one entry per Gaussian of each expert's full set."""

    contributions: list[Float[Tensor, "_"]]
    """Σ_u T·alpha (Eq. 12)."""
    gated: list[Float[Tensor, "_"]]
    """Σ_u G·T·alpha with the gate of the Gaussian's own expert (Eq. 13)."""
    num_pixels: int
    """Of all views together."""

    @property
    def values(self) -> list[Float[Tensor, "_"]]:
        """Gated over plain contribution (Eq. 14), in [0, 1]; 0 for what no view shows."""
        pairs = zip(self.gated, self.contributions, strict=True)
        return [
            torch.where(plain > 0, gated / plain, 0.0).clamp(0.0, 1.0) for gated, plain in pairs
        ]


@dataclass(frozen=True, eq=False)
class RenderedView:
    """A training view, and what is rendered of it."""

    view: View
    """Of one camera, as the data set says; the gates look along its rays."""
    own_views: Sequence[View]
    """The same from where each expert believes the camera to be."""
    gaussians: Sequence[Gaussians]
    """Of each expert, by the camera's clock."""
    render: MixtureRender


@torch.no_grad()
def responsibilities(
    mixture: Mixture, views: Iterable[View], own_views: OwnViews = as_given
) -> Responsibilities:
    """Exact sums over every pixel of `views`, each of one camera on the mixture's device.

    Raises:
        ValueError: the mixture has no gates per pixel, or there are no views.
    """
    sums, num_pixels = zeros_per_gaussian(mixture, columns=2), 0
    for each in rendered_views(mixture, views, own_views):
        gates = each.render.gates
        num_pixels += each.view.height * each.view.width
        found = own_contributions(mixture, each, torch.cat([torch.ones_like(gates), gates], dim=-1))
        for total, part, value in zip(sums, each.gaussians, found, strict=True):
            ids = torch.arange(len(part), device=total.device) if part.ids is None else part.ids
            total.index_add_(0, ids, value.double())
    contributions, gated = ([total[:, column] for total in sums] for column in (0, 1))
    return Responsibilities(contributions, gated, num_pixels)


def rendered_views(
    mixture: Mixture, views: Iterable[View], own_views: OwnViews = as_given
) -> Iterator[RenderedView]:
    """The mixture's renders of training views, with the poses and clocks that its experts have
    learned.

    Raises:
        ValueError: the mixture has no gates per pixel, or there are no views.
    """
    if isinstance(mixture, VolumeMixture):
        raise ValueError(NO_PIXEL_GATES)
    view = None
    for view in views:
        own = own_views(view) or [view] * len(mixture.experts)
        gaussians = mixture.gaussians(view.time, camera=view.training_camera, own_views=own)
        render = mixture.render(view, own_views=own, gaussians=gaussians)
        yield RenderedView(view, own, gaussians, render)
    if view is None:
        raise ValueError(NO_VIEWS)


def own_contributions(
    mixture: Mixture, rendered: RenderedView, maps: Float[Tensor, "E H W D"]
) -> list[Float[Tensor, "_ D"]]:
    """`weighted_contributions` of each expert in its own view, in one pass if they are the same."""
    views, near = rendered.own_views, mixture.near
    if all(view is views[0] for view in views):
        return weighted_contributions(rendered.gaussians, views[0], maps[:, None], near=near)
    return [
        weighted_contributions([part], views[k], maps[k : k + 1, None], near=[near[k]])[0]
        for k, part in enumerate(rendered.gaussians)
    ]


def zeros_per_gaussian(mixture: Mixture, columns: int = 1) -> list[Float[Tensor, "_ D"]]:
    """Zeros in double precision for every Gaussian of every expert, on the mixture's device."""
    device = next(mixture.buffers()).device
    return [
        torch.zeros(expert.num_gaussians, columns, dtype=torch.double, device=device)
        for expert in mixture.experts
    ]
