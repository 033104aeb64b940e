"""`ns-train moegs-pixel-router`: gates from ray and time alone (MoE-GS, Table 4)."""

from moegs_ns.method_configs.shared import radam, trainer_config
from nerfstudio.plugins.types import MethodSpecification

from moegs_ns.models.mixture_model import MixtureModelConfig
from moegs_ns.routers import PixelRouterConfig

method = MethodSpecification(
    config=trainer_config(
        "moegs-pixel-router",
        MixtureModelConfig(router=PixelRouterConfig()),
        # The paper gives no rate for this network; it is larger than Φ and needs a lower one.
        {"router_phi": radam(5e-3)},
        steps=5000,
    ),
    description="Mixture for comparison: gates from ray and time alone (--experts ...).",
)
