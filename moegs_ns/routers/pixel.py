"""The Pixel Router that MoE-GS compares with (Table 4): gates from ray and time alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from moegs_ns.routers.base import RAY_CHANNELS, Router, RouterConfig, layers
from moegs_ns.scene import SceneInfo


@dataclass
class PixelRouterConfig(RouterConfig):
    """Shape of the router; the paper does not say how large its network is."""

    _target: type = field(default_factory=lambda: PixelRouter)
    hidden: tuple[int, ...] = (32, 32)
    """Units of the hidden layers."""


class PixelRouter(Router):
    """Logits of all experts' gates from a pixel's ray and the time, by one network.

    The ray is r(u) of the Volume-aware Pixel Router: origin and direction. Gaussians have no
    weights. The last layer starts at zero, so that all gates are equal at first.
    """

    def __init__(self, config: PixelRouterConfig, scene: SceneInfo, counts: Sequence[int]) -> None:
        super().__init__(scene, counts, {})
        self.config = config
        widths = (RAY_CHANNELS + 1, *config.hidden, len(counts))
        self.phi = layers(widths, nn.Linear, zero_output=True)

    def forward(
        self,
        features: Float[Tensor, "E H W 0"],
        ray_origins: Float[Tensor, "H W 3"],
        ray_directions: Float[Tensor, "H W 3"],
        time: Float[Tensor, ""],
    ) -> Float[Tensor, "E H W 1"]:
        """Logits of the gates."""
        times = time.expand(*ray_directions.shape[:2], 1)
        rays = torch.cat([self.normalized(ray_origins), ray_directions, times], dim=-1)
        return self.phi(rays).permute(2, 0, 1)[..., None]
