"""`ns-train moegs-router`: the Volume-aware Pixel Router over trained experts (MoE-GS)."""

from typing import Any

from moegs_ns.method_configs.shared import radam, trainer_config
from nerfstudio.plugins.types import MethodSpecification

from moegs_ns.models.mixture_model import MixtureModelConfig
from moegs_ns.training.schedules import LogLinearSchedulerConfig


def router_optimizers(*, weights: float, time: float, phi: float) -> dict[str, Any]:
    """The router's three groups with these learning rates."""
    decay = LogLinearSchedulerConfig(final_ratio=0.01, max_steps=10000)
    return {
        "router_weights": radam(weights, decay),
        "router_time": radam(time),
        "router_phi": radam(phi),
    }


def router_method(
    name: str, description: str, *, weights: float, time: float, phi: float
) -> MethodSpecification:
    """A router with these learning rates of its three groups."""
    optimizers = router_optimizers(weights=weights, time=time, phi=phi)
    config = trainer_config(name, MixtureModelConfig(), optimizers, steps=5000)
    return MethodSpecification(config, description)


method = router_method(
    "moegs-router",
    "Mixture: blends experts (--experts A/config.yml B/config.yml, or names as stg) per pixel.",
    weights=0.5,
    time=0.05,
    phi=0.05,
)
