"""Table 6: mixtures of experts that were trained for a share of their time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product, zip_longest

from moegs_ns.evaluation.tables import Row
from moegs_ns.experts.names import readable
from moegs_ns.launch.jobs import TrainingJob
from moegs_ns.paper.summary import Line
from moegs_ns.paper.tables.base import (
    AnyExperts,
    Entry,
    is_mixture,
    is_of_the_paper,
    means_of,
    mixture_label,
)
from moegs_ns.paper.time_shares import attempts, nearest
from moegs_ns.paper.trainings import Trainings, seconds_of

WHOLE = 1.0


@dataclass(frozen=True)
class TimeBudgets(AnyExperts):
    """Table 6."""

    number: int = 6
    about: str = "Experts at shares of the time of their training, and their mixtures"
    data_set: str = "N3V"
    figures: tuple[str, ...] = ("psnr", "time_share", "router_share")
    seeds: tuple[int, ...] = (0,)
    shares: tuple[float, ...] = (1.0, 0.5, 0.2, 0.1)

    def names(self, trainings: Trainings) -> tuple[str, ...]:
        """The experts."""
        return trainings.study.set_of("budgets")

    def tried(self, trainings: Trainings, name: str, share: float) -> Iterator[TrainingJob]:
        """The trainings of an expert for a share of its time."""
        whole = trainings.expert(name)
        if share == WHOLE:
            yield whole
            return
        yield from attempts(whole, lambda budget: trainings.expert(name, budget), share)

    def expert(self, trainings: Trainings, name: str, share: float) -> TrainingJob:
        """The training whose time is nearest to a share."""
        tried = list(self.tried(trainings, name, share))
        return nearest(trainings.expert(name), tried, share)

    def mixture(self, trainings: Trainings, share: float) -> TrainingJob:
        """The router over experts of a share of their time; its own time is not cut. Its gates stay
        as they are trained: small shares are too short for copies."""
        experts = [self.expert(trainings, name, share) for name in self.names(trainings)]
        return trainings.mixture(experts, is_corrected=False)

    def stages(self, trainings: Trainings) -> Iterator[Sequence[TrainingJob]]:
        """Whole experts, then shares until their times are right, then routers."""
        names = self.names(trainings)
        yield trainings.experts(names)
        tries = (self.tried(trainings, *pair) for pair in product(names, self.shares))
        for stage in zip_longest(*tries):
            yield [job for job in stage if job is not None]
        yield [self.mixture(trainings, share) for share in self.shares]

    def entries(self, trainings: Trainings) -> list[Entry]:
        """Experts by share, with the share that was reached, then mixtures by share."""
        names = self.names(trainings)
        found = []
        for name, share in product(names, self.shares):
            job = self.expert(trainings, name, share)
            part, whole = seconds_of(job), seconds_of(trainings.expert(name))
            more = {"time_share": part / whole} if part is not None and whole else {}
            found.append(Entry(readable(name) + share_text(share), job, more=more))
        is_same = is_of_the_paper(names, "budgets")
        for share in self.shares:
            label = mixture_label(len(names)) + share_text(share)
            members = tuple(readable(name) + share_text(share) for name in names)
            job = self.mixture(trainings, share)
            found.append(Entry(label, job, has_paper_row=is_same, members=members))
        return found

    def findings(self, lines: Sequence[Line], runs: Sequence[Row]) -> list[str]:
        """Mixtures of shares beside the best expert of the whole time, and the router's time."""
        means = means_of(lines)
        mixtures = {label: line for label, line in means.items() if is_mixture(label)}
        full = [
            line.value("psnr") or 0.0
            for label, line in means.items()
            if label not in mixtures and label.endswith(share_text(WHOLE))
        ]
        if not full:
            return []
        papers = [line.paper("psnr") for label, line in means.items() if label not in mixtures]
        best = max((value for value in papers if value is not None), default=None)
        found = []
        for label, line in mixtures.items():
            value, paper = line.value("psnr") or 0.0, line.paper("psnr")
            text = f"{label}: {value - max(full):+.2f} dB against the best expert of the whole time"
            if paper is not None and best is not None:
                text += f" (paper {paper - best:+.2f} dB)"
            share = line.value("router_share")
            if share is not None:
                text += f"; the router took {share:.1%} of its experts' time (paper < 5 %)"
            found.append(f"{text}.")
        return found


def share_text(share: float) -> str:
    """The end of the label of a row."""
    return f", {100 * share:.0f} %"
