"""Both stages from one command: the experts that a router names by method are trained first."""

import shlex
from pathlib import Path

from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.utils.rich_utils import CONSOLE

from moegs_ns.data.datamanager import MoegsDataManagerConfig
from moegs_ns.launch.cli_args import option_args, parser_args
from moegs_ns.launch.jobs import TrainingJob, expert_trainings, progress_of, train
from moegs_ns.models.expert_sources import expert_source
from moegs_ns.models.mixture_checks import check_sources
from moegs_ns.models.mixture_model import MixtureModelConfig


def train_missing_experts(config: TrainerConfig) -> tuple[Path, ...]:
    """Train the experts that a router's config names by method, one after the other; the runs of
    all its experts.

    Finished runs of the same settings are taken as they are, interrupted ones go on.

    Raises:
        FileNotFoundError: a run that is named does not exist.
        RuntimeError: a training failed.
        ValueError: a word is neither a run nor a method.
    """
    model = config.pipeline.model
    assert isinstance(model, MixtureModelConfig), type(model)
    sources = [expert_source(str(word)) for word in model.experts]
    check_sources(config, sources)
    methods = [source.method for source in sources]
    if not any(methods):
        return tuple(source.path for source in sources)
    trainings = expert_trainings(training_template(config), methods)
    for number, training in enumerate(trainings, 1):
        if training is None:
            continue
        progress = progress_of(training.folder)
        title = f"Expert {number} of {len(trainings)}"
        if progress.is_finished:
            CONSOLE.print(f"{title}: {training.folder} is finished.")
            continue
        resumed = f" from step {progress.steps:,}" if progress.checkpoint else ""
        CONSOLE.rule(f"{title}: {training.method}{resumed}")
        CONSOLE.print(shlex.join(["ns-train", *training.words()]))
        train(training)
    CONSOLE.rule(f"The router of {len(sources)} experts")
    return tuple(
        source.path if training is None else training.config_path
        for source, training in zip(sources, trainings, strict=True)
    )


def training_template(config: TrainerConfig) -> TrainingJob:
    """What the trainings of a router's experts take over from its config: data, seed, place."""
    config.set_experiment_name()
    model, datamanager = config.pipeline.model, config.pipeline.datamanager
    assert isinstance(model, MixtureModelConfig) and config.experiment_name is not None
    assert isinstance(datamanager, MoegsDataManagerConfig), type(datamanager)
    if not model.expert_budget > 0:
        raise ValueError(
            "--expert-budget expects a share of the full recipes above 0, got "
            f"{model.expert_budget}."
        )
    options = option_args(
        datamanager, MoegsDataManagerConfig(), "pipeline.datamanager.", skip=["data", "dataparser"]
    )
    return TrainingJob(
        method="",
        options=tuple(options),
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
