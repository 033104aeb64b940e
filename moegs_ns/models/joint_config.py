"""Options of a joint training: methods whose configurations become part of one run's."""

from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
from nerfstudio.engine.trainer import TrainerConfig

from moegs_ns.launch.plan import parse
from moegs_ns.mixture.joint.recipe import prefix
from moegs_ns.mixture.pruning_schedule import PruneConfig
from moegs_ns.models.base import GaussianModelConfig
from moegs_ns.models.expert_model import ExpertModelConfig
from moegs_ns.models.expert_sources import (
    expert_source,
    method_config,
    options_by_method,
    unique_names,
)
from moegs_ns.models.mixture_config import MixtureModelConfig
from moegs_ns.models.resume import LONGEST, resume_mixture
from moegs_ns.routers import VolumeRouterConfig


def _joint_model() -> type:
    from moegs_ns.models.joint_model import JointModel  # It imports this module.

    return JointModel


@dataclass
class JointModelConfig(MixtureModelConfig):
    """A mixture of experts that are trained together with the router (MoE-GS, appendix B.1)."""

    _target: type = field(default_factory=_joint_model)
    experts: Annotated[tuple[Path, ...], tyro.conf.arg(aliases=["--experts"])] = ()
    """Names of the methods to train together, separated by spaces, such as stg or 4dgaussians. The
    training takes the steps of the longest one, or --max-num-iterations if that is not 0. Put
    another option between this list and the name of the dataparser, as in
    `--experts stg 4dgaussians --data D n3v-data`."""
    expert_options: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--expert-options"])] = ()
    """Options of the models and optimisers of single experts, each 'NAME: options' as on the
    command line, for example 'stg: --pipeline.model.recipe.densification.max-gaussians 50000'."""
    expert_budget: tyro.conf.Suppress[float] = 1.0
    """Unused, since all share one budget."""
    mixture_run: tyro.conf.Suppress[Path | None] = None
    """Unused: a finished run is pruned by `moegs-router --router`."""
    prune: tyro.conf.Suppress[PruneConfig] = field(default=PruneConfig())
    """Unused likewise."""

    def check(self, config: TrainerConfig) -> None:
        """Check the options, and copy in what decides the training of the experts: their models,
        their optimisers under names of their own, and the number of steps unless one is given."""
        GaussianModelConfig.check(self, config)
        earlier = resume_mixture(config, JointModelConfig, "a joint training")
        if earlier is not None:
            self.expert_options = earlier.pipeline.model.expert_options
            config.optimizers = earlier.optimizers | config.optimizers
            if config.max_num_iterations == LONGEST:
                config.max_num_iterations = earlier.max_num_iterations
        self.check_options(config)
        if self.expert_models:
            return
        if isinstance(self.router, VolumeRouterConfig):
            raise ValueError(
                "Joint training expects a router that blends the experts' images, but the Volume "
                "Router renders all Gaussians as one set; train it over trained experts "
                "(moegs-volume-router)."
            )
        methods = self.method_configs()
        self.expert_names = unique_names([method.method_name for method in methods])
        self.expert_models = tuple(method.pipeline.model for method in methods)
        for name, method in zip(self.expert_names, methods, strict=True):
            check_trains_jointly(name, method.pipeline.model)
            own = {prefix(name) + group: value for group, value in method.optimizers.items()}
            config.optimizers = config.optimizers | own
        if config.max_num_iterations == LONGEST:
            config.max_num_iterations = max(method.max_num_iterations for method in methods)

    def method_configs(self) -> list[Any]:
        """The configurations of the methods to train together, with the options of each.

        Raises:
            ValueError: there are none, a name is no method, or options are for no expert.
        """
        if not self.experts:
            raise ValueError(
                "moegs-joint expects the methods to train together, got none; add --experts stg "
                "4dgaussians before --data."
            )
        methods = [expert_source(str(name)).method for name in self.experts]
        if "" in methods:
            raise ValueError(
                "moegs-joint expects methods to train together in --experts, but "
                f"{self.experts[methods.index('')]} is a trained run; name its method, or mix "
                "trained runs with moegs-router."
            )
        own = options_by_method(self.expert_options, [str(name) for name in self.experts])
        return [
            parse([method, *own[method]]) if method in own else deepcopy(method_config(method))
            for method in methods
        ]


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
