"""What a command asks of a mixture, looked at before anything is trained for it."""

import math
from collections.abc import Sequence

from nerfstudio.engine.trainer import TrainerConfig

from moegs_ns.data.datamanager import MoegsDataManagerConfig
from moegs_ns.mixture.pruning_schedule import check_request, check_rounds
from moegs_ns.mixture.volume_mixture import ONE_SET, refuse_shading
from moegs_ns.models.expert_model import ExpertModelConfig
from moegs_ns.models.expert_sources import ExpertSource, method_config, trained_frames
from moegs_ns.models.mixture_model import MixtureModelConfig
from moegs_ns.routers import VolumeRouterConfig
from moegs_ns.runs.checkpoint import find_config, read_config
from moegs_ns.scene import SceneInfo
from moegs_ns.training.schedules import scaled_steps

ANY_SCENE = SceneInfo(num_frames=2, fps=30.0, center=(0.0, 0.0, 0.0), extent=1.0, background=None)
"""Stands for the scene where only the kind of an expert is asked for."""


def check_router(config: TrainerConfig) -> None:
    """Whether the options of a mixture make sense, whatever its experts are.

    Raises:
        ValueError: an option is out of range, or two contradict each other.
    """
    model = config.pipeline.model
    assert isinstance(model, MixtureModelConfig), type(model)
    check_request(model.prune, model.mixture_run, has_experts=bool(model.experts))
    steps = scaled_steps(config.max_num_iterations, model.budget)
    check_rounds(model.prune, steps, model.budget)
    if not (math.isfinite(model.temperature) and model.temperature > 0.0):
        raise ValueError(
            "--pipeline.model.temperature expects a number above 0, which divides the logits of "
            f"the gates, got {model.temperature:g}; 1 is the default."
        )
    model.router.check()


def check_sources(config: TrainerConfig, sources: Sequence[ExpertSource]) -> None:
    """Whether experts suit the router and its clip, as far as their configurations tell.

    Raises:
        ValueError: a run was trained on other frames, or a Volume Router gets an expert that
            decodes colours per pixel.
    """
    model, datamanager = config.pipeline.model, config.pipeline.datamanager
    assert isinstance(model, MixtureModelConfig) and isinstance(datamanager, MoegsDataManagerConfig)
    frames = getattr(datamanager.dataparser, "frames", None)
    for source in sources:
        _check_frames(source, frames)
    if isinstance(model.router, VolumeRouterConfig):
        models = [_model_config(source) for source in sources]
        experts = [model.expert.setup(scene=ANY_SCENE) for model in models]
        refuse_shading(experts, ONE_SET)


def continue_run(config: TrainerConfig) -> None:
    """Go on with the experts, and otherwise as far as nothing else is typed, of the run to resume.

    Raises:
        ValueError: it is the run of something else.
    """
    assert config.load_dir is not None
    resumed = read_config(find_config(config.load_dir.parent))
    if not isinstance(resumed.pipeline.model, MixtureModelConfig):
        raise ValueError(
            f"Expected the run of a mixture in --load-dir, but {config.load_dir} is that of "
            f"'{resumed.method_name}'; resume it with that method, or mix it: --experts RUN."
        )
    assert isinstance(config.pipeline.model, MixtureModelConfig), type(config.pipeline.model)
    config.pipeline.model.continue_from(resumed.pipeline.model)
    take_over(config, resumed)


def take_over(config: TrainerConfig, earlier: TrainerConfig) -> None:
    """Go on as an earlier run of a mixture was trained: its router, temperature, recipe and rates
    stand wherever the command leaves the method's own."""
    assert config.method_name is not None
    method = method_config(config.method_name)
    chosen, defaults, before = (each.pipeline.model for each in (config, method, earlier))
    for name in ("router", "temperature", "recipe"):
        if getattr(chosen, name) == getattr(defaults, name):
            setattr(chosen, name, getattr(before, name))
    config.optimizers = {
        group: earlier.optimizers.get(group, settings)
        if settings == method.optimizers.get(group)
        else settings
        for group, settings in config.optimizers.items()
    }


def _model_config(source: ExpertSource) -> ExpertModelConfig:
    if source.runs:
        return source.model_config()
    return method_config(source.method).pipeline.model


def _check_frames(source: ExpertSource, frames: tuple[int, int] | None) -> None:
    if frames is None or not source.runs:
        return
    own = [
        getattr(run.config.pipeline.datamanager.dataparser, "frames", None) for run in source.runs
    ]
    if None in own:
        return  # The whole recording, whose length is not known before it is read.
    first, last = trained_frames(source.runs[0])[0], trained_frames(source.runs[-1])[1]
    if (first, last) != tuple(frames):
        raise ValueError(
            f"Expected experts of this clip, frames {frames[0]} to {frames[1]}, but "
            f"{source.runs[0].config_path} was trained on frames {first} to {last}; train "
            "everything that is to work together on the same frames."
        )
