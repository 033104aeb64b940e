"""What a table of the paper is, and what several of them share."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from moegs_ns.evaluation.tables import Row
from moegs_ns.experts.names import readable
from moegs_ns.launch.jobs import TrainingJob
from moegs_ns.paper.published import MEAN, expert_sets
from moegs_ns.paper.summary import Figure, Line
from moegs_ns.paper.trainings import Study, Trainings

BESIDE = ("gain_best", "gain_average")
"""What stands beside each mixture: its gain over its best expert and over the plain average."""


@dataclass(frozen=True)
class Entry:
    """A run that stands in a table."""

    label: str
    job: TrainingJob
    way: str | None = None
    """The way to draw it that `moegs benchmark` times; None for the frames of `moegs report`."""
    more: Mapping[str, float] = field(default_factory=dict)
    """Figures that the run's scores do not hold."""
    has_paper_row: bool = True
    """Whether the paper's row of this label is about the same experts."""
    members: tuple[str, ...] = ()
    """Of a mixture: labels of its experts' rows, where the paper has them too."""
    experts_of: TrainingJob | None = None
    """The mixture whose experts are the ones to gain over, if they are not its own: of a pruned one
    that which it was pruned from, of a joint training that of the two stages."""
    score: str = "psnr"
    """Name of the PSNR in the run's scores that the row is about; of another than the run's own
    image there is nothing else to tell."""


@runtime_checkable
class PaperTable(Protocol):
    """A table of the paper."""

    @property
    def number(self) -> int | str:
        """Its number in the paper, or a word of ours for what the paper has no table of."""
        ...

    @property
    def about(self) -> str:
        """What it says."""
        ...

    @property
    def data_set(self) -> str:
        """Data set that it is about in the paper."""
        ...

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of its figures in the order of its columns."""
        ...

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of its trainings unless others are asked for."""
        ...

    def check(self, study: Study) -> None:
        """Raise ValueError if the study's experts cannot make this table."""
        ...

    def stages(self, trainings: Trainings) -> Iterator[Sequence[TrainingJob]]:
        """Its trainings of one scene and seed, stage by stage. Each stage is asked for once those
        before it were trained; where they were not, it is what is expected by now."""
        ...

    def entries(self, trainings: Trainings) -> list[Entry]:
        """Its rows of one scene and seed."""
        ...

    def findings(self, lines: Sequence[Line], runs: Sequence[Row]) -> list[str]:
        """What its means say, in sentences.

        Args:
            runs: the figures of each run by name, with its `label`, `scene` and `seed`.
        """
        ...


class AnyExperts:
    """A table that any experts can make."""

    def check(self, study: Study) -> None:
        """Any experts will do."""


def title_of(table: PaperTable) -> str:
    """What a table is called on a page."""
    number = table.number
    return f"Table {number}" if isinstance(number, int) else f"Beside the tables: {number}"


def mixture_label(count: int) -> str:
    """What the paper calls a mixture of so many experts."""
    return f"MoE-GS (N={count})"


def expert_entry(name: str, job: TrainingJob) -> Entry:
    """The row of an expert, named without prefix."""
    return Entry(readable(name), job)


def means_of(lines: Sequence[Line]) -> dict[str, Line]:
    """The lines of the means over scenes by their labels."""
    return {line.label: line for line in lines if line.scene == MEAN}


def mixture_of(means: Mapping[str, Line]) -> Line | None:
    """The first line of a whole mixture; None without any."""
    return next((line for label, line in means.items() if is_mixture(label)), None)


def is_mixture(label: str) -> bool:
    """Whether a row's label begins as `mixture_label` names a whole mixture."""
    return "(N=" in label


def is_of_the_paper(experts: Sequence[str], own: str) -> bool:
    """Whether experts are those of one of the paper's sets."""
    return set(experts) == set(expert_sets()[own].experts)


def difference(first: Line, second: Line, name: str = "psnr", form: str = "{:+.2f} dB") -> str:
    """The first line's figure less the second's, and the paper's difference beside it."""
    values = [first.value(name), second.value(name)]
    papers = [first.paper(name), second.paper(name)]
    text = "not measured" if None in values else form.format(_less(*values))
    return text if None in papers else f"{text} (paper {form.format(_less(*papers))})"


def _less(first: float | None, second: float | None) -> float:
    assert first is not None and second is not None
    return first - second


def differences(runs: Sequence[Row], first: str, second: str) -> list[tuple[int, float]]:
    """PSNR of the runs of one label less that of another's, each of the same scene and seed, with
    the seed."""
    psnr = {(row["label"], row["scene"], row["seed"]): row["psnr"] for row in runs}
    pairs = (
        (seed, value, psnr.get((second, scene, seed)))
        for (label, scene, seed), value in psnr.items()
        if label == first
    )
    return [(seed, value - other) for seed, value, other in pairs if other is not None]


def spread_of(runs: Sequence[Row], first: str, second: str) -> str:
    """Standard deviation over seeds of the means of `differences` over scenes, and the number of
    seeds, to stand behind the mean; "" of one seed."""
    by_seed: dict[int, list[float]] = {}
    for seed, value in differences(runs, first, second):
        by_seed.setdefault(seed, []).append(value)
    means = [statistics.mean(values) for values in by_seed.values()]
    return f", ± {statistics.stdev(means):.2f} (n = {len(means)})," if len(means) > 1 else ""


def gain_findings(lines: Sequence[Line]) -> list[str]:
    """Of each mixture: what it gains over its best expert and over their plain average."""
    found = []
    for label, line in means_of(lines).items():
        best, average = (line.figures.get(name) for name in BESIDE)
        if best is not None and average is not None:
            paper = "" if best.paper is None else f" (paper {best.paper:+.2f} dB)"
            seeds = f" (n = {len(line.seeds)})" if len(line.seeds) > 1 else ""
            found.append(
                f"{label}: {_decibels(best)}{paper} against the best of its experts, "
                f"{_decibels(average)} against their plain average{seeds}."
            )
    return found


def _decibels(gain: Figure) -> str:
    spread = "" if gain.spread is None else f" ± {gain.spread:.2f}"
    return f"{gain.value:+.2f}{spread} dB"
