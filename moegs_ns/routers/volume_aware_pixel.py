"""The Volume-aware Pixel Router of MoE-GS: per-Gaussian weights, rendered, refined per pixel."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from moegs_ns.routers.base import RAY_CHANNELS, Router, RouterConfig, layers
from moegs_ns.scene import SceneInfo


@dataclass
class VolumeAwarePixelRouterConfig(RouterConfig):
    """Shape of the router."""

    _target: type = field(default_factory=lambda: VolumeAwarePixelRouter)
    initial_weight: float = 0.9
    """Initial value of every w; experts of equal accumulation at a pixel get equal gates."""
    hidden: tuple[int, ...] = (6, 3)
    """Channels of the hidden layers of the refining network Φ."""
    kernel_size: int = 1
    """Kernel size in pixels of the layers of Φ; an odd number."""
    direction_weights: bool = True
    """Whether Gaussians have w_dir, which Φ reads."""
    time_weights: bool = True
    """Whether Gaussians have w_time, which Φ reads."""
    refine: bool = True
    """Whether to use Φ. Without it gates come from w alone, and w_dir and w_time are left out."""

    def check(self) -> None:
        """See base."""
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ValueError(
                "--pipeline.model.router.kernel-size expects an odd number of pixels, such as 1 or "
                f"3, got {self.kernel_size}."
            )


class VolumeAwarePixelRouter(Router):
    """Logits of the gates from rendered weights: R' = w₂D + Φ(w_dir₂D, w_time₂D, ray) (Eq. 7).

    Φ is one small convolutional network without bias that all experts share.
    """

    def __init__(
        self, config: VolumeAwarePixelRouterConfig, scene: SceneInfo, counts: Sequence[int]
    ) -> None:
        optional = {"w_dir": config.direction_weights, "w_time": config.time_weights}
        refined = [name for name, is_used in optional.items() if is_used and config.refine]
        super().__init__(scene, counts, {"w": config.initial_weight} | dict.fromkeys(refined, 0.0))
        self.config = config
        if config.refine:
            size = config.kernel_size
            convolution = partial(nn.Conv2d, kernel_size=size, padding=size // 2, bias=False)
            self.phi = layers((len(refined) + RAY_CHANNELS, *config.hidden, 1), convolution)

    def forward(
        self,
        features: Float[Tensor, "E H W F"],
        ray_origins: Float[Tensor, "H W 3"],
        ray_directions: Float[Tensor, "H W 3"],
        time: Float[Tensor, ""],
    ) -> Float[Tensor, "E H W 1"]:
        """Logits of the gates (Eq. 7)."""
        w, refined = features[..., :1], features[..., 1:]
        if not self.config.refine:
            return w
        rays = torch.cat([self.normalized(ray_origins), ray_directions], dim=-1)
        rays = rays.expand(len(features), -1, -1, -1)
        inputs = torch.cat([refined, rays], dim=-1).permute(0, 3, 1, 2)
        return w + self.phi(inputs).permute(0, 2, 3, 1)
