"""Neighbouring Gaussians have similar embeddings (Bae et al., ECCV 2024, local smoothness)."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

SHARPNESS = 2000.0
"""How fast the weight of a pair falls with its squared distance, in published units of length."""
SMALLEST_WEIGHT = 1e-12
"""Pairs below this weight, a thousandth of a thousandth of the force, are left out."""
REACH = math.sqrt(-math.log(SMALLEST_WEIGHT) / SHARPNESS)
"""Distance in published units beyond which pairs are left out."""
ROWS_AT_ONCE = 4096
COMPARED_AT_ONCE = 2**28
"""Points whose neighbours are sought at once, and most pairs whose distances are held, a
gigabyte."""
SPARE_CANDIDATES = 12
"""Pairs that are measured exactly beyond those wanted, among them a Gaussian and itself."""
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
    those of `means`.
    """
    count = min(count, len(means) - 1)
    if count < 1:
        empty = torch.zeros(0, dtype=torch.long, device=means.device)
        return Neighbours(empty, empty, means.new_zeros(0), 0)
    distances, others = (_by_comparing if means.is_cuda else _by_tree)(means / unit, count)
    weights = torch.exp(-SHARPNESS * distances.square())
    is_near = weights > SMALLEST_WEIGHT
    rows = torch.arange(len(means), device=means.device)[:, None].expand_as(others)
    return Neighbours(rows[is_near], others[is_near], weights[is_near], weights.numel())


def _by_tree(
    points: Float[Tensor, "N 3"], count: int
) -> tuple[Float[Tensor, "N k"], Int[Tensor, "N k"]]:
    """Distances and rows of the nearest others, on the CPU."""
    from sklearn.neighbors import NearestNeighbors

    tree = NearestNeighbors(n_neighbors=count, n_jobs=-1).fit(points.numpy())
    distances, others = (torch.from_numpy(values) for values in tree.kneighbors())
    return distances.float(), others.long()


def _by_comparing(
    points: Float[Tensor, "N 3"], count: int
) -> tuple[Float[Tensor, "N k"], Int[Tensor, "N k"]]:
    """The same by comparing pairs, which a GPU does sooner than the points reach the CPU.

    Points are sorted along the longest axis, and each batch is compared with those that lie within
    reach along it; missing neighbours are infinitely far.
    """
    sizes = points.amax(0) - points.amin(0)
    along = points.index_select(1, sizes.argmax().reshape(1))[:, 0]
    order = along.argsort()
    along, points = along[order], points[order] - points.mean(0)
    rows_at_once = max(1, min(ROWS_AT_ONCE, COMPARED_AT_ONCE // len(points)))
    firsts = torch.arange(0, len(points), rows_at_once, device=points.device)
    lasts = (firsts + rows_at_once - 1).clamp(max=len(points) - 1)
    lows = torch.searchsorted(along, along[firsts] - REACH)
    highs = torch.searchsorted(along, along[lasts] + REACH, right=True)
    distances = torch.full((len(points), count), torch.inf, device=points.device)
    others = torch.zeros(len(points), count, dtype=torch.long, device=points.device)
    for first, last, low, high in torch.stack([firsts, lasts, lows, highs], dim=1).tolist():
        rows = slice(first, last + 1)
        found, nearest = _nearest(points[rows], points[low:high], first - low, count)
        distances[rows, : found.shape[1]] = found
        others[rows, : found.shape[1]] = order[nearest + low]
    back = order.argsort()
    return distances[back], others[back]


def _nearest(
    batch: Float[Tensor, "n 3"], points: Float[Tensor, "m 3"], first: int, count: int
) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """Distances and rows of the nearest of `points` other than itself, which is `first` and on.

    Candidates are found by the expanded square, one matrix product, and measured exactly.
    """
    squares = points.square().sum(-1)
    nearest = torch.addmm(squares[None], batch, points.T, alpha=-2.0)
    candidates = min(len(points), count + SPARE_CANDIDATES)
    nearest = nearest.topk(candidates, dim=1, largest=False, sorted=False).indices
    apart = (points[nearest] - batch[:, None]).norm(dim=-1)
    own = torch.arange(first, first + len(batch), device=points.device)[:, None]
    apart = apart.masked_fill(nearest == own, torch.inf)
    found = apart.topk(min(count, candidates), dim=1, largest=False)
    return found.values, nearest.gather(1, found.indices)


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
