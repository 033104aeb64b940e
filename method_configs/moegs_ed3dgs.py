"""`ns-train moegs-ed3dgs`: E-D3DGS (Bae et al., ECCV 2024), the recipe for multi-view video."""

from moegs_ns.method_configs.shared import adam, gaussian_optimizers, trainer_config
from nerfstudio.plugins.types import MethodSpecification

from moegs_ns.data.datamanager import MoegsDataManagerConfig
from moegs_ns.experts.ed3dgs.expert import PUBLISHED_EXTENT, ED3DGSExpertConfig
from moegs_ns.experts.ed3dgs.recipe import ED3DGSRecipeConfig
from moegs_ns.models.expert_model import ExpertModelConfig
from moegs_ns.training.schedules import LogLinearSchedulerConfig


def ed3dgs_method(
    name: str,
    description: str,
    *,
    expert: ED3DGSExpertConfig,
    recipe: ED3DGSRecipeConfig,
    steps: int = 80000,
    network_lr: float = 1.6e-4,
    time_offset_lr: float = 2e-5,
    datamanager: MoegsDataManagerConfig | None = None,
) -> MethodSpecification:
    """A method of this family; `network_lr` is published per unit of extent.

    Networks whose outputs count in shares of the extent learn alike in every scene.
    """

    def decay(final_ratio: float) -> LogLinearSchedulerConfig:
        return LogLinearSchedulerConfig(final_ratio=final_ratio, max_steps=steps)

    optimizers = gaussian_optimizers(decay(0.01), log_scale_lr=5e-3)
    for group in ("decoders", "time_grid"):
        optimizers[group] = adam(network_lr * PUBLISHED_EXTENT, decay(0.1))
    optimizers |= {"embeddings": adam(2.5e-3), "time_offsets": adam(time_offset_lr)}
    model = ExpertModelConfig(expert=expert, recipe=recipe)
    config = trainer_config(name, model, optimizers, steps, datamanager)
    return MethodSpecification(config, description)


method = ed3dgs_method(
    "moegs-ed3dgs",
    "Expert: E-D3DGS, Gaussians deformed as their own embeddings say.",
    expert=ED3DGSExpertConfig(),
    recipe=ED3DGSRecipeConfig(),
)
