"""How much each Gaussian contributes to a mixture: gates lifted from pixels to Gaussians."""

from collections.abc import Iterable, Iterator, Sequence
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


@dataclass(frozen=True, eq=False)
class Responsibilities:
    """Sums over all pixels of all views, one entry per Gaussian of each expert's full set."""

    contributions: list[Float[Tensor, "_"]]
    """Σ_u T·alpha (Eq. 12)."""
    gated: list[Float[Tensor, "_"]]
    """Σ_u G·T·alpha with the gate of the Gaussian's own expert (Eq. 13)."""

    @property
    def values(self) -> list[Float[Tensor, "_"]]:
        """Gated over plain contribution (Eq. 14), in [0, 1]; 0 for what no view shows."""
        pairs = zip(self.gated, self.contributions, strict=True)
        return [
            torch.where(plain > 0, gated / plain, 0.0).clamp(0.0, 1.0) for gated, plain in pairs
        ]


@torch.no_grad()
def responsibilities(mixture: Mixture, views: Iterable[View]) -> Responsibilities:
    """Exact sums over every pixel of `views`, each of one camera on the mixture's device.

    Raises:
        ValueError: the mixture has no gates per pixel, or there are no views.
    """
    sums = zeros_per_gaussian(mixture, columns=2)
    for view, gaussians, render in rendered_views(mixture, views):
        maps = torch.cat([torch.ones_like(render.gates), render.gates], dim=-1)[:, None]
        found = weighted_contributions(gaussians, view, maps, near=mixture.near)
        for total, part, value in zip(sums, gaussians, found, strict=True):
            ids = torch.arange(len(part), device=total.device) if part.ids is None else part.ids
            total.index_add_(0, ids, value.double())
    contributions, gated = ([total[:, column] for total in sums] for column in (0, 1))
    return Responsibilities(contributions, gated)


def rendered_views(
    mixture: Mixture, views: Iterable[View]
) -> Iterator[tuple[View, Sequence[Gaussians], MixtureRender]]:
    """Each view with the experts' Gaussians at its time and what the mixture renders of them.

    Raises:
        ValueError: the mixture has no gates per pixel, or there are no views.
    """
    if isinstance(mixture, VolumeMixture):
        raise ValueError(NO_PIXEL_GATES)
    view = None
    for view in views:
        gaussians = mixture.gaussians(view.time)
        yield view, gaussians, mixture.render(view, gaussians=gaussians)
    if view is None:
        raise ValueError(NO_VIEWS)


def zeros_per_gaussian(mixture: Mixture, columns: int = 1) -> list[Float[Tensor, "_ D"]]:
    """Zeros in double precision for every Gaussian of every expert, on the mixture's device."""
    device = next(mixture.buffers()).device
    return [
        torch.zeros(expert.num_gaussians, columns, dtype=torch.double, device=device)
        for expert in mixture.experts
    ]
