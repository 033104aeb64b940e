"""`ns-train moegs-4dgaussians`: 4DGaussians (Wu et al., CVPR 2024), the multi-view video recipe."""

from moegs_ns.method_configs.shared import adam, gaussian_optimizers, trainer_config
from nerfstudio.plugins.types import MethodSpecification

from moegs_ns.experts.hexplane import HexPlaneExpertConfig
from moegs_ns.models.expert_model import ExpertModelConfig
from moegs_ns.recipes.hexplane import HexPlaneRecipeConfig
from moegs_ns.recipes.schedules import LogLinearSchedulerConfig

COARSE_STEPS, FINE_STEPS, DECAY_STEPS = 3000, 14000, 20000


def _decay(final_ratio: float) -> LogLinearSchedulerConfig:
    """Rates start anew with the fine stage."""
    return LogLinearSchedulerConfig(
        final_ratio=final_ratio, max_steps=DECAY_STEPS, restart_step=COARSE_STEPS
    )


method = MethodSpecification(
    config=trainer_config(
        "moegs-4dgaussians",
        ExpertModelConfig(
            expert=HexPlaneExpertConfig(),
            recipe=HexPlaneRecipeConfig(coarse_steps=COARSE_STEPS),
        ),
        gaussian_optimizers(_decay(0.01), log_scale_lr=5e-3)
        | {"decoder": adam(1.6e-4, _decay(0.1)), "planes": adam(1.6e-3, _decay(0.1))},
        steps=COARSE_STEPS + FINE_STEPS,
    ),
    description="Expert: 4DGaussians, canonical Gaussians deformed by a HexPlane field.",
)
