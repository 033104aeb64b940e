"""The experts of a joint training: methods whose configurations become part of one run's."""

import shlex
from copy import deepcopy
from pathlib import Path
from typing import Any

import tyro
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.plugins.registry import discover_methods

from moegs_ns.mixture.joint.recipe import prefix
from moegs_ns.models.expert_model import ExpertModelConfig
from moegs_ns.models.expert_sources import expert_source, unique_names
from moegs_ns.models.joint_model import JointModelConfig
from moegs_ns.models.mixture_checks import check_router, take_over
from moegs_ns.routers import VolumeRouterConfig
from moegs_ns.runs.checkpoint import find_config, read_config

LONGEST = 0
"""Number of steps in a method's configuration that stands for the most that any expert has."""


def embed_methods(config: TrainerConfig) -> None:
    """Copy what decides the training of the experts into a config: their models, their optimisers
    under names of their own, and the number of steps unless one is given.

    Does nothing the second time; a resumed run is given what it had.

    Raises:
        ValueError: no methods are named, or what is named cannot be trained jointly.
    """
    model = config.pipeline.model
    assert isinstance(model, JointModelConfig), type(model)
    if config.load_dir is not None and not model.experts:
        _continue(config, model, read_config(find_config(Path(config.load_dir).parent)))
    check_router(config)
    if model.expert_models:
        return
    if isinstance(model.router, VolumeRouterConfig):
        raise ValueError(
            "Joint training expects a router that blends the experts' images, but the Volume "
            "Router draws all Gaussians as one set; train it over trained experts "
            "(moegs-volume-router)."
        )
    methods = method_configs(model)
    model.expert_names = unique_names([method.method_name for method in methods])
    model.expert_models = tuple(method.pipeline.model for method in methods)
    for name, method in zip(model.expert_names, methods, strict=True):
        check_trains_jointly(name, method.pipeline.model)
        own = {prefix(name) + group: value for group, value in method.optimizers.items()}
        config.optimizers = config.optimizers | own
    if config.max_num_iterations == LONGEST:
        config.max_num_iterations = max(method.max_num_iterations for method in methods)


def method_configs(model: JointModelConfig) -> list[Any]:
    """The configurations of the methods to train together, with the options of each.

    Raises:
        ValueError: there are none, a word is no method, or options are for no expert.
    """
    if not model.experts:
        raise ValueError(
            "moegs-joint expects the methods to train together, got none; add --experts stg "
            "4dgaussians before --data."
        )
    sources = [expert_source(str(word)) for word in model.experts]
    for word, source in zip(model.experts, sources, strict=True):
        if not source.method:
            raise ValueError(
                f"moegs-joint expects methods to train together in --experts, but {word} is a "
                "trained run; name its method, or mix trained runs with moegs-router."
            )
    methods = [source.method for source in sources]
    own: dict[str, list[str]] = {}
    for words in model.expert_options:
        name, colon, options = words.partition(":")
        method = expert_source(name.strip()).method if colon else ""
        if not method or method not in methods:
            raise ValueError(
                "--expert-options expects 'NAME: options' with the name of one of the experts "
                f"({', '.join(str(word) for word in model.experts)}), got '{words}'."
            )
        own[method] = own.get(method, []) + shlex.split(options)
    return [_method_config(method, own.get(method, [])) for method in methods]


def check_trains_jointly(name: str, model: ExpertModelConfig) -> None:
    """Raise ValueError if an expert asks for what only a training of its own gives."""
    has_corrections = model.camera_optimizer.mode != "off" or model.color_correction
    if has_corrections or model.distillation.teacher is not None:
        asked = "corrections of cameras" if has_corrections else "a teacher"
        raise ValueError(
            f"Joint training expects experts that are trained on the images as they are, but "
            f"{name} asks for {asked}; switch that off, or train the expert alone and mix it with "
            "moegs-router."
        )


def _method_config(method: str, options: list[str]) -> Any:
    if not options:
        return deepcopy(discover_methods()[0][method])
    # Imports all methods, which the command has done before.
    from nerfstudio.configs.method_configs import AnnotatedBaseConfigUnion

    return tyro.cli(AnnotatedBaseConfigUnion, args=[method, *options])  # type: ignore[arg-type]


def _continue(config: TrainerConfig, model: JointModelConfig, resumed: Any) -> None:
    """Take over what was embedded when the run to resume was started."""
    if not isinstance(resumed.pipeline.model, JointModelConfig):
        raise ValueError(
            f"Expected the run of a joint training in --load-dir, but {config.load_dir} is that of "
            f"'{resumed.method_name}'; resume it with that method."
        )
    model.continue_from(resumed.pipeline.model)
    model.expert_options = resumed.pipeline.model.expert_options
    take_over(config, resumed)
    config.optimizers = resumed.optimizers | config.optimizers
    if config.max_num_iterations == LONGEST:
        config.max_num_iterations = resumed.max_num_iterations
