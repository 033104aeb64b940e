"""The Volume-aware Pixel Router of MoE-GS: per-Gaussian weights, splatted and refined per pixel."""

from collections.abc import Sequence
from dataclasses import dataclass, field

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
    """First value of every w; where experts cover a pixel equally they get equal gates."""
    hidden: tuple[int, ...] = (6, 3)
    """Channels of the hidden layers of the refining network Φ."""
    kernel_size: int = 1
    """Pixels along each side that a layer of Φ looks at; an odd number."""
    direction_weights: bool = True
    """Whether Gaussians have w_dir, which Φ reads."""
    time_weights: bool = True
    """Whether Gaussians have w_time, which Φ reads."""
    refine: bool = True
    """Whether there is Φ. Without it w alone makes the gates, as nothing reads w_dir and w_time."""

    def check(self) -> None:
        """See base."""
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ValueError(
                "--pipeline.model.router.kernel-size expects an odd number of pixels, such as 1 or "
                f"3, got {self.kernel_size}."
            )


class VolumeAwarePixelRouter(Router):
    """Logits of the gates from splatted weights: R' = w₂D + Φ(w_dir₂D, w_time₂D, ray) (Eq. 7).

    Φ is one small convolutional network without bias that all experts share.
    """

    def __init__(
        self, config: VolumeAwarePixelRouterConfig, scene: SceneInfo, counts: Sequence[int]
    ) -> None:
        refined = weights_for_phi(config) if config.refine else []
        first = {"w": config.initial_weight} | dict.fromkeys(refined, 0.0)
        super().__init__(scene, counts, first)
        self.config = config
        if config.refine:
            size = config.kernel_size

            def convolution(before: int, after: int) -> nn.Module:
                return nn.Conv2d(before, after, size, padding=size // 2, bias=False)

            self.phi = layers((len(refined) + RAY_CHANNELS, *config.hidden, 1), convolution)

    def forward(
        self,
        splatted: Float[Tensor, "E H W F"],
        ray_origins: Float[Tensor, "H W 3"],
        ray_directions: Float[Tensor, "H W 3"],
        time: Float[Tensor, ""],
    ) -> Float[Tensor, "E H W 1"]:
        """Logits of the gates (Eq. 7)."""
        w, refined = splatted[..., :1], splatted[..., 1:]
        if not self.config.refine:
            return w
        rays = torch.cat([self.normalized(ray_origins), ray_directions], dim=-1)
        rays = rays.expand(len(splatted), -1, -1, -1)
        inputs = torch.cat([refined, rays], dim=-1).permute(0, 3, 1, 2)
        return w + self.phi(inputs).permute(0, 2, 3, 1)


def weights_for_phi(config: VolumeAwarePixelRouterConfig) -> list[str]:
    """Names of the per-Gaussian weights that Φ reads."""
    wanted = {"w_dir": config.direction_weights, "w_time": config.time_weights}
    return [name for name, is_wanted in wanted.items() if is_wanted]
