"""Tables 1, 2, 8, 9 and 10: experts and mixtures on the scenes of one data set."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from moegs_ns.evaluation.tables import Row
from moegs_ns.experts.names import readable
from moegs_ns.launch.jobs import TrainingJob
from moegs_ns.paper.published import expert_sets
from moegs_ns.paper.summary import Line
from moegs_ns.paper.tables.base import (
    AnyExperts,
    Entry,
    expert_entry,
    gain_findings,
    is_of_the_paper,
    mixture_label,
)
from moegs_ns.paper.trainings import Study, Trainings


@dataclass(frozen=True)
class Comparison(AnyExperts):
    """Experts, and mixtures of several sets of them."""

    number: int
    about: str
    data_set: str
    sets: tuple[str, ...]
    """Sets of experts of the mixtures."""
    figures: tuple[str, ...] = ("psnr",)
    others: tuple[str, ...] = ()
    """Methods that stand beside the experts and are not mixed."""
    seeds: tuple[int, ...] = (0,)

    def mixed(self, study: Study) -> list[tuple[str, ...]]:
        """The experts of each mixture."""
        if study.has_own_set:
            return [study.set_of(self.sets[0])]
        return [expert_sets()[name].experts for name in self.sets]

    def shown(self, study: Study) -> list[str]:
        """All methods that are trained as experts."""
        others = () if study.has_own_set else self.others
        mixed = (name for experts in self.mixed(study) for name in experts)
        return list(dict.fromkeys((*others, *mixed)))

    def mixtures(self, trainings: Trainings) -> dict[tuple[str, ...], TrainingJob]:
        """The mixtures by their experts."""
        return {
            names: trainings.mixture(trainings.experts(names))
            for names in self.mixed(trainings.study)
        }

    def stages(self, trainings: Trainings) -> Iterator[Sequence[TrainingJob]]:
        """Experts, then routers."""
        yield trainings.experts(self.shown(trainings.study))
        yield list(self.mixtures(trainings).values())

    def entries(self, trainings: Trainings) -> list[Entry]:
        """Experts, then mixtures."""
        study = trainings.study
        found = [expert_entry(name, trainings.expert(name)) for name in self.shown(study)]
        for names, job in self.mixtures(trainings).items():
            is_same = any(is_of_the_paper(names, own) for own in self.sets)
            label, members = mixture_label(len(names)), tuple(map(readable, names))
            found.append(Entry(label, job, has_paper_row=is_same, members=members))
        return found

    def findings(self, lines: Sequence[Line], runs: Sequence[Row]) -> list[str]:
        """What mixtures gain."""
        return gain_findings(lines)
