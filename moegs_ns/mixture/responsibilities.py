"""How much each Gaussian takes part in a mixture: gates lifted from pixels to Gaussians."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from moegs_ns.cameras import View
from moegs_ns.gaussians import Gaussians
from moegs_ns.mixture.mixture import Mixture
from moegs_ns.mixture.volume_mixture import VolumeMixture
from moegs_ns.splatting.contributions import weighted_contributions

NO_PIXEL_GATES = (
    "Expected a mixture with gates per pixel, but the Volume Router's draws all experts as one "
    "set; use a run of moegs-router or moegs-pixel-router."
)


@dataclass(frozen=True, eq=False)
class Responsibilities:
    """Sums over all pixels of all views, per expert; rows are those of the experts' full sets."""

    contributions: list[Float[Tensor, "_"]]
    """Σ_u T·alpha (Eq. 12)."""
    gated: list[Float[Tensor, "_"]]
    """Σ_u G·T·alpha with the gate of the Gaussian's own expert (Eq. 13)."""

    @property
    def shares(self) -> list[Float[Tensor, "_"]]:
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
    expect_pixel_gates(mixture)
    total, num_views = RowSums(mixture, columns=2), 0
    for view in views:
        gaussians = mixture.gaussians(view.time)
        gates = mixture.render(view, gaussians=gaussians).gates
        maps = torch.cat([torch.ones_like(gates), gates], dim=-1)[:, None]
        total.add(gaussians, weighted_contributions(gaussians, view, maps, near=mixture.near))
        num_views += 1
    expect_views(num_views)
    contributions, gated = ([part[:, column] for part in total.parts] for column in (0, 1))
    return Responsibilities(contributions, gated)


class RowSums:
    """Running sums in double precision, with a row for every Gaussian of every expert."""

    def __init__(self, mixture: Mixture, columns: int) -> None:
        device = next(mixture.buffers()).device
        self.parts = [
            torch.zeros(expert.num_gaussians, columns, dtype=torch.double, device=device)
            for expert in mixture.experts
        ]

    def add(self, gaussians: list[Gaussians], values: list[Float[Tensor, "_ D"]]) -> None:
        """Add what was found for the Gaussians of one view to their rows."""
        for total, part, value in zip(self.parts, gaussians, values, strict=True):
            rows = torch.arange(len(part), device=total.device) if part.ids is None else part.ids
            total.index_add_(0, rows, value.double())


def expect_pixel_gates(mixture: Mixture) -> None:
    """Raise ValueError for mixtures that blend Gaussians instead of images."""
    if isinstance(mixture, VolumeMixture):
        raise ValueError(NO_PIXEL_GATES)


def expect_views(count: int) -> None:
    """Raise ValueError if no view was looked at."""
    if count == 0:
        raise ValueError("Expected training views to measure Gaussians on, got none.")
