"""Table 12 and appendix F: the best of several trainings of an expert against mixtures."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from moegs_ns.evaluation.tables import Row
from moegs_ns.experts.names import readable
from moegs_ns.launch.jobs import TrainingJob
from moegs_ns.paper.summary import Line
from moegs_ns.paper.tables.base import (
    AnyExperts,
    Entry,
    expert_entry,
    is_of_the_paper,
    means_of,
    mixture_label,
    mixture_of,
)
from moegs_ns.paper.trainings import Trainings


@dataclass(frozen=True)
class Stability(AnyExperts):
    """Table 12: experts are trained with several seeds, each with the router of its own seed."""

    number: int = 12
    about: str = "Repeated trainings of experts, and of mixtures of the experts of each seed"
    data_set: str = "N3V"
    figures: tuple[str, ...] = ("psnr_min", "psnr_max", "psnr")
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    def names(self, trainings: Trainings) -> tuple[str, ...]:
        """The experts."""
        return trainings.study.set_of("stability")

    def mixture(self, trainings: Trainings) -> TrainingJob:
        """The router over the experts of one seed."""
        return trainings.mixture(trainings.experts(self.names(trainings)))

    def stages(self, trainings: Trainings) -> Iterator[Sequence[TrainingJob]]:
        """Experts, then their router."""
        yield trainings.experts(self.names(trainings))
        yield [self.mixture(trainings)]

    def entries(self, trainings: Trainings) -> list[Entry]:
        """Experts, then the mixture."""
        names = self.names(trainings)
        is_same = is_of_the_paper(names, "stability")
        label = mixture_label(len(names))
        return [
            *(expert_entry(name, trainings.expert(name)) for name in names),
            Entry(
                label,
                self.mixture(trainings),
                has_paper_row=is_same,
                members=tuple(map(readable, names)),
            ),
        ]

    def findings(self, lines: Sequence[Line], runs: Sequence[Row]) -> list[str]:
        """The paper's criterion, whether the worst mixture is above the best single run, and what
        mixtures gain over the experts of their own seeds."""
        means = means_of(lines)
        mixture = mixture_of(means)
        singles = [line for line in means.values() if line is not mixture]
        if mixture is None or not singles:
            return []
        if len(mixture.seeds) == 1:
            return ["The paper's criterion is about several seeds, and this is one."]
        best = max(singles, key=lambda line: line.figures["psnr_max"].value)
        margin = mixture.figures["psnr_min"].value - best.figures["psnr_max"].value
        verdict = "holds" if margin > 0 else "does not hold"
        found = [
            f"The paper's criterion {verdict}: the worst mixture has "
            f"{mixture.figures['psnr_min'].value:.2f} dB, the best single run "
            f"{best.figures['psnr_max'].value:.2f} dB ({best.label}), {margin:+.2f} dB"
            f"{paper_margin(mixture, singles)}.",
            f"Best of {len(mixture.seeds)} against the mean mixture: "
            f"{mixture.figures['psnr'].value - best.figures['psnr_max'].value:+.2f} dB. The best "
            "run is chosen on the held-out views themselves, which favours it.",
        ]
        gains = [row["gain_best"] for row in runs if row.get("gain_best") is not None]
        if gains:
            above = sum(gain > 0 for gain in gains)
            found.append(
                f"{above} of {len(gains)} mixtures are above the best expert of their own seed and "
                f"scene, by {statistics.mean(gains):+.2f} dB on average ({min(gains):+.2f} to "
                f"{max(gains):+.2f})."
            )
        return found


def paper_margin(mixture: Line, singles: Sequence[Line]) -> str:
    """The paper's worst mixture less its best single run, for people; "" of other experts."""
    worst, known = mixture.paper("psnr_min"), [line.paper("psnr_max") for line in singles]
    best = [value for value in known if value is not None]
    return f" (paper {worst - max(best):+.2f} dB)" if worst is not None and best else ""
