"""`moegs paper`: tables of the MoE-GS paper on one's own scenes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from nerfstudio.utils.rich_utils import CONSOLE

from moegs_ns.launch.cli_args import output_option, parser_args
from moegs_ns.launch.jobs import TrainingJob
from moegs_ns.launch.option_limits import check_number
from moegs_ns.launch.plan import (
    PlannedTraining,
    duration,
    planned,
    print_plan,
    print_room,
    stage_seconds,
)
from moegs_ns.launch.processes import advise
from moegs_ns.models.expert_sources import PREFIX, expert_methods, options_by_method
from moegs_ns.paper.drawing import Drawing, draw_all, named, one_seed
from moegs_ns.paper.layout import markdown_tables, write_results_of
from moegs_ns.paper.running import (
    fallbacks,
    planned_jobs,
    results_of,
    runs_needed,
    train_all,
)
from moegs_ns.paper.tables.base import PaperTable
from moegs_ns.paper.tables.budgets import TimeBudgets
from moegs_ns.paper.trainings import Recipe, Scene, Study
from moegs_ns.reports.report import report_paths
from moegs_ns.scripts.places import TrainingPlace
from moegs_ns.scripts.train import GO_ON, Parser, val_camera_args, words_of


@dataclass
class Paper(TrainingPlace):
    """Repeat tables of the MoE-GS paper on scenes."""

    tables: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Numbers of tables, from 1 to 13, joint (two stages against joint training), names of figures,
    such as figure4, or all."""
    dataparser: Parser
    """The parser of all scenes, with its options, as in ns-train."""
    data: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """Folders of the scenes: --data A B C n3v-data."""
    set_name: Annotated[Literal["n2", "n3", "n4"] | None, tyro.conf.arg(name="set")] = None
    """Experts of all tables: n2 (Ex4DGS, STG), n3 (and E-D3DGS) or n4 (and 4DGaussians), as the
    paper mixes them; by default those of each table."""
    experts: tuple[str, ...] = ()
    """Other experts of all tables, by method, such as stg freetime."""
    recipe: Recipe = "default"
    """This project's methods (docs/defaults.md), or the variants published for the data set that a
    table is about."""
    seeds: tuple[int, ...] = ()
    """Seeds of all trainings; by default 0, and 0 to 4 for Table 12."""
    budget: float = 1.0
    """Fraction of the steps of everything, for a quick look."""
    router_budget: float | None = None
    """Fraction of the steps of routers; by default --budget."""
    val_cameras: tuple[int, ...] = ()
    """Cameras taken out of the training set; the tables are then made of these."""
    train_options: str = ""
    """Further options of every training, routers included; with an equals sign, since they begin
    with dashes: --train-options="--steps-per-save 100"."""
    expert_options: tuple[str, ...] = ()
    """Further options of experts and students, each 'NAME: options', or of every one, as in
    'all: --pipeline.model.color-correction True'."""
    output_dir: Path = Path("outputs")
    """Folder of all runs."""
    output_path: Annotated[Path | None, output_option("--output-path")] = None
    """What to write: a .html page, .json, .md, or a folder for all of them; by default the folder
    paper in --output-dir."""
    dry_run: bool = False
    """Print the plan and stop."""

    def main(self) -> None:
        """Plan, train, score, write.

        Raises:
            FileNotFoundError: a scene does not exist.
            RuntimeError: nothing could be trained or scored.
            ValueError: a table, an expert or an option is not known.
        """
        self.check_place()
        tables, drawings = named(self.tables)
        path = self.output_path or self.output_dir / "paper" / "paper.html"
        file, page = report_paths(path)
        study = self.study()
        for table in (*tables, *(each.table for each in drawings)):
            table.check(study)
        self.print_plan(tables, drawings, study)
        if self.dry_run:
            return
        advise(lambda: GO_ON)
        with self.executor() as executor:
            train_all(tables, study, executor)
            train_all([each.table for each in drawings], one_seed(study), executor)
        results = results_of(tables, study) if tables else []
        CONSOLE.print(markdown_tables(results), markup=False, highlight=False, soft_wrap=True)
        written = pictures = draw_all(drawings, study, path if file is None else file.parent)
        if results:
            written = [*write_results_of(results, file or path, page, pictures), *pictures]
        CONSOLE.print("Written: " + ", ".join(map(str, written)), soft_wrap=True)

    def study(self) -> Study:
        """What all trainings have in common.

        Raises:
            ValueError: an option is out of range, or contradicts another.
        """
        router_budget = self.budget if self.router_budget is None else self.router_budget
        check_number("--budget", "budget", self.budget)
        check_number("--router-budget", "router_budget", router_budget)
        for seed in self.seeds:
            check_number("--seeds", "seeds", seed)
        if len(set(self.seeds)) < len(self.seeds):
            given = " ".join(map(str, self.seeds))
            raise ValueError(f"--seeds expects each seed once, got {given}; leave out the second.")
        options = words_of("--train-options", self.train_options)
        return Study(
            scenes=scenes_of(self.data),
            parser=tuple(parser_args(self.dataparser)),
            recipe=self.recipe,
            set_name=self.set_name,
            experts=self.known_experts(),
            seeds=self.seeds,
            budget=self.budget,
            router_budget=router_budget,
            options=(*options, *val_camera_args(self.val_cameras)),
            own_options=options_by_method(self.expert_options, sorted(expert_methods())),
            output_dir=self.output_dir.resolve(),
        )

    def known_experts(self) -> tuple[str, ...]:
        """The experts that are named, without prefix."""
        names = tuple(name.removeprefix(PREFIX) for name in self.experts)
        if names and self.set_name is not None:
            raise ValueError(
                "moegs paper expects --set or --experts, got both; leave out --set "
                f"{self.set_name}."
            )
        unknown = sorted(set(names) - set(expert_methods()))
        if unknown or len(set(names)) < len(names) or len(names) == 1:
            raise ValueError(
                "--experts of moegs paper expects two or more different methods out of "
                f"{', '.join(sorted(expert_methods()))}, got {' '.join(self.experts)}."
            )
        return names

    def print_plan(
        self, tables: Sequence[PaperTable], drawings: Sequence[Drawing], study: Study
    ) -> None:
        """What will be trained, for which tables and figures, where, and for how long."""
        data = [scene.data for scene in study.scenes]
        print_room(self.dataparser, data, self.val_cameras, study.output_dir)
        jobs = planned_jobs({str(each.number): each for each in tables}, study)
        for_figures = {each.name: each.table for each in drawings}
        for job, names in planned_jobs(for_figures, one_seed(study)).items():
            jobs.setdefault(job, []).extend(names)
        plans: list[PlannedTraining] = [planned(job) for job in jobs]
        print_plan(plans, [purpose_of(job, names) for job, names in jobs.items()])
        CONSOLE.print(
            f"Column 'for' names tables and figures, and what a training begins with. {self.where}",
            soft_wrap=True,
        )
        if self.slots is not None:
            time = duration(stage_seconds(plans, self.slots))
            CONSOLE.print(f"Time left in all, at least: {time}, without scores.")
        if any(table.number == TimeBudgets.number for table in tables):
            CONSOLE.print(
                "Budgets of Table 6 are chosen by the times of the trainings before them, so there "
                "may be more of these.",
                soft_wrap=True,
            )
        if self.recipe == "published":
            every = [*tables, *for_figures.values()]
            for text in dict.fromkeys(t for table in every for t in fallbacks(table, study)):
                CONSOLE.print(text, soft_wrap=True)


