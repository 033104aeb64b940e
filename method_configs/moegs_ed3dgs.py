"""`ns-train moegs-ed3dgs`: E-D3DGS (Bae et al., ECCV 2024), the recipe for multi-view video."""

from moegs_ns.method_configs.shared import adam, gaussian_optimizers, trainer_config
from nerfstudio.plugins.types import MethodSpecification

from moegs_ns.experts.ed3dgs import PUBLISHED_EXTENT, ED3DGSExpertConfig
from moegs_ns.models.expert_model import ExpertModelConfig
from moegs_ns.recipes.ed3dgs import ED3DGSRecipeConfig
from moegs_ns.recipes.schedules import LogLinearSchedulerConfig

STEPS = 80000

method = MethodSpecification(
    config=trainer_config(
        "moegs-ed3dgs",
        ExpertModelConfig(expert=ED3DGSExpertConfig(), recipe=ED3DGSRecipeConfig()),
        gaussian_optimizers(
            LogLinearSchedulerConfig(final_ratio=0.01, max_steps=STEPS), log_scale_lr=5e-3
        )
        | {
            # Published per unit of extent; networks whose outputs count in shares of the extent
            # learn alike in every scene.
            name: adam(
                1.6e-4 * PUBLISHED_EXTENT,
                LogLinearSchedulerConfig(final_ratio=0.1, max_steps=STEPS),
            )
            for name in ("decoders", "time_grid")
        }
        | {"embeddings": adam(2.5e-3), "time_offsets": adam(2e-5)},
        steps=STEPS,
    ),
    description="Expert: E-D3DGS, Gaussians deformed as their own embeddings say.",
)
