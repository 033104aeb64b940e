"""Where Gaussians come from: what else is kept per Gaussian follows those that a recipe rewrites.

Rows are numbered before a recipe changes its expert, as one more statistic of its densifiers. The
operations of densification hand statistics on with the rows, from parents to clones and children
too, and give 0 to what is new, so that the numbers that are left say which row each one comes from.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from moegs_ns.experts.recipe import Recipe
from moegs_ns.training.gaussian_params import GaussianParams
from moegs_ns.training.optimizers import replace_parameter

SOURCE = "source"
"""Name of the statistic: the number of a row, from 1, in the expert's set as it was before."""


@contextmanager
def followed(recipe: Recipe, on_change: Callable[[Int[Tensor, "N"]], None]) -> Iterator[None]:
    """Watch what a block does to the set of Gaussians of a recipe's expert.

    If that changes, `on_change` is told of every row where it comes from: the number, from 1, that
    it or its parent had before; 0 for a row without a parent. Rows that were not rewritten by the
    recipe's densifiers have 0 as well. Nothing waits for the GPU while nothing changes.
    """
    before = [densifier.parameters["means"] for densifier in recipe.densifiers]
    counts = [len(means) for means in before]
    total = sum(counts)
    numbers = torch.arange(1, total + 1, device=before[0].device)
    for densifier, own in zip(recipe.densifiers, numbers.split(counts), strict=True):
        densifier.statistics[SOURCE] = own
    yield
    sources = [densifier.statistics.pop(SOURCE, numbers[:0]) for densifier in recipe.densifiers]
    after = [densifier.parameters["means"] for densifier in recipe.densifiers]
    count = recipe.expert.num_gaussians
    if count == total and all(old is new for old, new in zip(before, after, strict=True)):
        return
    together = torch.cat(sources)
    on_change(together if len(together) == count else together.new_zeros(count))


@torch.no_grad()
def follow(
    rows: GaussianParams,
    optimizers: Iterable[Optimizer],
    sources: Int[Tensor, "N"],
    initial: dict[str, float],
) -> None:
    """Give parameters the rows that Gaussians come from (`followed`), with their optimisers' state.

    Rows of Gaussians without a source begin with the `initial` value and no moments.
    """
    optimizers = list(optimizers)
    for name, old in list(rows.items()):
        new = Parameter(_taken(old, sources, initial[name]))
        replace_parameter(optimizers, old, new, partial(_taken, sources=sources, first=0.0))
        rows[name] = new


def _taken(values: Tensor, sources: Int[Tensor, "N"], first: float) -> Tensor:
    """Rows by their numbers from 1; for the number 0 a row of `first`."""
    return torch.cat([values.new_full((1, *values.shape[1:]), first), values])[sources]
