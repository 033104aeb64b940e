"""Routers over trained experts (MoE-GS): `moegs-router`, its variant for Technicolor, and the two
that Table 4 compares it with."""

from typing import Any

from moegs_ns.method_configs.shared import published, radam, technicolor, trainer_config
from nerfstudio.plugins.types import MethodSpecification

from moegs_ns.data.datamanager import MoegsDataManagerConfig
from moegs_ns.models.mixture_model import MixtureModelConfig
from moegs_ns.routers import PixelRouterConfig, VolumeRouterConfig
from moegs_ns.training.optimizers import LogLinearSchedulerConfig


def router_optimizers(weights_lr: float = 0.5, phi_lr: float = 0.05) -> dict[str, Any]:
    """The router's groups: weights of the Gaussians, those of time, and the network Φ."""
    decay = LogLinearSchedulerConfig(final_ratio=0.01, max_steps=10000)
    return {
        "router_weights": radam(weights_lr, decay),
        "router_time": radam(phi_lr),
        "router_phi": radam(phi_lr),
    }


def router_method(
    name: str,
    description: str,
    optimizers: dict[str, Any],
    model: MixtureModelConfig | None = None,
    datamanager: MoegsDataManagerConfig | None = None,
) -> MethodSpecification:
    """A mixture of frozen experts, by default with the Volume-aware Pixel Router."""
    model = model or MixtureModelConfig()
    config = trainer_config(name, model, optimizers, 5000, datamanager)
    return MethodSpecification(config, description)


moegs_router = router_method(
    "moegs-router",
    "Mixture: blends experts (--experts A/config.yml B/config.yml, or names as stg) per pixel.",
    router_optimizers(),
)

# 0.1 for w and 0.01 for w_time and Φ, a fifth of those of N3V, in the authors' released code. That
# code gives w_dir the rate of w_time; here it has that of w, as the paper says.
moegs_router_technicolor = published(
    router_method(
        "moegs-router-technicolor",
        "Mixture: moegs-router with the lower rates released for Technicolor.",
        router_optimizers(weights_lr=0.1, phi_lr=0.01),
        datamanager=technicolor(),
    )
)

# The paper gives no rate for this network; it is larger than Φ and needs a lower one.
moegs_pixel_router = router_method(
    "moegs-pixel-router",
    "Mixture for comparison: gates from ray and time alone (--experts ...).",
    {"router_phi": radam(5e-3)},
    MixtureModelConfig(router=PixelRouterConfig()),
)

# Weights move logits of opacities, so they get the rate of opacities in Gaussian splatting.
moegs_volume_router = router_method(
    "moegs-volume-router",
    "Mixture for comparison: one joint composite of all experts (--experts ...).",
    router_optimizers(weights_lr=0.05),
    MixtureModelConfig(router=VolumeRouterConfig()),
)
