"""`ns-train moegs-router`: the Volume-aware Pixel Router over trained experts (MoE-GS)."""

from moegs_ns.method_configs.shared import radam, trainer_config
from nerfstudio.plugins.types import MethodSpecification

from moegs_ns.models.router_model import RouterModelConfig
from moegs_ns.recipes.schedules import LogLinearSchedulerConfig

method = MethodSpecification(
    config=trainer_config(
        "moegs-router",
        RouterModelConfig(),
        {
            "router_weights": radam(
                0.5, LogLinearSchedulerConfig(final_ratio=0.01, max_steps=10000)
            ),
            "router_time": radam(0.05),
            "router_phi": radam(0.05),
        },
        steps=5000,
    ),
    description="Mixture: blends trained experts (--experts A/config.yml B/config.yml) per pixel.",
)
