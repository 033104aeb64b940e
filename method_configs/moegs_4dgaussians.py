"""`ns-train moegs-4dgaussians`: 4DGaussians (Wu et al., CVPR 2024), the multi-view video recipe."""

from moegs_ns.method_configs.shared import adam, gaussian_optimizers, trainer_config
from nerfstudio.plugins.types import MethodSpecification

from moegs_ns.data.datamanager import MoegsDataManagerConfig
from moegs_ns.experts.fourdgaussians.expert import HexPlaneExpertConfig
from moegs_ns.experts.fourdgaussians.recipe import HexPlaneRecipeConfig
from moegs_ns.models.expert_model import ExpertModelConfig
from moegs_ns.training.densification import DensificationConfig
from moegs_ns.training.schedules import LogLinearSchedulerConfig

COARSE_STEPS, DECAY_STEPS = 3000, 20000
WHITE = (1.0, 1.0, 1.0)
"""Background of all published models of this family."""


def hexplane_method(
    name: str,
    description: str,
    *,
    expert: HexPlaneExpertConfig,
    recipe: HexPlaneRecipeConfig,
    fine_steps: int = 14000,
    final_ratio: float = 0.1,
    datamanager: MoegsDataManagerConfig | None = None,
) -> MethodSpecification:
    """A method of this family; `final_ratio` is what the rates of decoder and planes fall to."""
    optimizers = gaussian_optimizers(_decay(0.01), log_scale_lr=5e-3) | {
        "decoder": adam(1.6e-4, _decay(final_ratio)),
        "planes": adam(1.6e-3, _decay(final_ratio)),
    }
    model = ExpertModelConfig(expert=expert, recipe=recipe)
    config = trainer_config(name, model, optimizers, COARSE_STEPS + fine_steps, datamanager)
    return MethodSpecification(config, description)


def published_recipe(**changes) -> HexPlaneRecipeConfig:
    """The recipe as published for real scenes: no structural term, no resets of opacity."""
    published = {
        "coarse_steps": COARSE_STEPS,
        "ssim_lambda": 0.0,
        "reset_every": None,
        "densification": DensificationConfig(start=500, stop=10000, every=100),
    }
    return HexPlaneRecipeConfig(**(published | changes))


def _decay(final_ratio: float) -> LogLinearSchedulerConfig:
    """Rates start anew with the fine stage."""
    return LogLinearSchedulerConfig(
        final_ratio=final_ratio, max_steps=DECAY_STEPS, restart_step=COARSE_STEPS
    )


method = hexplane_method(
    "moegs-4dgaussians",
    "Expert: 4DGaussians, canonical Gaussians deformed by a HexPlane field.",
    expert=HexPlaneExpertConfig(),
    recipe=HexPlaneRecipeConfig(coarse_steps=COARSE_STEPS),
)
