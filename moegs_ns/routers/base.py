"""The interface of routers: weights per Gaussian and a network that turns them into gates."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import pairwise
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from nerfstudio.configs.base_config import InstantiateConfig
from torch import Tensor, nn
from torch.nn import Parameter

from moegs_ns.scene import SceneInfo
from moegs_ns.training.gaussian_params import GaussianParams

RAY_CHANNELS = 6
"""A ray's origin and unit direction."""


@dataclass
class RouterConfig(InstantiateConfig):
    """Shape of a router."""

    _target: type = field(default_factory=lambda: Router)

    def check(self) -> None:
        """Raise ValueError for values out of range."""


class Router(nn.Module):
    """Weights of all Gaussians and a network Φ that all experts share.

    Ray origins are relative to the cameras' centre in units of the scene's extent, so that a router
    does not depend on the scale of the scene.
    """

    scene_center: Float[Tensor, "3"]
    scene_extent: Float[Tensor, ""]

    def __init__(
        self, scene: SceneInfo, counts: Sequence[int], initial_weights: dict[str, float]
    ) -> None:
        super().__init__()
        self.register_buffer("scene_center", torch.tensor(scene.center, dtype=torch.float32))
        self.register_buffer("scene_extent", torch.tensor(scene.extent, dtype=torch.float32))
        self.initial_weights = dict(initial_weights)
        """Initial value of every weight of a Gaussian, by name."""
        self.weights = nn.ModuleList(
            GaussianParams(
                {name: torch.full((count,), value) for name, value in initial_weights.items()}
            )
            for count in counts
        )
        self.phi = nn.Sequential()

    @property
    def gaussian_weights(self) -> list[GaussianParams]:
        """The per-Gaussian weights of each expert; without entries if the router has none."""
        return cast(list[GaussianParams], list(self.weights))

    @property
    def has_weights(self) -> bool:
        """Whether Gaussians have weights that gates depend on."""
        return len(self.initial_weights) > 0

    def parameter_groups(self) -> dict[str, list[Parameter]]:
        """The groups that the paper gives learning rates to; empty ones are left out."""
        groups: dict[str, list[Parameter]] = {"router_weights": [], "router_time": []}
        for weights in self.gaussian_weights:
            for name, parameter in weights.items():
                groups["router_time" if name == "w_time" else "router_weights"].append(parameter)
        groups["router_phi"] = list(self.phi.parameters())
        return {name: parameters for name, parameters in groups.items() if parameters}

    def gaussian_features(
        self, expert: int, ids: Int[Tensor, "n"] | None, time: Float[Tensor, ""]
    ) -> Float[Tensor, "n F"]:
        """Features of an expert's Gaussians to render: [w, w_dir, t·w_time] (Eq. 6) or fewer."""
        weights = self.gaussian_weights[expert]
        channels = [time * weights[name] if name == "w_time" else weights[name] for name in weights]
        features = torch.stack(channels, dim=-1)
        return features if ids is None else features[ids]

    def select(self, keep: Sequence[Bool[Tensor, "_"]]) -> "Router":
        """A copy for experts that have only the marked Gaussians."""
        copy = deepcopy(self)
        for weights, mask in zip(copy.gaussian_weights, keep, strict=True):
            weights.select_(mask)
        return copy

    def normalized(self, ray_origins: Float[Tensor, "*s 3"]) -> Float[Tensor, "*s 3"]:
        """Ray origins relative to the cameras' centre in units of the scene's extent."""
        return (ray_origins - self.scene_center) / self.scene_extent


def layers(
    widths: Sequence[int], layer: Callable[[int, int], nn.Module], *, zero_output: bool = False
) -> nn.Sequential:
    """Layers from one width to the next with ReLU between them; the last may start at zero."""
    pairs = [(layer(before, after), nn.ReLU()) for before, after in pairwise(widths)]
    modules = [module for pair in pairs for module in pair][:-1]
    if zero_output:
        for parameter in modules[-1].parameters():
            nn.init.zeros_(parameter)
    return nn.Sequential(*modules)
