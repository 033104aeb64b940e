"""`ns-train moegs-ex4dgs`: Ex4DGS (Lee et al., NeurIPS 2024), the recipe for multi-view video."""

from collections.abc import Mapping

from moegs_ns.method_configs.shared import gaussian_optimizers, radam, trainer_config
from nerfstudio.plugins.types import MethodSpecification

from moegs_ns.experts.ex4dgs.expert import Ex4DGSExpertConfig
from moegs_ns.experts.ex4dgs.recipe import Ex4DGSRecipeConfig
from moegs_ns.models.expert_model import ExpertModelConfig
from moegs_ns.training.schedules import LogLinearSchedulerConfig

DECAY_STEPS = 30000
RATES = {
    "displacements": 1e-4,
    "quats": 1e-5,
    "scales": 5e-3,
    "opacities": 0.05,
    "sh0": 2.5e-3,
    "shN": 2.5e-3 / 20,
    "dynamic_quats": 1e-3,
    "dynamic_scales": 5e-3,
    "dynamic_opacities": 0.01,
    "dynamic_sh0": 2.5e-3,
    "dynamic_shN": 2.5e-3 / 20,
    "dynamic_opacity_centers": 0.01,
    "dynamic_opacity_log_widths": 1e-4,
}
"""Constant rates, as published for N3V."""


def ex4dgs_method(
    name: str,
    description: str,
    *,
    expert: Ex4DGSExpertConfig,
    recipe: Ex4DGSRecipeConfig,
    rates: Mapping[str, float] | None = None,
    final_key_ratio: float = 0.1,
) -> MethodSpecification:
    """A method of this family.

    `rates` replace some of the constant ones; `final_key_ratio` is what the rate of keys falls to.
    """
    constant = {group: radam(rate) for group, rate in (RATES | dict(rates or {})).items()}
    optimizers = gaussian_optimizers(LogLinearSchedulerConfig(), log_scale_lr=5e-3) | constant
    optimizers |= {"means": _means(0.01), "dynamic_means": _means(final_key_ratio)}
    model = ExpertModelConfig(expert=expert, recipe=recipe)
    return MethodSpecification(trainer_config(name, model, optimizers, 40000), description)


def _means(final_ratio: float) -> dict:
    decay = LogLinearSchedulerConfig(final_ratio=final_ratio, max_steps=DECAY_STEPS)
    return radam(1.6e-4, decay)


# The release never lets the rate of keys decay, against its own settings: a final ratio of 1.
method = ex4dgs_method(
    "moegs-ex4dgs",
    "Expert: Ex4DGS, static Gaussians and dynamic ones with keyframes.",
    expert=Ex4DGSExpertConfig(),
    recipe=Ex4DGSRecipeConfig(),
)
