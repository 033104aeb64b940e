"""Figures of the paper: the trainings that each is drawn from, and its drawing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nerfstudio.utils.rich_utils import CONSOLE

from moegs_ns.launch.jobs import TrainingJob, progress_of
from moegs_ns.paper.figures.all_figures import FIGURES
from moegs_ns.paper.figures.figure import Figure, FigureRuns, SceneRuns
from moegs_ns.paper.routers import KINDS
from moegs_ns.paper.running import trainings_of
from moegs_ns.paper.tables import ALL, DISTILLED, tables_named
from moegs_ns.paper.tables.base import PaperTable
from moegs_ns.paper.tables.comparison import Comparison
from moegs_ns.paper.tables.routers import RouterTable
from moegs_ns.paper.tables.students import PLAIN, TAUGHT
from moegs_ns.paper.trainings import Study, Trainings

FIGURE = "figure"
"""What a figure's name begins with, on the command line."""
N3V = Comparison(1, "Four experts and their mixture", "N3V", ("n4",))
TECHNICOLOR = Comparison(2, "Three experts and their mixture", "Technicolor", ("n3",))
ROUTERS = RouterTable()


@dataclass(frozen=True)
class Drawing:
    """A figure, and the trainings that it is drawn from."""

    figure: Figure
    table: PaperTable
    jobs: Callable[[Trainings], "SceneJobs"]
    """What of the table's trainings of a scene is shown."""

    @property
    def name(self) -> str:
        """What it is called on the command line."""
        return f"{FIGURE}{self.figure.number}"


@dataclass(frozen=True)
class SceneJobs:
    """The trainings of `SceneRuns`."""

    mixture: TrainingJob
    experts: tuple[TrainingJob, ...] = ()
    routers: Mapping[str, TrainingJob] = field(default_factory=dict)
    students: Mapping[str, tuple[TrainingJob, TrainingJob]] = field(default_factory=dict)

    @property
    def is_finished(self) -> bool:
        """Whether all were trained to their end."""
        found = [self.mixture, *self.experts, *self.routers.values()]
        found += [job for pair in self.students.values() for job in pair]
        return all(progress_of(job.folder).is_finished for job in found)

    def runs(self, name: str) -> SceneRuns:
        """Their folders, of a scene of this name."""
        return SceneRuns(
            name,
            self.mixture.folder,
            tuple(job.folder for job in self.experts),
            {kind: job.folder for kind, job in self.routers.items()},
            {family: (one.folder, two.folder) for family, (one, two) in self.students.items()},
        )


def _compared(table: Comparison) -> Callable[[Trainings], SceneJobs]:
    def jobs(trainings: Trainings) -> SceneJobs:
        [(names, mixture)] = table.mixtures(trainings).items()
        return SceneJobs(mixture, tuple(trainings.experts(names)))

    return jobs


def _routed(trainings: Trainings) -> SceneJobs:
    mixtures = ROUTERS.mixtures(trainings)
    return SceneJobs(mixtures[KINDS[-1]], routers={k.name: job for k, job in mixtures.items()})


def _taught(trainings: Trainings) -> SceneJobs:
    teacher = DISTILLED.teacher(trainings)
    pairs = {
        name: (
            trainings.student(name, teacher, PLAIN), trainings.student(name, teacher, TAUGHT)
        )
        for name in DISTILLED.names(trainings)
    }  # fmt: skip
    return SceneJobs(teacher, students=pairs)


DRAWINGS = {
    each.name: each
    for each in (
        *(Drawing(FIGURES[number], N3V, _compared(N3V)) for number in (1, 4)),
        Drawing(FIGURES[5], ROUTERS, _routed),
        Drawing(FIGURES[7], N3V, _compared(N3V)),
        Drawing(FIGURES[8], TECHNICOLOR, _compared(TECHNICOLOR)),
        Drawing(FIGURES[9], DISTILLED, _taught),
        *(Drawing(FIGURES[number], N3V, _compared(N3V)) for number in (10, 11)),
    )
}
"""All figures that show results, by name, in the order of the paper."""


def named(names: Sequence[str]) -> tuple[list[PaperTable], list[Drawing]]:
    """The tables and figures of these names, or all of them, in the order of the paper.

    Raises:
        ValueError: one is neither.
    """
    figures = [name for name in names if name.startswith(FIGURE)]
    if unknown := [name for name in figures if name not in DRAWINGS]:
        raise ValueError(
            f"moegs paper expects figures out of {', '.join(DRAWINGS)}, got {', '.join(unknown)}; "
            "the others of the paper are diagrams of the method."
        )
    others = [name for name in names if name not in figures]
    tables = tables_named(others) if others or not figures else []
    return tables, [each for name, each in DRAWINGS.items() if name in figures or ALL in names]


def one_seed(study: Study) -> Study:
    """A study of which only the first seed is drawn."""
    return replace(study, seeds=study.seeds[:1])


def draw_all(drawings: Sequence[Drawing], study: Study, folder: Path) -> list[Path]:
    """Draw figures into a folder; the pictures that were written.

    What cannot be drawn is told and costs no other figure.
    """
    pictures: list[Path] = []
    for drawing in drawings:
        found = [
            (trainings.scene.name, drawing.jobs(trainings))
            for trainings in trainings_of(drawing.table, one_seed(study))
        ]
        lost = [name for name, jobs in found if not jobs.is_finished]
        if lost:
            CONSOLE.print(
                f"Figure {drawing.figure.number} lacks trainings of {', '.join(lost)}.",
                soft_wrap=True,
            )
        scenes = tuple(jobs.runs(name) for name, jobs in found if jobs.is_finished)
        if not scenes:
            continue
        try:
            picture, *_ = drawing.figure.draw(FigureRuns(scenes), folder)
        except (FileNotFoundError, ValueError) as error:
            CONSOLE.print(f"Left out: {error}", soft_wrap=True, markup=False)
            continue
        pictures.append(picture)
    return pictures
