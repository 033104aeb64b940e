"""A training's configuration at its budget."""

import copy
from typing import Any, TypeVar

from nerfstudio.engine.trainer import TrainerConfig

from moegs_ns.training.optimizers import scaled_steps

Config = TypeVar("Config", bound=TrainerConfig)


def at_budget(config: Config) -> Config:
    """The config with all steps scaled by the budget; never written to disk."""
    pipeline: Any = config.pipeline
    budget = pipeline.model.budget
    scaled = copy.copy(config)
    scaled.max_num_iterations = scaled_steps(config.max_num_iterations, budget)
    if scaled.max_num_iterations <= config.steps_per_eval_image:
        # A short training would never come to look at an evaluation image.
        scaled.steps_per_eval_image = max(1, scaled.max_num_iterations // 10)
    scaled.optimizers = {
        name: group | {"scheduler": group["scheduler"] and group["scheduler"].scaled(budget)}
        for name, group in config.optimizers.items()
    }
    return scaled
