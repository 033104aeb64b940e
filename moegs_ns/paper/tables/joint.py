"""Two stages against joint training, which appendix B.1 of the paper speaks of without figures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from moegs_ns.evaluation.tables import Row
from moegs_ns.launch.jobs import TrainingJob
from moegs_ns.paper.summary import Line
from moegs_ns.paper.tables.base import (
    Entry,
    difference,
    differences,
    expert_entry,
    gain_findings,
    means_of,
    mixture_label,
    spread_of,
)
from moegs_ns.paper.trainings import Study, Trainings

AVERAGE, OWN_BEST, OWN_AVERAGE = (
    "Plain average of these", "Joint, best of its experts", "Joint, plain average of its experts"
)  # fmt: skip
"""Rows of images that are made of single experts, of the two stages and of the joint training."""
TOGETHER = ", joint"
"""What the label of a joint training ends with."""
HONEST = ("--honest-cameras", "--pipeline.model.honest.cameras")
"""Options that `moegs-joint` has not, since its experts and router see the same images."""


@dataclass(frozen=True)
class Joint:
    """The same experts trained one by one under a router, and together with it."""

    number: str = "joint"
    about: str = "Two stages against joint training of the same experts and their router"
    data_set: str = "N3V"
    figures: tuple[str, ...] = ("psnr", "ssim", "lpips", "gaussians")
    seeds: tuple[int, ...] = (0,)

    def check(self, study: Study) -> None:
        """Raise ValueError if experts and router are to see different images."""
        asked = [word for word in study.options if word.partition("=")[0] in HONEST]
        if asked:
            raise ValueError(
                f"The table {self.number} expects experts and router that see the same images, but "
                f"--train-options has {asked[0]}; leave that out, or name the other tables and "
                "figures that you want, instead of all."
            )

    def mixture(self, trainings: Trainings) -> TrainingJob:
        """The router over experts that were trained before it, with gates as they are trained."""
        experts = trainings.experts(trainings.study.set_of("n3"))
        return trainings.mixture(experts, is_corrected=False)

    def stages(self, trainings: Trainings) -> Iterator[Sequence[TrainingJob]]:
        """Experts, and the joint training, which needs none of them; then the router."""
        names = trainings.study.set_of("n3")
        yield [*trainings.experts(names), trainings.joint(names)]
        yield [self.mixture(trainings)]

    def entries(self, trainings: Trainings) -> list[Entry]:
        """Experts, their average and mixture; what the joint training made, and what its experts
        are without its gates. Both are beside the experts of the two stages."""
        names = trainings.study.set_of("n3")
        stages, joint = self.mixture(trainings), trainings.joint(names)
        mixed = Entry(mixture_label(len(names)), stages)
        return [
            *(expert_entry(name, trainings.expert(name)) for name in names),
            Entry(AVERAGE, stages, score="psnr_average"),
            mixed,
            Entry(OWN_BEST, joint, score="psnr_best_expert"),
            Entry(OWN_AVERAGE, joint, score="psnr_average"),
            replace(mixed, label=joint_label(len(names)), job=joint, experts_of=stages),
        ]

    def findings(self, lines: Sequence[Line], runs: Sequence[Row]) -> list[str]:
        """What both mixtures gain, which is better, and how often."""
        means, found = means_of(lines), gain_findings(lines)
        label = next((each for each in means if each.endswith(TOGETHER)), None)
        stages = None if label is None else means.get(label.removesuffix(TOGETHER))
        if label is None or stages is None:
            return found
        pairs = differences(runs, label, stages.label)
        better = sum(value < 0.0 for _, value in pairs)
        found.append(
            f"Joint training: {difference(means[label], stages)}"
            f"{spread_of(runs, label, stages.label)} beside two stages, which are better in "
            f"{better} of {len(pairs)} pairs of scene and seed."
        )
        if OWN_BEST in means:
            alone = difference(means[OWN_BEST], means[label])
            found.append(f"{OWN_BEST}, without gates: {alone} beside the mixture that they make.")
        return found


def joint_label(count: int) -> str:
    """The label of so many experts that were trained with their router."""
    return mixture_label(count) + TOGETHER
