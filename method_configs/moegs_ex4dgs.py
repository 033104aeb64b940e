"""`ns-train moegs-ex4dgs`: Ex4DGS (Lee et al., NeurIPS 2024), the recipe for multi-view video."""

from moegs_ns.method_configs.shared import gaussian_optimizers, radam, trainer_config
from nerfstudio.plugins.types import MethodSpecification

from moegs_ns.experts.ex4dgs import Ex4DGSExpertConfig
from moegs_ns.models.expert_model import ExpertModelConfig
from moegs_ns.recipes.ex4dgs import Ex4DGSRecipeConfig
from moegs_ns.recipes.schedules import LogLinearSchedulerConfig

DECAY_STEPS = 30000

method = MethodSpecification(
    config=trainer_config(
        "moegs-ex4dgs",
        ExpertModelConfig(expert=Ex4DGSExpertConfig(), recipe=Ex4DGSRecipeConfig()),
        gaussian_optimizers(LogLinearSchedulerConfig(), log_scale_lr=5e-3)
        | {
            "means": radam(
                1.6e-4, LogLinearSchedulerConfig(final_ratio=0.01, max_steps=DECAY_STEPS)
            ),
            "displacements": radam(1e-4),
            "quats": radam(1e-5),
            "scales": radam(5e-3),
            "opacities": radam(0.05),
            "sh0": radam(2.5e-3),
            "shN": radam(2.5e-3 / 20),
            # The release never lets this rate decay, against its own settings: a final ratio of 1.
            "dynamic_means": radam(
                1.6e-4, LogLinearSchedulerConfig(final_ratio=0.1, max_steps=DECAY_STEPS)
            ),
            "dynamic_quats": radam(1e-3),
            "dynamic_scales": radam(5e-3),
            "dynamic_opacities": radam(0.01),
            "dynamic_sh0": radam(2.5e-3),
            "dynamic_shN": radam(2.5e-3 / 20),
            "dynamic_opacity_centers": radam(0.01),
            "dynamic_opacity_log_widths": radam(1e-4),
        },
        steps=40000,
    ),
    description="Expert: Ex4DGS, static Gaussians and dynamic ones with keyframes.",
)
