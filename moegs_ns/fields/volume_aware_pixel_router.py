"""The Volume-aware Pixel Router of MoE-GS: per-Gaussian weights, splatted and refined per pixel."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from jaxtyping import Float, Int
from nerfstudio.configs.base_config import InstantiateConfig
from torch import Tensor, nn
from torch.nn import Parameter

from moegs_ns.rows import RowParameters
from moegs_ns.scene import SceneInfo

NUM_FEATURES = 3
"""Channels per Gaussian: w, w_dir and t·w_time."""
RAY_CHANNELS = 6


@dataclass
class VolumeAwarePixelRouterConfig(InstantiateConfig):
    """Shape of the router."""

    _target: type = field(default_factory=lambda: VolumeAwarePixelRouter)
    initial_weight: float = 0.9
    """First value of every w; where experts cover a pixel equally they get equal gates."""
    hidden: tuple[int, ...] = (6, 3)
    """Channels of the hidden layers of the refining network Φ."""
    kernel_size: int = 1
    """Pixels along each side that a layer of Φ looks at; an odd number."""


class VolumeAwarePixelRouter(nn.Module):
    """Logits of the gates from splatted weights: R' = w₂D + Φ(w_dir₂D, w_time₂D, ray) (Eq. 7).

    Φ is one small convolutional network without bias that all experts share. Ray origins are
    counted from the middle of the cameras in units of the scene's extent, so that the router does
    not depend on the scale of the scene.
    """

    scene_center: Float[Tensor, "3"]
    scene_extent: Float[Tensor, ""]

    def __init__(
        self, config: VolumeAwarePixelRouterConfig, scene: SceneInfo, counts: Sequence[int]
    ) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("scene_center", torch.tensor(scene.center, dtype=torch.float32))
        self.register_buffer("scene_extent", torch.tensor(scene.extent, dtype=torch.float32))
        self.weights = nn.ModuleList(
            RowParameters(
                {
                    "w": torch.full((count,), config.initial_weight),
                    "w_dir": torch.zeros(count),
                    "w_time": torch.zeros(count),
                }
            )
            for count in counts
        )
        self.phi = _convolutions((2 + RAY_CHANNELS, *config.hidden, 1), config.kernel_size)

    @property
    def rows(self) -> list[RowParameters]:
        """The per-Gaussian weights of each expert."""
        return cast(list[RowParameters], list(self.weights))

    def parameter_groups(self) -> dict[str, list[Parameter]]:
        """The three groups that the paper gives learning rates to."""
        return {
            "router_weights": [rows[name] for rows in self.rows for name in ("w", "w_dir")],
            "router_time": [rows["w_time"] for rows in self.rows],
            "router_phi": list(self.phi.parameters()),
        }

    def gaussian_features(
        self, expert: int, ids: Int[Tensor, "n"] | None, time: Float[Tensor, ""]
    ) -> Float[Tensor, "n 3"]:
        """What is splatted for each Gaussian of an expert: [w, w_dir, t·w_time] (Eq. 6)."""
        rows = self.rows[expert]
        features = torch.stack([rows["w"], rows["w_dir"], time * rows["w_time"]], dim=-1)
        return features if ids is None else features[ids]

    def forward(
        self,
        splatted: Float[Tensor, "E H W 3"],
        ray_origins: Float[Tensor, "H W 3"],
        ray_directions: Float[Tensor, "H W 3"],
        time: Float[Tensor, ""],
    ) -> Float[Tensor, "E H W 1"]:
        """Logits of the gates (Eq. 7)."""
        w, refined = splatted[..., :1], splatted[..., 1:]
        origins = (ray_origins - self.scene_center) / self.scene_extent
        rays = torch.cat([origins, ray_directions], dim=-1).expand(len(splatted), -1, -1, -1)
        inputs = torch.cat([refined, rays], dim=-1).permute(0, 3, 1, 2)
        return w + self.phi(inputs).permute(0, 2, 3, 1)


def _convolutions(channels: Sequence[int], kernel_size: int) -> nn.Sequential:
    """Convolutions without bias that keep the image's size, with ReLU between them."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(channels):
        layers += [nn.ReLU()] if layers else []
        layers.append(nn.Conv2d(before, after, kernel_size, padding=kernel_size // 2, bias=False))
    return nn.Sequential(*layers)
