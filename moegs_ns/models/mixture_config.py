"""Options of a mixture: completed, checked, and the experts that it names trained and embedded."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.utils.rich_utils import CONSOLE

from moegs_ns.data.datamanager import MoegsDataManagerConfig
from moegs_ns.launch.cli_args import option_args, parser_args
from moegs_ns.launch.jobs import TrainingJob, expert_trainings, progress_of, train
from moegs_ns.mixture.importance import CRITERIA
from moegs_ns.mixture.pruning_schedule import PruneConfig, check_request, check_rounds
from moegs_ns.mixture.recipe import RouterRecipeConfig
from moegs_ns.mixture.volume_mixture import ONE_SET, refuse_shading
from moegs_ns.models.base import GaussianModelConfig
from moegs_ns.models.expert_model import ExpertModelConfig
from moegs_ns.models.expert_sources import (
    ExpertSource,
    check_frames,
    configured_frames,
    expert_run,
    expert_source,
    method_config,
    run_of,
    split_windows,
    trained_frames,
    unique_names,
)
from moegs_ns.models.resume import resume_mixture, take_over
from moegs_ns.routers import RouterConfig, VolumeAwarePixelRouterConfig, VolumeRouterConfig
from moegs_ns.runs.checkpoint import training_record
from moegs_ns.scene import SceneInfo
from moegs_ns.training.optimizers import scaled_steps

ANY_SCENE = SceneInfo(num_frames=2, fps=30.0, center=(0.0, 0.0, 0.0), extent=1.0, background=None)
"""Stands for the scene where only the kind of an expert matters."""


def _mixture_model() -> type:
    from moegs_ns.models.mixture_model import MixtureModel  # It imports this module.

    return MixtureModel


@dataclass
class MixtureModelConfig(GaussianModelConfig):
    """A mixture of trained experts."""

    _target: type = field(default_factory=_mixture_model)
    experts: Annotated[tuple[Path, ...], tyro.conf.arg(aliases=["--experts"])] = ()
    """What to mix, separated by spaces: the config.yml (or folder) of trained runs; A+B for runs of
    consecutive windows of the clip, each trained with --frames, as one expert; names of methods,
    such as stg or 4dgaussians, to train first what is missing. Put another option between this list
    and the name of the dataparser, as in
    `--experts A/config.yml B/config.yml --data D n3v-data`."""
    expert_budget: Annotated[float, tyro.conf.arg(aliases=["--expert-budget"])] = 1.0
    """Fraction of their published steps that experts named by method are trained for."""
    temperature: float = 1.0
    """Divides the logits of the gates, in training and in every use."""
    router: RouterConfig = field(default_factory=VolumeAwarePixelRouterConfig)
    """Shape of the router; that of the opened mixture with --router."""
    mixture_run: Annotated[Path | None, tyro.conf.arg(aliases=["--router"])] = None
    """Trained mixture to prune, instead of experts to mix: the config.yml (or folder) of its run.
    This run starts from its experts and its router, and takes over its temperature."""
    prune: PruneConfig = field(default=PruneConfig())
    """What is removed from that mixture."""
    recipe: RouterRecipeConfig = field(default_factory=RouterRecipeConfig)
    """How the router is trained."""
    expert_models: tyro.conf.Suppress[tuple[ExpertModelConfig, ...]] = ()
    """The experts' own configurations, copied in when the run starts so that it needs no other."""
    expert_names: tyro.conf.Suppress[tuple[str, ...]] = ()
    """Short names of the experts, which name the outputs."""

    def check(self, config: TrainerConfig) -> None:
        """See base; also looks at the experts, as far as their configurations tell."""
        super().check(config)
        resume_mixture(config, MixtureModelConfig, "a mixture", ", or mix it: --experts RUN")
        self.check_options(config)
        if self.expert_models:
            return
        if self.mixture_run is not None:
            take_over(config, self._embed_mixture(self.mixture_run))
            CRITERIA[self.prune.criterion].check(self.router)
        else:
            self.check_experts(config, self.sources())

    def check_options(self, config: TrainerConfig) -> None:
        """Raise ValueError if an option is out of range, whatever the experts are."""
        check_request(self.prune, self.mixture_run, has_experts=bool(self.experts))
        steps = scaled_steps(config.max_num_iterations, self.budget)
        check_rounds(self.prune, steps, self.budget)
        if not (math.isfinite(self.temperature) and self.temperature > 0.0):
            raise ValueError(
                "--pipeline.model.temperature expects a number above 0, which divides the logits "
                f"of the gates, got {self.temperature:g}; 1 is the default."
            )
        if not self.expert_budget > 0:
            raise ValueError(
                "--expert-budget expects a fraction of the full recipes above 0, got "
                f"{self.expert_budget}."
            )
        self.router.check()

    def check_experts(self, config: TrainerConfig, sources: Sequence[ExpertSource]) -> None:
        """Raise ValueError if runs were trained on other frames than this clip's, or the Volume
        Router gets an expert that decodes colours per pixel."""
        frames = configured_frames(config)
        for source in sources:
            own = [configured_frames(run.config) for run in source.runs]
            # Without --frames it is the whole recording, whose length is not known yet.
            if frames is not None and own and None not in own:
                trained = (trained_frames(source.runs[0])[0], trained_frames(source.runs[-1])[1])
                check_frames(trained, frames, source.runs[0].config_path)
        if isinstance(self.router, VolumeRouterConfig):
            models = [
                source.model_config()
                if source.runs
                else method_config(source.method).pipeline.model
                for source in sources
            ]
            refuse_shading([model.expert.setup(scene=ANY_SCENE) for model in models], ONE_SET)

    def sources(self) -> list[ExpertSource]:
        """What --experts names.

        Raises:
            FileNotFoundError: a run does not exist.
            ValueError: nothing is named, or a name is neither a run nor a method.
        """
        if not self.experts:
            raise ValueError(
                "moegs-router expects the trained runs to mix, got none; add "
                "--experts A/config.yml B/config.yml before --data."
            )
        return [expert_source(str(name)) for name in self.experts]

    def prepare(self, config: TrainerConfig) -> None:
        """Train the experts that are named by method, and copy the configs of all into this one."""
        if self.expert_models:
            return
        sources = train_missing_experts(config, self.sources())
        self.experts = tuple(source.path for source in sources)
        self.expert_models = tuple(source.model_config() for source in sources)
        self.expert_names = unique_names([source.name for source in sources])

    def _embed_mixture(self, path: Path) -> TrainerConfig:
        """Copy what describes a trained mixture into this config; the config of its run."""
        remedy = "train a moegs-router over it first"
        run = run_of(MixtureModelConfig, path, "the run of a mixture in --router", remedy)
        self.mixture_run = run.config_path.resolve()
        for name in ("expert_models", "expert_names", "router", "temperature"):
            setattr(self, name, getattr(run.config.pipeline.model, name))
        return run.config

    def expert_seconds(self) -> float | None:
        """Seconds that the experts were trained for, one after the other; those of the mixture
        that this one was pruned from; None if a record of one is missing."""
        if self.mixture_run is not None:
            return training_record(self.mixture_run).get("expert_seconds")
        runs = [run for path in self.experts for run in split_windows(str(path))]
        seconds = [training_record(run).get("seconds") for run in runs]
        known = [value for value in seconds if value is not None]
        return sum(known) if known and len(known) == len(seconds) else None


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
