"""Gate-aware pruning: a mixture without its least important Gaussians, and when it is pruned."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any

import tyro
from jaxtyping import Bool
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor, nn
from torch.optim import Optimizer

from moegs_ns.cameras import single_views
from moegs_ns.mixture.importance import CRITERIA, CriterionName, Importance
from moegs_ns.mixture.mixture import Mixture
from moegs_ns.mixture.responsibilities import OwnViews, as_given
from moegs_ns.mixture.volume_mixture import mixture_of
from moegs_ns.training.optimizers import replace_parameter, scaled_steps


@dataclass(frozen=True)
class PruneConfig:
    """Which Gaussians of a trained mixture are removed, and when; needs --router."""

    ratio: Annotated[float | None, tyro.conf.arg(aliases=["--prune-ratio"])] = None
    """Fraction of all Gaussians to remove, the least important ones; 0.55 removes 55 %."""
    threshold: Annotated[float | None, tyro.conf.arg(aliases=["--prune-threshold"])] = None
    """Importance below which Gaussians are removed: a mean over the pixels of the training images,
    so 1e-6 is a millionth of an image; of opacities an opacity."""
    criterion: Annotated[CriterionName, tyro.conf.arg(aliases=["--prune-criterion"])] = (
        "gated-contribution"
    )
    """Importance of a Gaussian: its contribution to the images with or without gates, how strongly
    the gates depend on its weights (as published), its opacity, or a random number."""
    per_expert: Annotated[bool, tyro.conf.arg(aliases=["--prune-per-expert"])] = False
    """Remove the same fraction of every expert, instead of ranking the Gaussians of all."""
    rounds: Annotated[int, tyro.conf.arg(aliases=["--prune-rounds"])] = 1
    """Rounds of pruning, with training of the router in between. Each removes the same fraction of
    what is left, so that the last one reaches `ratio`."""
    every: int = 1000
    """Steps of the full recipe from one round to the next; the first is before the first step."""
    max_views: int | None = None
    """Training images to measure importance on, spread evenly over all; None for all of them."""

    @property
    def is_asked(self) -> bool:
        """Whether anything is to be removed."""
        return self.ratio is not None or self.threshold is not None

    def summary(self) -> list[str]:
        """For the options of a table of results; empty if nothing is removed."""
        if not self.is_asked:
            return []
        what = f"below {self.threshold:g}" if self.ratio is None else f"{self.ratio:.0%}"
        return [f"pruned {what} by {self.criterion}"]

    def check(self) -> None:
        """Raise ValueError for values out of range."""
        if self.ratio is not None and self.threshold is not None:
            raise ValueError(
                "Pruning expects --prune-ratio or --prune-threshold, got both; name one of them."
            )
        if self.ratio is not None and not 0.0 <= self.ratio < 1.0:
            raise ValueError(
                f"--prune-ratio expects the fraction of Gaussians to remove, from 0 to below 1, "
                f"got {self.ratio:g}; 0.55 removes 55 %."
            )
        if self.threshold is not None and not self.threshold >= 0.0:
            raise ValueError(
                f"--prune-threshold expects an importance of at least 0, got {self.threshold:g}."
            )
        if self.rounds < 1 or self.every < 1:
            raise ValueError(
                "Pruning expects at least 1 round (--prune-rounds) and at least 1 step between "
                f"rounds (--pipeline.model.prune.every), got {self.rounds} and {self.every}."
            )
        if self.max_views is not None and self.max_views < 1:
            raise ValueError(
                "--pipeline.model.prune.max-views expects a number of training images of at least "
                f"1, got {self.max_views}."
            )


def check_request(config: PruneConfig, mixture_run: Path | None, *, has_experts: bool) -> None:
    """Raise ValueError unless a trained mixture is opened exactly where something is pruned."""
    if mixture_run is not None and has_experts:
        raise ValueError(
            "Expected experts to mix (--experts) or a trained mixture to prune (--router), got "
            "both; name one of them."
        )
    if mixture_run is None and config.is_asked:
        raise ValueError(
            "Pruning expects a trained mixture, got none; add --router RUN/config.yml, the run of "
            "a mixture of these experts, instead of --experts."
        )
    if mixture_run is not None and not config.is_asked:
        raise ValueError(
            "With --router a trained mixture is pruned, which expects --prune-ratio (a "
            "fraction of the Gaussians, such as 0.55) or --prune-threshold, got neither."
        )
    config.check()


def check_rounds(config: PruneConfig, steps: int, budget: float) -> None:
    """Raise ValueError unless all rounds take place within a training of so many steps."""
    last = (config.rounds - 1) * scaled_steps(config.every, budget)
    if config.is_asked and last >= steps:
        raise ValueError(
            f"Pruning in {config.rounds} rounds, the last before step {last:,}, expects a training "
            f"that gets there, but this one has {steps:,} steps; lower --prune-rounds or "
            "--pipeline.model.prune.every, or raise --max-num-iterations."
        )


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


class PruningSchedule(nn.Module):
    """Prunes a mixture in rounds while its router is trained, and records the rounds.

    Steps are those about to run. Every round makes a new mixture, whose parameters replace the old
    ones in the optimisers together with their state.
    """

    def __init__(self, config: PruneConfig, *, budget: float, seed: int) -> None:
        super().__init__()
        self.config = config
        self.every = scaled_steps(config.every, budget)
        self.seed = seed
        self.reports: list[PruneReport] = []
        """One per finished round."""

    def is_due(self, step: int) -> bool:
        """Whether a round takes place before `step`."""
        done = len(self.reports)
        return done < self.config.rounds and step >= done * self.every

    def run_round(
        self,
        mixture: Mixture,
        cameras: Cameras,
        optimizers: dict[str, Optimizer],
        own_views: OwnViews = as_given,
    ) -> Mixture:
        """Rank all Gaussians on the training cameras, from where experts believe these to be; the
        mixture without the least important."""
        device = next(mixture.buffers()).device
        views = single_views(cameras, device, self.config.max_views)
        criterion = CRITERIA[self.config.criterion]
        importance = criterion.measure(mixture, views, own_views, self.seed + len(self.reports))
        keep = self.choose(importance)
        pruned = prune(mixture, keep)
        # Let the optimisers train the pruned router in place of the old one.
        before, after = mixture.router, pruned.router
        pairs = zip(before.gaussian_weights, after.gaussian_weights, keep, strict=True)
        for old, new, mask in pairs:
            for name in old:
                replace_parameter(optimizers.values(), old[name], new[name], itemgetter(mask))
        for old, new in zip(before.phi.parameters(), after.phi.parameters(), strict=True):
            replace_parameter(optimizers.values(), old, new)
        self.reports.append(PruneReport.of(importance, keep))
        return pruned

    def choose(self, importance: Importance) -> list[Bool[Tensor, "_"]]:
        """Masks of the Gaussians that stay in the next round."""
        config = self.config
        if config.threshold is not None:
            return importance.at_least(config.threshold)
        assert config.ratio is not None
        current = tuple(len(values) for values in importance.values)
        first = self.reports[0].before if self.reports else current
        # Each round removes the same fraction of what is left.
        kept = (1.0 - config.ratio) ** ((len(self.reports) + 1) / config.rounds)
        if config.per_expert:
            return importance.best_per_expert([round(kept * count) for count in first])
        return importance.best(round(kept * sum(first)))

    def describe(self, names: Sequence[str]) -> str:
        """The last round in one sentence."""
        report = self.reports[-1]
        counts = ", ".join(
            f"{name} {before:,} to {after:,}"
            for name, before, after in zip(names, report.before, report.after, strict=True)
        )
        fraction = report.saturated_fraction
        saturated = (
            f"; {fraction:.0%} of the pixels had a saturated gate" if fraction is not None else ""
        )
        return (
            f"Pruning round {len(self.reports)} of {self.config.rounds} by "
            f"{self.config.criterion}: {report.removed_fraction:.1%} of the Gaussians removed "
            f"({counts}){saturated}."
        )

    def get_extra_state(self) -> dict[str, Any]:
        """The finished rounds, which a resumed run does not repeat."""
        return {"reports": [asdict(report) for report in self.reports]}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore `get_extra_state`."""
        self.reports = [PruneReport(**report) for report in state["reports"]]


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
                "Gaussians): prune less, take the same fraction of each expert (--prune-per-expert "
                "True), or mix without this expert."
            )
    experts = [expert.select(mask) for expert, mask in zip(mixture.experts, keep, strict=True)]
    router = mixture.router.select(keep)
    pruned = mixture_of(experts, router, mixture.temperature, mixture.gate_config)
    return pruned.train(mixture.training)
