"""Table 4: three routers over the same experts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from moegs_ns.evaluation.tables import Row
from moegs_ns.launch.jobs import TrainingJob
from moegs_ns.paper.routers import KINDS, RouterKind
from moegs_ns.paper.summary import Line
from moegs_ns.paper.tables.base import AnyExperts, Entry, gain_findings, is_of_the_paper, means_of
from moegs_ns.paper.trainings import Trainings


@dataclass(frozen=True)
class RouterTable(AnyExperts):
    """Table 4."""

    number: int = 4
    about: str = "Three routers over the same experts"
    data_set: str = "N3V"
    figures: tuple[str, ...] = ("psnr", "ssim", "lpips")
    seeds: tuple[int, ...] = (0,)

    def mixtures(self, trainings: Trainings) -> dict[RouterKind, TrainingJob]:
        """The mixture of each router."""
        experts = trainings.experts(trainings.study.set_of("n3"))
        return {kind: trainings.mixture(experts, kind.method) for kind in KINDS}

    def stages(self, trainings: Trainings) -> Iterator[Sequence[TrainingJob]]:
        """Experts, then routers."""
        yield trainings.experts(trainings.study.set_of("n3"))
        yield list(self.mixtures(trainings).values())

    def entries(self, trainings: Trainings) -> list[Entry]:
        """One row for each router."""
        is_same = is_of_the_paper(trainings.study.set_of("n3"), "n3")
        return [
            Entry(kind.label, job, has_paper_row=is_same)
            for kind, job in self.mixtures(trainings).items()
        ]

    def findings(self, lines: Sequence[Line], runs: Sequence[Row]) -> list[str]:
        """Which router is the best, and what each gains."""
        means = means_of(lines)
        values = {label: line.value("psnr") or 0.0 for label, line in means.items()}
        if len(values) < len(KINDS):
            return gain_findings(lines)
        best = max(values, key=lambda label: values[label])
        is_same = best == KINDS[-1].label
        text = f"The best is the {best}, {'as' if is_same else 'unlike'} in the paper."
        return [text, *gain_findings(lines)]
