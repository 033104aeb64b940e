"""Gate-aware pruning: a mixture without the Gaussians that are worth least to it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from moegs_ns.mixture.importance import Importance
from moegs_ns.mixture.mixture import Mixture
from moegs_ns.mixture.volume_mixture import mixture_of


@dataclass(frozen=True, eq=False)
class Choice:
    """Which Gaussians stay, by expert."""

    keep: list[Bool[Tensor, "_"]]
    thresholds: tuple[float, ...]
    """Importance that every Gaussian of an expert has at least, if it stays."""


@dataclass(frozen=True)
class PruneReport:
    """What a pruning did."""

    before: tuple[int, ...]
    """Gaussians of each expert."""
    after: tuple[int, ...]
    thresholds: tuple[float, ...]
    saturated_share: float | None
    """Of the pixels that the importance was measured on; None where it was not measured."""

    @property
    def removed_share(self) -> float:
        """Share of all Gaussians that are gone."""
        return 1.0 - sum(self.after) / max(1, sum(self.before))


def best_rows(importance: Importance, counts: Sequence[int]) -> Choice:
    """The `counts[k]` Gaussians of each expert that are worth most; of equals the first ones."""
    keep = [torch.zeros_like(values, dtype=torch.bool) for values in importance.values]
    for marked, values, count in zip(keep, importance.values, counts, strict=True):
        marked[torch.argsort(values, descending=True, stable=True)[:count]] = True
    return Choice(keep, _thresholds(importance, keep))


def best_of_all(importance: Importance, count: int) -> Choice:
    """The `count` Gaussians of all experts together that are worth most; of equals the first."""
    together = best_rows(Importance([torch.cat(importance.values)]), [count])
    sizes = [len(values) for values in importance.values]
    return Choice(list(together.keep[0].split(sizes)), together.thresholds * len(sizes))


def above(importance: Importance, threshold: float) -> Choice:
    """The Gaussians that are worth at least `threshold`, in the unit of the criterion."""
    keep = [values >= threshold for values in importance.values]
    return Choice(keep, (threshold,) * len(keep))


def prune(mixture: Mixture, keep: Sequence[Bool[Tensor, "_"]]) -> Mixture:
    """The mixture of the marked Gaussians alone, in their old order; the given one is unchanged.

    Raises:
        ValueError: nothing would be left of an expert.
    """
    for place, (expert, marked) in enumerate(zip(mixture.experts, keep, strict=True)):
        if expert.num_gaussians and not bool(marked.any()):
            raise ValueError(
                f"Expected to keep some Gaussians of every expert, but nothing would be left of "
                f"expert {place + 1}, {type(expert).__name__} ({expert.num_gaussians:,} "
                "Gaussians): prune less, take the same share of each expert (--prune-per-expert "
                "True), or mix without this expert."
            )
    experts = [expert.select(marked) for expert, marked in zip(mixture.experts, keep, strict=True)]
    pruned = mixture_of(experts, mixture.router.select(keep), mixture.temperature)
    return pruned.train(mixture.training)


def report_of(importance: Importance, choice: Choice) -> PruneReport:
    """Counts, thresholds and saturation of a pruning."""
    return PruneReport(
        before=tuple(len(marked) for marked in choice.keep),
        after=tuple(int(marked.sum()) for marked in choice.keep),
        thresholds=choice.thresholds,
        saturated_share=importance.saturated_share,
    )


def _thresholds(importance: Importance, keep: Sequence[Bool[Tensor, "_"]]) -> tuple[float, ...]:
    kept: list[Float[Tensor, "_"]] = [
        values[marked] for values, marked in zip(importance.values, keep, strict=True)
    ]
    return tuple(float(values.min()) if len(values) else float("inf") for values in kept)
