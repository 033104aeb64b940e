"""Nearest neighbours among Gaussians, on the CPU and on a GPU."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

POINTS_AT_ONCE = 4096
COMPARED_AT_ONCE = 2**28
"""Points whose neighbours are sought at once, and most pairs whose distances are held, a
gigabyte."""
SPARE_CANDIDATES = 12
"""Pairs that are measured exactly beyond those wanted, among them a Gaussian and itself."""


@torch.no_grad()
def nearest_others(
    points: Float[Tensor, "N D"], count: int, reach: float
) -> tuple[Float[Tensor, "N k"], Int[Tensor, "N k"]]:
    """Distances and indices of the `count` nearest others of each point, fewer where there are
    fewer points.

    Those beyond `reach`, in the unit of the points, may be missing; then they are infinitely far.
    """
    count = max(0, min(count, len(points) - 1))
    if count == 0:
        others = torch.zeros(len(points), 0, dtype=torch.long, device=points.device)
        return points.new_zeros(len(points), 0), others
    return by_comparing(points, count, reach) if points.is_cuda else by_tree(points, count)


def by_tree(
    points: Float[Tensor, "N D"], count: int
) -> tuple[Float[Tensor, "N k"], Int[Tensor, "N k"]]:
    """Distances and indices of the nearest others, on the CPU."""
    from sklearn.neighbors import NearestNeighbors

    tree = NearestNeighbors(n_neighbors=count, n_jobs=-1).fit(points.numpy())
    distances, others = (torch.from_numpy(values) for values in tree.kneighbors())
    return distances.float(), others.long()


def by_comparing(
    points: Float[Tensor, "N D"], count: int, reach: float
) -> tuple[Float[Tensor, "N k"], Int[Tensor, "N k"]]:
    """The same by comparing pairs, which a GPU does sooner than the points reach the CPU.

    Points are sorted along the longest axis, and each batch is compared with those that lie within
    `reach` along it; missing neighbours are infinitely far.
    """
    sizes = points.amax(0) - points.amin(0)
    along = points.index_select(1, sizes.argmax().reshape(1))[:, 0]
    order = along.argsort()
    along, points = along[order], points[order] - points.mean(0)
    points_at_once = max(1, min(POINTS_AT_ONCE, COMPARED_AT_ONCE // len(points)))
    firsts = torch.arange(0, len(points), points_at_once, device=points.device)
    lasts = (firsts + points_at_once - 1).clamp(max=len(points) - 1)
    lows = torch.searchsorted(along, along[firsts] - reach)
    highs = torch.searchsorted(along, along[lasts] + reach, right=True)
    distances = torch.full((len(points), count), torch.inf, device=points.device)
    others = torch.zeros(len(points), count, dtype=torch.long, device=points.device)
    for first, last, low, high in torch.stack([firsts, lasts, lows, highs], dim=1).tolist():
        batch = slice(first, last + 1)
        found, nearest = _nearest(points[batch], points[low:high], first - low, count)
        distances[batch, : found.shape[1]] = found
        others[batch, : found.shape[1]] = order[nearest + low]
    back = order.argsort()
    return distances[back], others[back]


def _nearest(
    batch: Float[Tensor, "n D"], points: Float[Tensor, "m D"], first: int, count: int
) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """Distances and indices of the nearest of `points` other than itself, which is `first` and on.

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
