"""Training the experts that a mixture names by method, before its router."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nerfstudio.data.dataparsers.base_dataparser import DataParserConfig
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.utils.rich_utils import CONSOLE

from moegs_ns.data.datamanager import MoegsDataManagerConfig
from moegs_ns.experts.windows import joined_config
from moegs_ns.launch.cli_args import option_args, parser_args
from moegs_ns.launch.jobs import TrainingJob, expert_trainings, progress_of, train
from moegs_ns.launch.plan import parse
from moegs_ns.launch.windows import window_trainings
from moegs_ns.models.expert_sources import ExpertSource, expert_run
from moegs_ns.training.honest import HonestCameras


def train_missing_experts(
    config: TrainerConfig, sources: Sequence[ExpertSource]
) -> list[ExpertSource]:
    """Train the experts that a router's config names by method, one after the other.

    Finished runs of the same settings are taken as they are, interrupted ones go on.

    Returns:
        The runs of all experts, in order.

    Raises:
        RuntimeError: a training failed.
    """
    if not any(source.methods for source in sources):
        return list(sources)
    datamanager: Any = config.pipeline.datamanager
    jobs = source_trainings(training_template(config), sources, datamanager.dataparser)
    train_in_order(
        (job, f"Expert {number} of {len(jobs)}" + (f", {job.part}" if job.part else ""))
        for number, each in enumerate(jobs, 1)
        for job in each
    )
    CONSOLE.rule(f"The router of {len(sources)} experts")
    return [
        ExpertSource(tuple(expert_run(job.config_path) for job in each)) if each else source
        for source, each in zip(sources, jobs, strict=True)
    ]


def source_trainings(
    template: TrainingJob,
    sources: Sequence[ExpertSource],
    parser: DataParserConfig,
    own_options: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> list[tuple[TrainingJob, ...]]:
    """The trainings of each expert, one for each of its windows; none of trained runs.

    An expert of the same methods as one before gets the next seed.

    Raises:
        ValueError: the clip cannot be divided into the windows, or these cannot be one expert.
    """
    jobs = expert_trainings(template, [source.method for source in sources], own_options)
    trainings: list[tuple[TrainingJob, ...]] = []
    for source, job in zip(sources, jobs, strict=True):
        if job is None:
            trainings.append(())
        elif len(source.methods) == 1:
            trainings.append((job,))
        else:
            trainings.append(window_trainings(job, source.methods, parser, own_options))
            check_joins(trainings[-1])
    return trainings


def check_joins(trainings: Sequence[TrainingJob]) -> None:
    """Raise ValueError if the experts of windows, once trained, cannot be one."""
    if len({training.method for training in trainings}) > 1:
        models = [
            parse([training.method, *training.settings]).pipeline.model for training in trainings
        ]
        joined_config([model.expert for model in models], ())


def train_in_order(jobs: Iterable[tuple[TrainingJob, str]]) -> None:
    """Train or resume runs, each under its title, one after the other.

    Raises:
        RuntimeError: a training failed; says which are finished.
    """
    finished: list[str] = []
    for job, title in jobs:
        try:
            train_missing(job, title)
        except RuntimeError as error:
            kept = f" Finished and kept: {', '.join(finished)}." if finished else ""
            raise RuntimeError(f"{title}: {error}.{kept}") from error
        finished.append(job.label)


def train_missing(job: TrainingJob, title: str) -> None:
    """Train or resume a run under a title, unless it is finished.

    Raises:
        RuntimeError: the training failed.
    """
    progress = progress_of(job.folder)
    if progress.is_finished:
        CONSOLE.print(f"{title}: {job.folder} is finished.")
        return
    resumed = f" from step {progress.steps:,}" if progress.checkpoint else ""
    CONSOLE.rule(f"{title}: {job.method}{resumed}")
    CONSOLE.print(shlex.join(["ns-train", *job.args()]))
    train(job)


def honest_args(cameras: HonestCameras) -> list[str]:
    """The option of an expert that leaves these cameras out until its finish."""
    if cameras == "none":
        return []
    values = [cameras] if isinstance(cameras, str) else list(map(str, cameras))
    return ["--honest-cameras", *values]


def training_template(config: TrainerConfig) -> TrainingJob:
    """What the trainings of a router's experts take over from its config: data, seed, folder."""
    config.set_experiment_name()
    model: Any = config.pipeline.model
    datamanager = config.pipeline.datamanager
    assert config.experiment_name is not None
    assert isinstance(datamanager, MoegsDataManagerConfig), type(datamanager)
    return TrainingJob(
        method="",
        options=tuple(
            option_args(
                datamanager,
                MoegsDataManagerConfig(),
                "pipeline.datamanager.",
                skip=["data", "dataparser"],
            )
            + honest_args(model.honest.cameras)
        ),
        data=Path(datamanager.data or datamanager.dataparser.data),
        parser=tuple(parser_args(datamanager.dataparser)),
        budget=model.expert_budget,
        seed=config.machine.seed,
        output_dir=config.output_dir,
        experiment=config.experiment_name,
        without_effect=(
            *("--vis", config.vis, "--viewer.quit-on-train-completion", "True"),
            *("--steps-per-save", str(config.steps_per_save)),
            *("--steps-per-eval-image", str(config.steps_per_eval_image)),
            *("--machine.device-type", config.machine.device_type),
        ),
    )
