"""The Volume Router that MoE-GS compares with (Table 4): weights modulate Gaussians in space."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from moegs_ns.routers.base import RAY_CHANNELS, Router, RouterConfig, layers
from moegs_ns.scene import SceneInfo


@dataclass
class VolumeRouterConfig(RouterConfig):
    """Shape of the router."""

    _target: type = field(default_factory=lambda: VolumeRouter)
    hidden: tuple[int, ...] = (6, 3)
    """Units of the hidden layers of the network Φ."""


class VolumeRouter(Router):
    """One score per Gaussian: s = w + Φ(w_dir, t·w_time, ray), Eq. 7 in space instead of pixels.

    The ray is that from the camera to the Gaussian's centre. All weights and the last layer of Φ
    start at zero, and so do all scores.
    """

    def __init__(self, config: VolumeRouterConfig, scene: SceneInfo, counts: Sequence[int]) -> None:
        super().__init__(scene, counts, dict.fromkeys(("w", "w_dir", "w_time"), 0.0))
        self.config = config
        widths = (2 + RAY_CHANNELS, *config.hidden, 1)
        self.phi = layers(widths, partial(nn.Linear, bias=False), zero_output=True)

    def forward(
        self,
        features: Float[Tensor, "N 3"],
        means: Float[Tensor, "N 3"],
        camera_position: Float[Tensor, "3"],
    ) -> Float[Tensor, "N"]:
        """Scores of Gaussians from their features and centres and the camera's centre."""
        directions = torch.nn.functional.normalize(means - camera_position, dim=-1)
        origins = self.normalized(camera_position).expand_as(directions)
        refined = self.phi(torch.cat([features[:, 1:], origins, directions], dim=-1))
        return features[:, 0] + refined[:, 0]
