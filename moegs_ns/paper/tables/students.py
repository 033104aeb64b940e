"""Tables 7, 11 and 13: experts that a mixture teaches, beside those of the ground truth alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from moegs_ns.evaluation.tables import Row
from moegs_ns.experts.names import readable
from moegs_ns.launch.jobs import TrainingJob
from moegs_ns.paper.summary import Line
from moegs_ns.paper.tables.base import Entry, difference, is_of_the_paper, means_of, spread_of
from moegs_ns.paper.trainings import Study, Trainings

PLAIN, TAUGHT = "ground-truth", "gate-weighted"
"""Ways to be taught, by nobody and as published; see `SUPERVISIONS` for all."""


@dataclass(frozen=True)
class Students:
    """Students of a mixture of three experts, by family and supervision."""

    number: int
    about: str
    labels: Mapping[str, str]
    """Label of a row by supervision, with the family's name in place of {}."""
    families: tuple[str, ...] | None = None
    """Families of the students; None for all of the teacher's experts."""
    data_set: str = "Technicolor"
    figures: tuple[str, ...] = ("psnr", "ssim", "lpips", "gaussians")
    seeds: tuple[int, ...] = (0,)

    def check(self, study: Study) -> None:
        """Raise ValueError if the teacher lacks an expert of a student's family."""
        experts = study.set_of("n3")
        if missing := sorted(set(self.families or ()) - set(experts)):
            raise ValueError(
                f"Table {self.number} expects {', '.join(missing)} among the experts of the "
                f"teacher, whose families its students are of, got {', '.join(experts)}; add it to "
                "--experts, or leave the table out."
            )

    def names(self, trainings: Trainings) -> tuple[str, ...]:
        """Families of the students, in the paper's order where it has one."""
        return self.families or trainings.study.set_of("n3")

    def teacher(self, trainings: Trainings) -> TrainingJob:
        """The mixture that teaches."""
        return trainings.mixture(trainings.experts(trainings.study.set_of("n3")))

    def stages(self, trainings: Trainings) -> Iterator[Sequence[TrainingJob]]:
        """Experts, which are the plain students too; the teacher; then the other students."""
        yield trainings.experts(trainings.study.set_of("n3"))
        yield [self.teacher(trainings)]
        yield [entry.job for entry in self.entries(trainings)]

    def entries(self, trainings: Trainings) -> list[Entry]:
        """Students by family and supervision."""
        teacher = self.teacher(trainings)
        is_same = is_of_the_paper(trainings.study.set_of("n3"), "n3")
        return [
            Entry(
                label.format(readable(name)),
                trainings.student(name, teacher, supervision),
                has_paper_row=is_same or supervision == PLAIN,
            )
            for name in self.names(trainings)
            for supervision, label in self.labels.items()
        ]

    def findings(self, lines: Sequence[Line], runs: Sequence[Row]) -> list[str]:
        """What students gain over plain ones of the same seeds."""
        means, found = means_of(lines), []
        plain, *taught = self.labels.values()
        families = (family_of(label, plain) for label in means)
        for family in dict.fromkeys(name for name in families if name is not None):
            for label in (each.format(family) for each in taught):
                if label in means:
                    beside = plain.format(family)
                    gain = difference(means[label], means[beside]) + spread_of(runs, label, beside)
                    found.append(f"{label}: {gain} over {beside}.")
        return found


def family_of(label: str, pattern: str) -> str | None:
    """What stands in place of {} in a label; None if it is another label."""
    start, _, end = pattern.partition("{}")
    if not (label.startswith(start) and label.endswith(end)):
        return None
    return label[len(start) : len(label) - len(end)]
