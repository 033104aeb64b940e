"""Both stages from one command: the experts that a router names by method are trained first."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.utils.rich_utils import CONSOLE

from moegs_ns.data.datamanager import MoegsDataManagerConfig
from moegs_ns.launch.cli_args import option_args, parser_args
from moegs_ns.launch.jobs import TrainingJob, expert_trainings, progress_of, train
from moegs_ns.models.expert_sources import ExpertSource, expert_run


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
    methods = [source.method for source in sources]
    if not any(methods):
        return list(sources)
    jobs = expert_trainings(training_template(config), methods)
    for number, job in enumerate(jobs, 1):
        if job is None:
            continue
        progress = progress_of(job.folder)
        title = f"Expert {number} of {len(jobs)}"
        if progress.is_finished:
            CONSOLE.print(f"{title}: {job.folder} is finished.")
            continue
        resumed = f" from step {progress.steps:,}" if progress.checkpoint else ""
        CONSOLE.rule(f"{title}: {job.method}{resumed}")
        CONSOLE.print(shlex.join(["ns-train", *job.args()]))
        train(job)
    CONSOLE.rule(f"The router of {len(sources)} experts")
    return [
        source if job is None else ExpertSource((expert_run(job.config_path),))
        for source, job in zip(sources, jobs, strict=True)
    ]


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
