"""Neighbouring Gaussians have similar embeddings (Bae et al., ECCV 2024, local smoothness)."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

SHARPNESS = 2000.0
"""How fast the weight of a pair falls with its squared distance, in published units of length."""
SMALLEST_WEIGHT = 1e-12
"""Pairs below this weight, a thousandth of a thousandth of the force, are left out."""
TINY = 1e-20
"""Under the root, whose slope would be infinite at equal embeddings."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Pairs of near Gaussians in canonical space and how much each pair weighs."""

    rows: Int[Tensor, "P"]
    others: Int[Tensor, "P"]
    weights: Float[Tensor, "P"]
    total: int
    """Pairs that a mean is taken over, among them those too far apart to be listed."""

    def state(self) -> dict[str, Any]:
        """For checkpoints, in 12 bytes a pair."""
        return {
            "rows": self.rows.int().cpu(),
            "others": self.others.int().cpu(),
            "weights": self.weights.cpu(),
            "total": self.total,
        }

    @staticmethod
    def from_state(state: dict[str, Any], device: torch.device) -> "Neighbours":
        """The inverse of `state`."""
        return Neighbours(
            state["rows"].to(device).long(),
            state["others"].to(device).long(),
            state["weights"].to(device),
            int(state["total"]),
        )


@torch.no_grad()
def find_neighbours(means: Float[Tensor, "N 3"], count: int, unit: float) -> Neighbours:
    """The `count` nearest neighbours of each Gaussian; `unit` is the published unit of length in
    those of `means`. Takes 0.1 s for 10,000 Gaussians on one core.
    """
    count = min(count, len(means) - 1)
    if count < 1:
        empty = torch.zeros(0, dtype=torch.long, device=means.device)
        return Neighbours(empty, empty, means.new_zeros(0), 0)
    from sklearn.neighbors import NearestNeighbors

    tree = NearestNeighbors(n_neighbors=count, n_jobs=-1).fit((means / unit).cpu().numpy())
    distances, others = (torch.from_numpy(values) for values in tree.kneighbors())
    weights = torch.exp(-SHARPNESS * distances.square()).float()
    is_near = weights > SMALLEST_WEIGHT
    rows = torch.arange(len(means))[:, None].expand_as(others)
    device = means.device
    return Neighbours(
        rows[is_near].to(device),
        others[is_near].long().to(device),
        weights[is_near].to(device),
        weights.numel(),
    )


def embedding_roughness(
    embeddings: Float[Tensor, "N G"], neighbours: Neighbours
) -> Float[Tensor, ""]:
    """Mean distance of the embeddings of neighbours, times the root of the pair's weight.

    The root is the released code's; the paper weighs with the weight itself.
    """
    if neighbours.total == 0:
        return embeddings.new_zeros(())
    # Selected by index_select, whose backward pass adds up faster than that of indexing.
    difference = embeddings.index_select(0, neighbours.rows) - embeddings.index_select(
        0, neighbours.others
    )
    squares = neighbours.weights * difference.square().sum(-1)
    return torch.sqrt(squares + TINY).sum() / neighbours.total
