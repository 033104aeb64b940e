"""`moegs train`: experts in parallel, then their router, then the table of results."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from nerfstudio.data.dataparsers.base_dataparser import DataParserConfig
from nerfstudio.utils.rich_utils import CONSOLE

from moegs_ns.engine.run_folder import check_place
from moegs_ns.launch.cli_args import output_option, parser_args
from moegs_ns.launch.executors import Executor
from moegs_ns.launch.jobs import (
    LOG,
    UNWATCHED,
    TrainingJob,
    progress_of,
)
from moegs_ns.launch.option_limits import check_number
from moegs_ns.launch.plan import (
    PlannedTraining,
    duration,
    parse,
    planned,
    print_plan,
    print_room,
    stage_seconds,
)
from moegs_ns.launch.processes import advise
from moegs_ns.models.expert_sources import (
    JOINT,
    PREFIX,
    ExpertSource,
    expert_source,
    options_by_method,
)
from moegs_ns.models.missing_experts import source_trainings
from moegs_ns.models.mixture_model import MixtureModelConfig
from moegs_ns.reports.report import report_paths, report_runs
from moegs_ns.runs.checkpoint import open_run
from moegs_ns.scripts.places import TrainingPlace

if TYPE_CHECKING:
    Parser = DataParserConfig
else:
    from nerfstudio.configs.dataparser_configs import DataParserUnion

    Parser = tyro.conf.OmitSubcommandPrefixes[
        tyro.conf.SuppressFixed[tyro.conf.FlagConversionOff[DataParserUnion]]
    ]
"""All parsers, as subcommands with their options."""
GO_ON = (
    "Give the same command again: finished trainings are kept, the others go on from their last "
    "checkpoints."
)
"""What is said when a signal stops the command."""


@dataclass
class Train(TrainingPlace):
    """Train experts in parallel, then their router, then print the table of all. Repeat the same
    command after an interruption: finished runs stay, the others go on."""

    dataparser: Parser
    """The scene, with its options, as in ns-train."""
    experts: tuple[str, ...] = ()
    """Names of methods, such as stg or ex4dgs, or trained runs, as in ns-train moegs-router.
    Methods joined by +, as in stg+stg, are one expert of as many windows of the clip."""
    data: Path | None = None
    """Folder of the scene."""
    router: Annotated[str, tyro.conf.arg(name="router-method", aliases=["--router"])] = "router"
    """Method of the router: router, pixel-router or volume-router. `--router` of ns-train is a
    trained mixture to prune."""
    expert_budget: float = 1.0
    """Fraction of the published steps of the experts."""
    router_budget: float = 1.0
    """Fraction of the published steps of the router."""
    val_cameras: tuple[int, ...] = ()
    """Cameras taken out of the training set; the table is then made of these. A number of n3v-data
    is a position, from 0, in alphabetical order; one of panoptic-data is a cam_id."""
    seed: int = 42
    """Seed of everything, by default that of ns-train; a method that is named twice gets the next
    one the second time."""
    train_options: str = ""
    """Further options of every training, as on the command line; with an equals sign, since they
    begin with dashes: --train-options="--steps-per-save 100"."""
    expert_options: tuple[str, ...] = ()
    """Further options of single experts, each 'NAME: options', or of every one, 'all: options'."""
    router_options: str = ""
    """Further options of the router; with an equals sign, as in
    --router-options="--steps-per-save 100"."""
    output_dir: Path = Path("outputs")
    """Folder of all runs."""
    experiment_name: str | None = None
    """Folder of these runs inside; by default the name of the scene's folder."""
    output_path: Annotated[Path | None, output_option("--output-path")] = None
    """Where to write the table, as for `moegs report`: a .html page, .json, .md, or a folder."""
    dry_run: bool = False
    """Print the plan and stop."""

    def main(self) -> None:
        """Plan, train, score.

        Raises:
            FileNotFoundError: the scene or a run that is named does not exist.
            ImportError: Ray is asked for and not installed.
            RuntimeError: a training failed.
            ValueError: an expert or an option is not known.
        """
        report_paths(self.output_path)
        self.check_place()
        for name in ("expert_budget", "router_budget", "seed"):
            check_number(f"--{name.replace('_', '-')}", name, getattr(self, name))
        check_router(self.router)
        check_place(self.experiment_name, None)
        sources = self.sources()
        trainings = self.trainings(sources)
        router = self.router_training(sources, trainings)
        stage = [planned(training) for each in trainings for training in each]
        # Check the mixture as well before any expert is trained for it.
        mixture = parse(router.args())
        mixture.pipeline.model.check_options(mixture)
        mixture.pipeline.model.check_experts(mixture, sources)
        self.print_plan(sources, stage, planned(router))
        if self.dry_run:
            return
        advise(lambda: GO_ON)
        missing = [each.training for each in stage if not each.progress.is_finished]
        if missing or not progress_of(router.folder).is_finished:
            with self.executor() as executor:
                self.train(executor, missing, router)
        self.report(sources, trainings, router)

    def train(
        self, executor: Executor, experts: Sequence[TrainingJob], router: TrainingJob
    ) -> None:
        """Train the experts, then the router, unless they are finished."""
        if experts:
            CONSOLE.rule("Experts")
            executor.train_all(experts, _print_end)
        if not progress_of(router.folder).is_finished:
            CONSOLE.rule(f"Router of {len(self.experts)} experts")
            CONSOLE.print(shlex.join(["ns-train", *router.args()]))
            executor.train_one(router)

    def sources(self) -> list[ExpertSource]:
        """What --experts names."""
        if not self.experts:
            raise ValueError(
                "moegs train expects the experts to train, got none; add --experts stg ex4dgs "
                "before --data."
            )
        return [expert_source(name) for name in self.experts]

    def template(self) -> TrainingJob:
        """What all trainings have in common."""
        data = Path(self.data or self.dataparser.data).resolve()
        return TrainingJob(
            method="",
            options=(
                *words_of("--train-options", self.train_options),
                *val_camera_args(self.val_cameras),
            ),
            data=data,
            parser=tuple(parser_args(self.dataparser)),
            budget=self.expert_budget,
            seed=self.seed,
            output_dir=self.output_dir.resolve(),
            experiment=self.experiment_name or data.stem,
            without_effect=UNWATCHED,
        )

    def trainings(self, sources: Sequence[ExpertSource]) -> list[tuple[TrainingJob, ...]]:
        """The trainings of each expert; none of those that are trained runs."""
        own = options_by_method(self.expert_options, self.experts)
        return source_trainings(self.template(), sources, self.dataparser, own)

    def router_training(
        self, sources: Sequence[ExpertSource], trainings: Sequence[tuple[TrainingJob, ...]]
    ) -> TrainingJob:
        """The training of the router over all experts."""
        template = self.template()
        configs = [
            JOINT.join(str(training.config_path) for training in each) or str(source.path)
            for source, each in zip(sources, trainings, strict=True)
        ]
        return replace(
            template,
            method=PREFIX + self.router.removeprefix(PREFIX),
            options=(
                *("--experts", *configs), *template.options,
                *words_of("--router-options", self.router_options),
            ),
            budget=self.router_budget,
        )  # fmt: skip

    def print_plan(
        self,
        sources: Sequence[ExpertSource],
        stage: Sequence[PlannedTraining],
        router: PlannedTraining,
    ) -> None:
        """What will be trained, where, and for how long."""
        print_plan([*stage, router])
        for source in sources:
            if source.runs:
                CONSOLE.print(f"Trained already: {source.path}")
        self.print_time(stage, router)
        data = [router.training.data]
        print_room(self.dataparser, data, self.val_cameras, router.training.output_dir)

    def print_time(self, stage: Sequence[PlannedTraining], router: PlannedTraining) -> None:
        """Where experts train, and how long all takes if that can be told."""
        if self.slots is None:
            CONSOLE.print(self.where)
            return
        first = stage_seconds(stage, self.slots)
        total = None if first is None or router.seconds is None else first + router.seconds
        basis = "no earlier run tells the seconds per step of each"
        if total is not None:
            basis = "by the seconds per step of those runs, whatever ran beside them"
        CONSOLE.print(
            f"Experts train {self.where} Time left in all: {duration(total)} ({basis}), without "
            "start-up and the table at the end."
        )

    def report(
        self,
        sources: Sequence[ExpertSource],
        trainings: Sequence[tuple[TrainingJob, ...]],
        router: TrainingJob,
    ) -> None:
        """The table of all experts of this clip, of each window of theirs, and of their mixture."""
        # Tables are published, so paths stay as the user gave them.
        root = self.output_dir.resolve()
        experts = [source.runs for source in sources if source.runs]
        experts += [
            tuple(open_run(self.output_dir / job.folder.relative_to(root)) for job in each)
            for each in trainings
            if each
        ]
        windows = [(run,) for runs in experts if len(runs) > 1 for run in runs]
        mixture = open_run(self.output_dir / router.folder.relative_to(root))
        report_runs([*windows, *experts, (mixture,)], self.output_path)


def words_of(option: str, text: str) -> list[str]:
    """The words of an option that holds options, as a shell reads them."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ValueError(
            f"{option} expects options as on a command line, got {text!r} ({error}); close the "
            "quotation marks."
        ) from error


def val_camera_args(cameras: Sequence[int]) -> list[str]:
    """The option of a training that keeps cameras back; nothing without any."""
    return ["--pipeline.datamanager.val-cameras", *map(str, cameras)] if cameras else []


def check_router(name: str) -> None:
    """Raise ValueError unless a name is that of a method of a router.

    Before a command line is made of it: looking for similar names would take half a minute.
    """
    from nerfstudio.configs.method_configs import all_methods

    models = {
        method.removeprefix(PREFIX): getattr(getattr(config, "pipeline", None), "model", None)
        for method, config in all_methods.items()
    }
    known = sorted(own for own, model in models.items() if isinstance(model, MixtureModelConfig))
    if name.removeprefix(PREFIX) not in known:
        raise ValueError(f"--router expects one of {', '.join(known)}, got '{name}'.")


def _print_end(training: TrainingJob, seconds: float) -> None:
    CONSOLE.print(f"{training.label}: {duration(seconds)}, {training.folder / LOG}", soft_wrap=True)
