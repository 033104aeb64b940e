"""From the figures of single runs to the rows of a table: means, spread, the best two."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from moegs_ns.evaluation.tables import Row
from moegs_ns.paper.published import MEAN, PublishedTable

BETTER = {
    "psnr": max, "psnr_min": max, "psnr_max": max, "ssim": max, "lpips": min, "fps": max, "mb": min
}  # fmt: skip
"""Of which figures the best two are marked, and which way is better."""
OVER_RUNS = {"psnr_min": min, "psnr_max": max}
"""Figures of several seeds that are made of PSNR."""
MARKED = 2
"""The best and the second best value, as in the paper."""


@dataclass(frozen=True)
class Cell:
    """What was measured of one run for one row of a table."""

    label: str
    scene: str
    seed: int
    figures: Mapping[str, float]
    has_paper_row: bool = True
    """Whether the paper's row of this label is about the same experts."""
    members: tuple[str, ...] = ()
    """Of a mixture: labels of its experts' rows, where it is compared with them."""


@dataclass(frozen=True)
class Figure:
    """A figure of a row: over seeds, and beside the paper's."""

    value: float
    spread: float | None = None
    """Standard deviation over seeds; None of a single one."""
    paper: float | None = None
    rank: int | None = None
    """1 for the best of a table's rows, 2 for the second best, None for others. Rows that are equal
    share their rank."""


@dataclass(frozen=True)
class Line:
    """A row of a table: of one scene, or of the mean over all."""

    label: str
    scene: str
    seeds: tuple[int, ...]
    """Of which it is made."""
    figures: Mapping[str, Figure]

    def value(self, name: str) -> float | None:
        """A figure, or None if it was not measured."""
        return self.figures[name].value if name in self.figures else None

    def paper(self, name: str) -> float | None:
        """The paper's figure, or None if it has none."""
        return self.figures[name].paper if name in self.figures else None


def lines_of(cells: Sequence[Cell], scenes: Sequence[str], published: PublishedTable) -> list[Line]:
    """All rows of a table: by label in the order of the cells, each scene and then the mean over
    all scenes, of the seeds that every scene has.

    A row's spread over seeds is the standard deviation of what it shows: of the mean over scenes,
    that of the seeds' means.
    """
    lines = []
    for label in dict.fromkeys(cell.label for cell in cells):
        own = [cell for cell in cells if cell.label == label]
        by_scene = {scene: {c.seed: c.figures for c in own if c.scene == scene} for scene in scenes}
        shared = [seed for seed in by_scene[scenes[0]] if all(seed in s for s in by_scene.values())]
        means = {seed: mean_figures([runs[seed] for runs in by_scene.values()]) for seed in shared}
        known = published if own[0].has_paper_row else PublishedTable((), {})
        for scene, runs in {**by_scene, MEAN: means}.items():
            if runs:
                figures = _over_seeds(label, scene, runs, known)
                if "gain_best" in figures:
                    gain = published_gain(known, label, own[0].members, scene)
                    figures["gain_best"] = replace(figures["gain_best"], paper=gain)
                lines.append(Line(label, scene, tuple(runs), figures))
    return _ranked(lines)


def mean_figures(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means of the figures that all of some runs have."""
    names = [name for name in runs[0] if all(name in run for run in runs)]
    return {name: statistics.mean(run[name] for run in runs) for name in names}


def _over_seeds(
    label: str, scene: str, runs: Mapping[int, Mapping[str, float]], published: PublishedTable
) -> dict[str, Figure]:
    figures = {}
    for name, value in mean_figures(list(runs.values())).items():
        values = [run[name] for run in runs.values()]
        spread = statistics.stdev(values) if len(values) > 1 else None
        figures[name] = Figure(value, spread, published.figure(label, scene, name))
    if "psnr" in figures:
        for name, choose in OVER_RUNS.items():
            value = choose(run["psnr"] for run in runs.values())
            figures[name] = Figure(value, None, published.figure(label, scene, name))
    return figures


def published_gain(
    published: PublishedTable, label: str, members: Sequence[str], scene: str
) -> float | None:
    """What the paper's mixture gains over the best of its experts there; None if it has not all of
    them."""
    own = published.figure(label, scene, "psnr")
    experts = [published.figure(member, scene, "psnr") for member in members]
    known = [value for value in experts if value is not None]
    return None if own is None or not known or len(known) < len(experts) else own - max(known)


def _ranked(lines: Sequence[Line]) -> list[Line]:
    """The lines with the ranks of their figures among those of the same scene."""
    ranks: dict[tuple[str, str], list[float]] = {}
    for scene in dict.fromkeys(line.scene for line in lines):
        own = [line for line in lines if line.scene == scene]
        for name, better in BETTER.items():
            values = {line.figures[name].value for line in own if name in line.figures}
            if len(values) > 1:
                ranks[scene, name] = sorted(values, reverse=better is max)[:MARKED]

    def marked(line: Line, name: str, figure: Figure) -> Figure:
        best = ranks.get((line.scene, name), [])
        rank = best.index(figure.value) + 1 if figure.value in best else None
        return replace(figure, rank=rank)

    return [
        Line(line.label, line.scene, line.seeds,
             {name: marked(line, name, figure) for name, figure in line.figures.items()})
        for line in lines
    ]  # fmt: skip


def flat_row(line: Line, names: Sequence[str]) -> Row:
    """A line for programs: what is not known is left out."""
    row: Row = {"label": line.label, "scene": line.scene, "seeds": list(line.seeds)}
    for name in names:
        if name not in line.figures:
            continue
        figure = line.figures[name]
        values = {
            "": figure.value, "_spread": figure.spread, "_paper": figure.paper, "_rank": figure.rank
        }  # fmt: skip
        row |= {name + end: value for end, value in values.items() if value is not None}
    return row
