"""`ns-train moegs-volume-router`: weights modulate Gaussians in space (MoE-GS, Table 4)."""

from moegs_ns.method_configs.shared import radam, trainer_config
from nerfstudio.plugins.types import MethodSpecification

from moegs_ns.models.mixture_model import MixtureModelConfig
from moegs_ns.routers import VolumeRouterConfig
from moegs_ns.training.schedules import LogLinearSchedulerConfig

method = MethodSpecification(
    config=trainer_config(
        "moegs-volume-router",
        MixtureModelConfig(router=VolumeRouterConfig()),
        # Weights move logits of opacities, so they get the rate of opacities in Gaussian splatting.
        {
            "router_weights": radam(
                0.05, LogLinearSchedulerConfig(final_ratio=0.01, max_steps=10000)
            ),
            "router_time": radam(0.05),
            "router_phi": radam(0.05),
        },
        steps=5000,
    ),
    description="Mixture for comparison: one joint composite of all experts (--experts ...).",
)
