"""What every router offers: weights per Gaussian, and networks that turn them into gates."""

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
        """Raise ValueError for numbers that make no router."""


class Router(nn.Module):
    """Weights of all Gaussians and a network Φ that all experts share.

    Ray origins are counted from the middle of the cameras in units of the scene's extent, so that a
    router does not depend on the scale of the scene.
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
        """First value of every weight of a Gaussian."""
        self.weights = nn.ModuleList(
            GaussianParams(
                {name: torch.full((count,), value) for name, value in initial_weights.items()}
            )
            for count in counts
        )
        self.phi = nn.Sequential()

    @property
    def rows(self) -> list[GaussianParams]:
        """The per-Gaussian weights of each expert; without entries if the router has none."""
        return cast(list[GaussianParams], list(self.weights))

    @property
    def has_weights(self) -> bool:
        """Whether Gaussians have weights that gates depend on."""
        return any(len(rows) > 0 for rows in self.rows)

    def parameter_groups(self) -> dict[str, list[Parameter]]:
        """The groups that the paper gives learning rates to; empty ones are left out."""
        groups = {
            "router_weights": self._weights_named("w", "w_dir"),
            "router_time": self._weights_named("w_time"),
            "router_phi": list(self.phi.parameters()),
        }
        return {name: parameters for name, parameters in groups.items() if parameters}

    def _weights_named(self, *names: str) -> list[Parameter]:
        return [rows[name] for rows in self.rows for name in names if name in rows]

    def gaussian_features(
        self, expert: int, ids: Int[Tensor, "n"] | None, time: Float[Tensor, ""]
    ) -> Float[Tensor, "n F"]:
        """What each Gaussian of an expert says: those of [w, w_dir, t·w_time] there are (Eq. 6)."""
        rows = self.rows[expert]
        channels = [time * rows[name] if name == "w_time" else rows[name] for name in rows]
        features = torch.stack(channels, dim=-1)
        return features if ids is None else features[ids]

    def select(self, keep: Sequence[Bool[Tensor, "_"]]) -> "Router":
        """A copy for experts that have only the marked Gaussians."""
        copy = deepcopy(self)
        for rows, marked in zip(copy.rows, keep, strict=True):
            rows.select_(marked)
        return copy

    def normalized(self, ray_origins: Float[Tensor, "*s 3"]) -> Float[Tensor, "*s 3"]:
        """Ray origins from the middle of the cameras in units of the scene's extent."""
        return (ray_origins - self.scene_center) / self.scene_extent


def layers(widths: Sequence[int], layer: Callable[[int, int], nn.Module]) -> nn.Sequential:
    """Layers from one width to the next, with ReLU between them."""
    modules: list[nn.Module] = []
    for before, after in pairwise(widths):
        modules += [nn.ReLU()] if modules else []
        modules.append(layer(before, after))
    return nn.Sequential(*modules)
