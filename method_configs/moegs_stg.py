"""`ns-train moegs-stg`: Spacetime Gaussians (Li et al., CVPR 2024), with SH colour by default."""

from moegs_ns.method_configs.shared import adam, gaussian_optimizers, trainer_config
from nerfstudio.plugins.types import MethodSpecification

from moegs_ns.experts.stg.expert import STGExpertConfig
from moegs_ns.experts.stg.recipe import STGRecipeConfig
from moegs_ns.models.expert_model import ExpertModelConfig
from moegs_ns.training.schedules import LogLinearSchedulerConfig


def stg_method(
    name: str,
    description: str,
    *,
    expert: STGExpertConfig,
    recipe: STGRecipeConfig,
    log_scale_lr: float = 5e-3,
) -> MethodSpecification:
    """A method of this family; all published ones share their rates but for that of sizes."""
    optimizers = gaussian_optimizers(
        LogLinearSchedulerConfig(final_ratio=0.01, max_steps=30000), log_scale_lr
    ) | {
        "motion": adam(2.8e-4),
        "angular_rates": adam(1e-4),
        "time_centers": adam(1e-4),
        "time_log_scales": adam(0.03),
        "base_rgb": adam(2.5e-3),
        "view_features": adam(2.5e-3),
        "time_features": adam(1e-3),
        "decoder": adam(1e-4),
    }
    model = ExpertModelConfig(expert=expert, recipe=recipe)
    return MethodSpecification(trainer_config(name, model, optimizers, 30000), description)


method = stg_method(
    "moegs-stg",
    "Expert: Spacetime Gaussians, polynomial motion with temporal opacity.",
    expert=STGExpertConfig(),
    recipe=STGRecipeConfig(),
)
