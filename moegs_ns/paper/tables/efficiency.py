"""Tables 3 and 5: what pruning and the single pass cost and save."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from moegs_ns.evaluation.tables import Row
from moegs_ns.launch.jobs import TrainingJob
from moegs_ns.paper.summary import Line
from moegs_ns.paper.tables.base import (
    AnyExperts,
    Entry,
    difference,
    expert_entry,
    gain_findings,
    is_of_the_paper,
    means_of,
    mixture_label,
    mixture_of,
    spread_of,
)
from moegs_ns.paper.trainings import Trainings

ONE_PASS, SEPARATE = "whole frame", "separate passes"
"""What `moegs benchmark` calls the two ways to draw a mixture."""
RATIO_OF_TABLE_5 = 0.64
"""The paper does not say it; its memory falls from 747 to 270 MB."""
EFFICIENCY = ("psnr", "fps", "mb", "gaussians")


@dataclass(frozen=True)
class Pruned(AnyExperts):
    """Table 3: a mixture, and what is left of it without most of its Gaussians."""

    number: int = 3
    about: str = "Experts, their mixture, and the mixture pruned: quality, speed and memory"
    data_set: str = "N3V"
    figures: tuple[str, ...] = EFFICIENCY
    seeds: tuple[int, ...] = (0,)
    ratios: tuple[float, ...] = (0.55, 0.75)

    def mixture(self, trainings: Trainings) -> TrainingJob:
        """The mixture that is pruned."""
        return trainings.mixture(trainings.experts(trainings.study.set_of("n2")))

    def pruned(self, trainings: Trainings) -> list[TrainingJob]:
        """The mixture at each ratio."""
        whole = self.mixture(trainings)
        return [trainings.pruned(whole, ratio) for ratio in self.ratios]

    def stages(self, trainings: Trainings) -> Iterator[Sequence[TrainingJob]]:
        """Experts, their router, then pruning with the router trained on."""
        yield trainings.experts(trainings.study.set_of("n2"))
        yield [self.mixture(trainings)]
        yield self.pruned(trainings)

    def entries(self, trainings: Trainings) -> list[Entry]:
        """Experts, the mixture, and what pruning left of it."""
        names = trainings.study.set_of("n2")
        is_same = is_of_the_paper(names, "n2")
        experts = [expert_entry(name, trainings.expert(name)) for name in names]
        whole = Entry(
            mixture_label(len(names)),
            self.mixture(trainings),
            has_paper_row=is_same,
            members=tuple(expert.label for expert in experts),
        )
        pruned = [
            replace(whole, label=pruned_label(ratio), job=job, experts_of=whole.job)
            for ratio, job in zip(self.ratios, self.pruned(trainings), strict=True)
        ]
        return [*experts, whole, *pruned]

    def findings(self, lines: Sequence[Line], runs: Sequence[Row]) -> list[str]:
        """What pruning costs in PSNR and saves in time."""
        means = means_of(lines)
        whole = mixture_of(means)
        found = gain_findings(lines)
        for label in map(pruned_label, self.ratios):
            if whole is not None and label in means:
                cost = difference(means[label], whole) + spread_of(runs, label, whole.label)
                found.append(
                    f"{label}: {cost} beside the whole mixture, {faster(means[label], whole)}."
                )
        return found


@dataclass(frozen=True)
class Optimizations(AnyExperts):
    """Table 5: a mixture with and without the single pass, with and without pruning."""

    number: int = 5
    about: str = "The single pass and pruning by 64 %, each left out: quality, speed and memory"
    data_set: str = "N3V"
    figures: tuple[str, ...] = EFFICIENCY
    seeds: tuple[int, ...] = (0,)

    def whole(self, trainings: Trainings) -> TrainingJob:
        """The mixture that nothing is removed of."""
        return trainings.mixture(trainings.experts(trainings.study.set_of("n3")))

    def stages(self, trainings: Trainings) -> Iterator[Sequence[TrainingJob]]:
        """Experts, their router, then pruning."""
        yield trainings.experts(trainings.study.set_of("n3"))
        yield [self.whole(trainings)]
        yield [trainings.pruned(self.whole(trainings), RATIO_OF_TABLE_5)]

    def entries(self, trainings: Trainings) -> list[Entry]:
        """Both mixtures, each drawn in both ways; a drawn image is the same in both."""
        names = trainings.study.set_of("n3")
        whole = self.whole(trainings)
        pruned = trainings.pruned(whole, RATIO_OF_TABLE_5)
        is_same = is_of_the_paper(names, "n3")
        rows = (
            ("w/o Single-Pass & Pruning", whole, SEPARATE),
            ("w/o Single-Pass", pruned, SEPARATE),
            ("w/o Pruning", whole, ONE_PASS),
            (mixture_label(len(names)), pruned, ONE_PASS),
        )
        return [
            Entry(
                label, job, way, has_paper_row=is_same, experts_of=None if job == whole else whole
            )
            for label, job, way in rows
        ]

    def findings(self, lines: Sequence[Line], runs: Sequence[Row]) -> list[str]:
        """How much faster one pass is, with and without pruning."""
        means = means_of(lines)
        pairs = {"unpruned": ("w/o Pruning", "w/o Single-Pass & Pruning")}
        whole = mixture_of(means)
        if whole is not None:
            pairs["pruned"] = (whole.label, "w/o Single-Pass")
        return [
            f"One pass over all experts, {how}: {faster(means[one], means[many])} as separate "
            "passes."
            for how, (one, many) in pairs.items()
            if one in means and many in means
        ]


def pruned_label(ratio: float) -> str:
    """What the paper calls a mixture without a fraction of its Gaussians."""
    return f"MoE-GS ({ratio:.0%} pruning)"


def faster(one: Line, other: Line) -> str:
    """How many times as many frames a second one has, and the paper's figure beside it."""

    def times(first: float | None, second: float | None) -> str:
        return "?" if not first or not second else f"{first / second:.2f}"

    text = f"{times(one.value('fps'), other.value('fps'))} times as fast"
    paper = times(one.paper("fps"), other.paper("fps"))
    return text if paper == "?" else f"{text} (paper {paper})"
