"""Neighbouring Gaussians have similar embeddings (Bae et al., ECCV 2024, local smoothness)."""

import math
import warnings
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from moegs_ns.experts.nearest import nearest_others

SHARPNESS = 2000.0
"""How fast the weight of a pair falls with its squared distance, in published units of length."""
SMALLEST_WEIGHT = 1e-12
"""Pairs below this weight, a thousandth of a thousandth of the force, are left out."""
REACH = math.sqrt(-math.log(SMALLEST_WEIGHT) / SHARPNESS)
"""Distance in published units beyond which pairs are left out."""
TINY = 1e-20
"""Under the root, whose slope would be infinite at equal embeddings."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Pairs of near Gaussians in canonical space, each in both directions, as a sparse matrix."""

    starts: Int[Tensor, "_"]
    """Where the pairs of each of N Gaussians begin, and their number at last: N + 1 entries."""
    others: Int[Tensor, "P"]
    roots: Float[Tensor, "P"]
    """Root of the pair's weight, halved where only one of the two has the other among its nearest,
    as every pair is listed twice."""
    total: int
    """Pairs that a mean is taken over, among them those too far apart to be listed."""
    rows: Int[Tensor, "P"] = field(init=False)
    """The Gaussian that each pair belongs to."""

    def __post_init__(self) -> None:
        rows = torch.arange(len(self.starts) - 1, dtype=torch.int, device=self.starts.device)
        rows = rows.repeat_interleave(self.starts.diff(), output_size=len(self.others))
        object.__setattr__(self, "rows", rows)

    def matrix(self, values: Float[Tensor, "P"]) -> Tensor:
        """One value for each pair, as a sparse N x N matrix."""
        size = (len(self.starts) - 1, len(self.starts) - 1)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            return torch.sparse_csr_tensor(
                self.starts, self.others, values, size, check_invariants=False
            )

    def state(self) -> dict[str, Any]:
        """For checkpoints, in 8 bytes a pair."""
        tensors = {name: getattr(self, name).cpu() for name in ("starts", "others", "roots")}
        return tensors | {"total": self.total}

    @staticmethod
    def from_state(state: dict[str, Any], device: torch.device) -> "Neighbours":
        """The inverse of `state`."""
        tensors = {name: state[name].to(device) for name in ("starts", "others", "roots")}
        return Neighbours(**tensors, total=int(state["total"]))


@torch.no_grad()
def find_neighbours(means: Float[Tensor, "N 3"], count: int, unit: float) -> Neighbours:
    """The `count` nearest neighbours of each Gaussian; `unit` is the published unit of length in
    those of `means`.
    """
    distances, others = nearest_others(means / unit, count, REACH)
    total, count = others.shape
    weights = torch.exp(-SHARPNESS * distances.square())
    is_near = weights > SMALLEST_WEIGHT
    rows = torch.arange(total, device=means.device)[:, None].expand_as(others)[is_near]
    others, roots = others[is_near], 0.5 * weights[is_near].sqrt()
    # Each pair in both directions, as one number; pairs that were found from both ends add up.
    pairs = torch.cat([rows * total + others, others * total + rows])
    pairs, indices = pairs.unique(return_inverse=True)
    starts = torch.searchsorted(pairs, total * torch.arange(total + 1, device=means.device))
    return Neighbours(
        starts.int(),
        (pairs % max(1, total)).int(),
        roots.new_zeros(len(pairs)).index_add_(0, indices, roots.repeat(2)),
        total * count,
    )


def embedding_penalty(
    embeddings: Float[Tensor, "N G"], neighbours: Neighbours
) -> Float[Tensor, ""]:
    """Mean distance of the embeddings of neighbours, times the root of the pair's weight.

    The root is the released code's; the paper weighs with the weight itself.
    """
    if neighbours.total == 0:
        return embeddings.new_zeros(())
    has_products = embeddings.is_cuda or torch.backends.mkl.is_available()
    measure = sparse_penalty if has_products else reference_penalty
    return measure(embeddings, neighbours) / neighbours.total


def reference_penalty(
    embeddings: Float[Tensor, "N G"], neighbours: Neighbours
) -> Float[Tensor, ""]:
    """The sum over all pairs, one difference of embeddings for each."""
    difference = embeddings.index_select(0, neighbours.rows) - embeddings.index_select(
        0, neighbours.others
    )
    return (neighbours.roots * (difference.square().sum(-1) + TINY).sqrt()).sum()


def sparse_penalty(embeddings: Float[Tensor, "N G"], neighbours: Neighbours) -> Float[Tensor, ""]:
    """`reference_penalty` by sparse matrix products, which write 1 number a pair, not G.

    Squared distances are expanded, and forces cancel where embeddings are nearly equal, hence in
    double precision: differences down to a millionth of the embeddings themselves are told.
    """
    return cast(Tensor, _SparsePenalty.apply(embeddings, neighbours))


class _SparsePenalty(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, embeddings: Tensor, neighbours: Neighbours) -> Tensor:
        centred = embeddings.double()
        centred = centred - centred.mean(0)
        squares = centred.square().sum(1)
        sums = squares.index_select(0, neighbours.rows) + squares.index_select(0, neighbours.others)
        # |a|^2 + |b|^2 - 2 a.b, at the pairs only.
        apart = torch.sparse.sampled_addmm(neighbours.matrix(sums), centred, centred.T, alpha=-2.0)
        distances = apart.values().clamp(min=TINY).sqrt()
        ctx.save_for_backward(centred, distances)
        ctx.neighbours, ctx.dtype = neighbours, embeddings.dtype
        return (neighbours.roots * distances).sum().to(embeddings.dtype)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor, None]:
        centred, distances = ctx.saved_tensors
        forces = ctx.neighbours.matrix(ctx.neighbours.roots / distances)
        # The column of ones adds up the forces of each Gaussian; products like multiples of four.
        pulled = forces @ functional.pad(centred, (0, 4 - centred.shape[1] % 4), value=1.0)
        size = centred.shape[1]
        away = pulled[:, size : size + 1] * centred - pulled[:, :size]
        return (2.0 * gradient * away).to(ctx.dtype), None  # Each pair pulls at both ends.
