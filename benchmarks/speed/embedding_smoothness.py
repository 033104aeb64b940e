"""E-D3DGS's embedding smoothness: one difference of embeddings a pair against sparse products.

    python -m benchmarks.speed.embedding_smoothness --counts 20000 100000

Points lie on two walls a few units apart, so that all twenty neighbours are within reach.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import torch
import tyro
from jaxtyping import Float
from torch import Tensor

from benchmarks.tables import RESULTS, Table
from moegs_ns.evaluation.tables import Row
from moegs_ns.evaluation.timing import columns, time_calls, time_in_turns
from moegs_ns.experts.ed3dgs.embedding_smoothness import (
    Neighbours,
    find_neighbours,
    reference_penalty,
    sparse_penalty,
)

NEIGHBOURS, EMBEDDING_SIZE = 20, 32


@dataclass(frozen=True, kw_only=True)
class EmbeddingSmoothness(Table):
    """Milliseconds of the search for neighbours, and of value and gradient, both ways in turns."""

    counts: tuple[int, ...] = (20_000, 100_000, 250_000)
    """Gaussians of each row."""
    repeats: int = 20
    """Timed calls."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Where to compute."""
    name: str = "embedding_smoothness"
    results_dir: Path = RESULTS / "synthetic"

    def rows(self) -> Iterator[Row]:
        yield from map(self.row, self.counts)

    def row(self, count: int) -> Row:
        """Times at a number of Gaussians."""
        generator = torch.Generator().manual_seed(0)
        means = two_walls(count, generator).to(self.device)
        search = partial(find_neighbours, means, NEIGHBOURS, 1.0)
        searching, neighbours = time_calls(search, 3, warmup=1), search()
        embeddings = torch.randn(count, EMBEDDING_SIZE, generator=generator).to(self.device)
        embeddings.requires_grad_()

        def step(penalty: Callable[[Tensor, Neighbours], Tensor]) -> None:
            torch.autograd.grad(penalty(embeddings, neighbours), embeddings)

        calls = {each: partial(step, each) for each in (reference_penalty, sparse_penalty)}
        plain, sparse = time_in_turns(calls, self.repeats).values()
        return {
            "device": self.device, "gaussians": count, "pairs": len(neighbours.others),
            "search_ms": median(searching), **columns(plain, "plain_"),
            **columns(sparse, "sparse_"), "times_faster": median(plain) / median(sparse),
        }  # fmt: skip


def two_walls(count: int, generator: torch.Generator) -> Float[Tensor, "N 3"]:
    """Points spread evenly over two squares four units wide, a hundredth of a unit thick."""
    means = 4.0 * torch.rand(count, 3, generator=generator) - 2.0
    thin = 0.01 * torch.randn(count, generator=generator)
    means[: count // 2, 2] = thin[: count // 2]
    means[count // 2 :, 0] = thin[count // 2 :]
    return means


if __name__ == "__main__":
    tyro.cli(EmbeddingSmoothness, description=__doc__).main()