def purpose_of(job: TrainingJob, names: Sequence[str]) -> str:
    """The tables and figures that a training is for, and the methods of the runs that it begins
    with."""
    runs = (folder.parent.name.removeprefix(PREFIX) for folder in runs_needed(job))
    return "; ".join(filter(None, (", ".join(names), ", ".join(runs))))


def scenes_of(data: Sequence[Path]) -> tuple[Scene, ...]:
    """Scenes and the names of their rows: their folders', with those above where two are alike.

    Raises:
        ValueError: there is none, or one comes twice.
    """
    paths = [path.resolve() for path in data]
    if not paths or len(set(paths)) < len(paths):
        given = " ".join(map(str, data)) or "none"
        raise ValueError(
            f"moegs paper expects the folders of one or more scenes, each once, got {given}; name "
            "them as in --data SCENE_A SCENE_B n3v-data."
        )
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        names = ["/".join(path.parts[-2:]) for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    return tuple(Scene(name, path) for name, path in zip(names, paths, strict=True))


def one_option_each(words: Sequence[str]) -> list[str]:
    """The words of a command in which --data may have several values, up to the next option or the
    parser, with an option for each of them: a list would take the parser's name for a value."""
    from nerfstudio.configs.dataparser_configs import all_dataparsers

    found: list[str] = []
    is_scene = False
    for word in words:
        starts = word == "--data"
        is_scene = starts or (is_scene and word[:1] != "-" and word not in all_dataparsers)
        if not starts:
            found += ["--data", word] if is_scene else [word]
    return found
