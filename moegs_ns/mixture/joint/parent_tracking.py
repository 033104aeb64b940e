"""Tracks parents through densification, so that router weights follow their Gaussians.

Before a recipe changes its expert, every Gaussian's number is stored as one more statistic of the
densifiers. Densification copies statistics from parents to clones and children and fills 0 for new
Gaussians, so that the numbers that are left name the parents.
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
from moegs_ns.gaussians import GaussianParams
from moegs_ns.training.optimizers import replace_parameter

PARENT = "parent"
"""Name of the statistic: a Gaussian's index from 1 in the expert's set before the change."""


@contextmanager
def track_parents(recipe: Recipe, on_change: Callable[[Int[Tensor, "N"]], None]) -> Iterator[None]:
    """Watch what a block does to the Gaussians of a recipe's expert.

    If the set changes, `on_change` gets the index from 1 that each Gaussian, or its parent, had
    before; 0 for those without a parent, and for all if another than the recipe's densifiers
    changed the set. While nothing changes the host does not synchronise with the GPU.
    """
    # Number the Gaussians of all densifiers in the expert's order.
    before = [densifier.parameters["means"] for densifier in recipe.densifiers]
    counts = [len(means) for means in before]
    total = sum(counts)
    numbers = torch.arange(1, total + 1, device=before[0].device)
    for densifier, own in zip(recipe.densifiers, numbers.split(counts), strict=True):
        densifier.statistics[PARENT] = own
    yield
    # Densification replaces parameters; the same objects mean the same Gaussians.
    parents = [densifier.statistics.pop(PARENT, numbers[:0]) for densifier in recipe.densifiers]
    after = [densifier.parameters["means"] for densifier in recipe.densifiers]
    count = recipe.expert.num_gaussians
    if count == total and all(old is new for old, new in zip(before, after, strict=True)):
        return
    together = torch.cat(parents)
    on_change(together if len(together) == count else together.new_zeros(count))


@torch.no_grad()
def take_from_parents(
    weights: GaussianParams,
    optimizers: Iterable[Optimizer],
    parents: Int[Tensor, "N"],
    initial: dict[str, float],
) -> None:
    """Give each Gaussian the weights and optimiser state of its parent (see `track_parents`).

    Gaussians without a parent begin with the `initial` value and no moments.
    """
    optimizers = list(optimizers)
    for name, old in list(weights.items()):
        new = Parameter(_taken(old, parents, initial[name]))
        replace_parameter(optimizers, old, new, partial(_taken, parents=parents, initial=0.0))
        weights[name] = new


def _taken(values: Tensor, parents: Int[Tensor, "N"], initial: float) -> Tensor:
    """Values by index from 1; `initial` for the index 0."""
    return torch.cat([values.new_full((1, *values.shape[1:]), initial), values])[parents]
