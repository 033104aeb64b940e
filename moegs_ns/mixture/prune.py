"""Gate-aware pruning: a mixture without its least important Gaussians."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

from jaxtyping import Bool
from torch import Tensor
from torch.optim import Optimizer

from moegs_ns.mixture.importance import Importance
from moegs_ns.mixture.mixture import Mixture
from moegs_ns.mixture.volume_mixture import mixture_of
from moegs_ns.routers import Router
from moegs_ns.training.optimizers import replace_parameter


@dataclass(frozen=True)
class PruneReport:
    """What a pruning did; counts are those of each expert."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    saturated_fraction: float | None
    """See `Importance`."""

    @staticmethod
    def of(importance: Importance, keep: Sequence[Bool[Tensor, "_"]]) -> "PruneReport":
        """The report of keeping the marked Gaussians."""
        return PruneReport(
            before=tuple(len(mask) for mask in keep),
            after=tuple(int(mask.sum()) for mask in keep),
            saturated_fraction=importance.saturated_fraction,
        )

    @property
    def removed_fraction(self) -> float:
        """Of the Gaussians of all experts."""
        return 1.0 - sum(self.after) / max(1, sum(self.before))


def prune(mixture: Mixture, keep: Sequence[Bool[Tensor, "_"]]) -> Mixture:
    """A new mixture of the marked Gaussians alone, in their old order.

    Raises:
        ValueError: nothing would be left of an expert.
    """
    for index, (expert, mask) in enumerate(zip(mixture.experts, keep, strict=True)):
        if expert.num_gaussians and not bool(mask.any()):
            raise ValueError(
                f"Expected to keep some Gaussians of every expert, but nothing would be left of "
                f"expert {index + 1}, {type(expert).__name__} ({expert.num_gaussians:,} "
                "Gaussians): prune less, take the same share of each expert (--prune-per-expert "
                "True), or mix without this expert."
            )
    experts = [expert.select(mask) for expert, mask in zip(mixture.experts, keep, strict=True)]
    pruned = mixture_of(experts, mixture.router.select(keep), mixture.temperature)
    return pruned.train(mixture.training)


def hand_over(
    optimizers: dict[str, Optimizer],
    before: Router,
    after: Router,
    keep: Sequence[Bool[Tensor, "_"]],
) -> None:
    """Let optimisers train a pruned router in the place of the one that `keep` was applied to."""
    pairs = zip(before.gaussian_weights, after.gaussian_weights, keep, strict=True)
    for old, new, mask in pairs:
        for name in old:
            replace_parameter(optimizers.values(), old[name], new[name], itemgetter(mask))
    for old, new in zip(before.phi.parameters(), after.phi.parameters(), strict=True):
        replace_parameter(optimizers.values(), old, new)
