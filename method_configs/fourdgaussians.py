"""4DGaussians (Wu et al., CVPR 2024): `moegs-4dgaussians` and its published variants."""

from typing import Any

from moegs_ns.method_configs.shared import (
    adam,
    dnerf,
    expert_method,
    gaussian_optimizers,
    published,
)
from nerfstudio.plugins.types import MethodSpecification

from moegs_ns.data.datamanager import MoegsDataManagerConfig
from moegs_ns.data.dataparsers.hypernerf import HyperNeRFDataParserConfig
from moegs_ns.data.dataparsers.iphone import IPhoneDataParserConfig
from moegs_ns.experts.fourdgaussians.expert import HexPlaneExpertConfig
from moegs_ns.experts.fourdgaussians.recipe import HexPlaneRecipeConfig
from moegs_ns.training.densification import DensificationConfig
from moegs_ns.training.optimizers import LogLinearSchedulerConfig

COARSE_STEPS = 3000
WHITE = (1.0, 1.0, 1.0)
"""Background of all published models of this family."""


def hexplane_method(
    name: str,
    description: str,
    expert: HexPlaneExpertConfig,
    recipe: HexPlaneRecipeConfig,
    *,
    fine_steps: int = 14000,
    final_ratio: float = 0.1,
    datamanager: MoegsDataManagerConfig | None = None,
) -> MethodSpecification:
    """A method of this family; `final_ratio` is that of the rates of decoder and planes."""

    def decay(final_ratio: float) -> LogLinearSchedulerConfig:
        # Rates start anew with the fine stage.
        return LogLinearSchedulerConfig(
            final_ratio=final_ratio, max_steps=20000, restart_step=COARSE_STEPS
        )

    optimizers = gaussian_optimizers(decay(0.01)) | {
        "decoder": adam(1.6e-4, decay(final_ratio)),
        "planes": adam(1.6e-3, decay(final_ratio)),
    }
    steps = COARSE_STEPS + fine_steps
    return expert_method(name, description, expert, recipe, optimizers, steps, datamanager)


def published_recipe(**changes: Any) -> HexPlaneRecipeConfig:
    """The recipe as published for real scenes: no D-SSIM, no resets of opacity."""
    published: dict[str, Any] = {
        "coarse_steps": COARSE_STEPS,
        "ssim_lambda": 0.0,
        "reset_every": None,
        "densification": DensificationConfig(refine_stop_iter=10000),
        "views": 2,
    }
    return HexPlaneRecipeConfig(**(published | changes))


moegs_4dgaussians = hexplane_method(
    "moegs-4dgaussians",
    "Expert: 4DGaussians, canonical Gaussians deformed by a HexPlane field.",
    HexPlaneExpertConfig(),
    HexPlaneRecipeConfig(coarse_steps=COARSE_STEPS),
)

# Released N3V configuration; four of the six scenes have two images per step, the other two have
# four (`--pipeline.model.recipe.views 4`). Its 150 cells along time are half the 300 frames.
moegs_4dgaussians_n3v = published(
    hexplane_method(
        "moegs-4dgaussians-n3v",
        "Expert: 4DGaussians as published for N3V; two images a step in all scenes, a near plane "
        "and counts of views that are this project's (docs/defaults.md).",
        HexPlaneExpertConfig(background=WHITE),
        published_recipe(),
    )
)

# Released D-NeRF configurations. Their cells along time, 25 to 100, are half the distinct times of
# each scene, as is the default here. They prune every 8000 steps, and like all of this family only
# above 200 000 Gaussians, which these scenes do not reach.
moegs_4dgaussians_dnerf = published(
    hexplane_method(
        "moegs-4dgaussians-dnerf",
        "Expert: 4DGaussians as published for D-NeRF.",
        HexPlaneExpertConfig(
            background=WHITE, channels=32, width=64, deform_opacity=False, deform_sh=False
        ),
        published_recipe(
            views=1,
            densification=DensificationConfig(refine_stop_iter=15000),
            reset_every=3000,
            weight_space_smoothness=1e-4,
            weight_time_smoothness=1e-2,
        ),
        fine_steps=20000,
        final_ratio=0.01,
        datamanager=dnerf(),
    )
)

# Released HyperNeRF configurations. Their cells along time, 80 to 250, are about half the frames of
# each scene, as is the default here.
moegs_4dgaussians_hypernerf = published(
    hexplane_method(
        "moegs-4dgaussians-hypernerf",
        "Expert: 4DGaussians as published for HyperNeRF.",
        HexPlaneExpertConfig(
            background=WHITE, levels=(1, 2, 4), deform_opacity=False, deform_sh=False
        ),
        published_recipe(),
        datamanager=MoegsDataManagerConfig(dataparser=HyperNeRFDataParserConfig()),
    )
)

# Released DyCheck configuration: that of HyperNeRF with 150 cells along time and 60 000 fine steps.
moegs_4dgaussians_dycheck = published(
    hexplane_method(
        "moegs-4dgaussians-dycheck",
        "Expert: 4DGaussians as published for DyCheck.",
        HexPlaneExpertConfig(
            background=WHITE,
            levels=(1, 2, 4),
            time_resolution=150,
            deform_opacity=False,
            deform_sh=False,
        ),
        published_recipe(),
        fine_steps=60000,
        datamanager=MoegsDataManagerConfig(dataparser=IPhoneDataParserConfig()),
    )
)
