"""Routers: per-Gaussian weights, pixels and rays become the logits of gates.

The Volume-aware Pixel Router is that of MoE-GS; the Pixel Router and the Volume Router are those
that the paper compares with (Table 4).
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, cast

import torch
import tyro
from jaxtyping import Bool, Float, Int
from nerfstudio.configs.base_config import InstantiateConfig
from torch import Tensor, nn
from torch.nn import Parameter

from moegs_ns.gaussians import GaussianParams
from moegs_ns.scene import SceneInfo

RAY_CHANNELS = 6
"""A ray's origin and unit direction."""
EVIDENCE = ("error", "coverage", "unseen", "size")
"""What is measured of every Gaussian on training images; see `mixture.evidence`."""
MIN_OPACITY = 1e-3
"""Accumulated opacity below which a pixel shows next to no evidence."""


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

    @property
    def has_pointwise_phi(self) -> bool:
        """Whether logits are w plus a Φ of 1x1 layers, corrected or not."""
        return False

    @property
    def fitted_correction(self) -> "LogitCorrection | None":
        """What replaces the logits, if anything does."""
        return None

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
    stacked: tyro.conf.Suppress[bool] = False
    """Whether logits are corrected at the end; set where --stacking-cameras asks for it."""

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
        self.correction = LogitCorrection(counts) if config.stacked else None

    def gaussian_features(
        self, expert: int, ids: Int[Tensor, "n"] | None, time: Float[Tensor, ""]
    ) -> Float[Tensor, "n F"]:
        """See base; with the evidence behind the weights where logits are corrected."""
        weights = super().gaussian_features(expert, ids, time)
        if self.fitted_correction is None:
            return weights
        own = self.fitted_correction.gaussian_features(expert, ids)
        return torch.cat([weights, own], dim=-1)

    @property
    def has_pointwise_phi(self) -> bool:
        """See base."""
        return self.config.refine and self.config.kernel_size == 1

    @property
    def fitted_correction(self) -> "LogitCorrection | None":
        """See base. Training, also one that goes on with such a router, is without the correction:
        it would learn from fitted images to undo it."""
        is_fitted = self.correction is not None and self.correction.is_fitted
        return self.correction if is_fitted and not self.training else None

    def select(self, keep: Sequence[Bool[Tensor, "_"]]) -> "Router":
        """See base."""
        copy = super().select(keep)
        if self.correction is not None:
            cast(VolumeAwarePixelRouter, copy).correction = self.correction.select(keep)
        return copy

    def forward(
        self,
        features: Float[Tensor, "E H W F"],
        ray_origins: Float[Tensor, "H W 3"],
        ray_directions: Float[Tensor, "H W 3"],
        time: Float[Tensor, ""],
    ) -> Float[Tensor, "E H W 1"]:
        """Logits of the gates (Eq. 7), corrected if that was learned."""
        count = len(self.initial_weights)
        logits = self.router_logits(features[..., :count], ray_origins, ray_directions)
        if self.fitted_correction is None:
            return logits
        return self.fitted_correction(logits, features[..., count:])

    def router_logits(
        self,
        features: Float[Tensor, "E H W F"],
        ray_origins: Float[Tensor, "H W 3"],
        ray_directions: Float[Tensor, "H W 3"],
    ) -> Float[Tensor, "E H W 1"]:
        """Logits of the gates as training has them (Eq. 7)."""
        w, refined = features[..., :1], features[..., 1:]
        if not self.config.refine:
            return w
        rays = torch.cat([self.normalized(ray_origins), ray_directions], dim=-1)
        rays = rays.expand(len(features), -1, -1, -1)
        inputs = torch.cat([refined, rays], dim=-1).permute(0, 3, 1, 2)
        return w + self.phi(inputs).permute(0, 2, 3, 1)


class LogitCorrection(nn.Module):
    """Replaces logits by a linear function of them and of what was measured of the Gaussians.

    Each expert has a bias, and the logit, the accumulated opacity and the evidence that is seen at
    the pixel have slopes that all experts share. They are fitted, not trained; see
    `mixture.stacking`.
    """

    bias: Float[Tensor, "E"]
    slopes: Float[Tensor, "C"]

    def __init__(self, counts: Sequence[int]) -> None:
        super().__init__()
        self.evidence = nn.ModuleList(
            GaussianParams({name: torch.zeros(count) for name in EVIDENCE}) for count in counts
        )
        self.requires_grad_(False)
        # Without entries until they are fitted.
        self.register_buffer("bias", torch.zeros(0))
        self.register_buffer("slopes", torch.zeros(0))

    @property
    def is_fitted(self) -> bool:
        """Whether logits are changed."""
        return len(self.bias) > 0

    def set_(
        self,
        evidence: Sequence[dict[str, Float[Tensor, "_"]]],
        bias: Float[Tensor, "E"],
        slopes: Float[Tensor, "C"],
    ) -> None:
        """Correct logits from now on."""
        for own, measured in zip(self._params, evidence, strict=True):
            for name in EVIDENCE:
                own[name].data = measured[name].to(own[name])
        self.bias, self.slopes = bias.to(self.bias), slopes.to(self.slopes)

    def select(self, keep: Sequence[Bool[Tensor, "_"]]) -> "LogitCorrection":
        """A copy for experts that have only the marked Gaussians."""
        copy = deepcopy(self)
        for evidence, mask in zip(copy._params, keep, strict=True):
            evidence.select_(mask)
        return copy

    def gaussian_features(self, expert: int, ids: Int[Tensor, "n"] | None) -> Float[Tensor, "n F"]:
        """Ones, which accumulate to the opacity, and the evidence of an expert's Gaussians."""
        return evidence_features(self._params[expert], ids)

    def forward(
        self, logits: Float[Tensor, "E H W 1"], rendered: Float[Tensor, "E H W F"]
    ) -> Float[Tensor, "E H W 1"]:
        """The corrected logits, from those of the router and the rasterised `gaussian_features`."""
        columns = correction_columns(logits, rendered).flatten(1, 2)
        return corrected_logits(columns, self.bias, self.slopes).view_as(logits)

    @property
    def _params(self) -> list[GaussianParams]:
        return cast(list[GaussianParams], list(self.evidence))

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        for name, value in (("bias", self.bias), ("slopes", self.slopes)):
            setattr(self, name, value.new_zeros(state_dict[prefix + name].shape))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def evidence_features(
    evidence: Mapping[str, Float[Tensor, "N"]] | GaussianParams, ids: Int[Tensor, "n"] | None
) -> Float[Tensor, "n F"]:
    """Channels to rasterise: ones, which accumulate to the opacity, and the evidence."""
    columns = [evidence[name] for name in EVIDENCE]
    features = torch.stack([torch.ones_like(columns[0]), *columns], dim=-1)
    return features if ids is None else features[ids]


def corrected_logits(
    columns: Float[Tensor, "E P C"], bias: Float[Tensor, "E"], slopes: Float[Tensor, "C"]
) -> Float[Tensor, "E P"]:
    """Logits that are linear in `correction_columns`, with a bias for each expert."""
    return columns @ slopes + bias[:, None]


def correction_columns(
    logits: Float[Tensor, "E H W 1"], rendered: Float[Tensor, "E H W F"]
) -> Float[Tensor, "E H W C"]:
    """What corrected logits are linear in: the logit, the accumulated opacity, and the mean
    evidence of the Gaussians that are seen, from rasterised `evidence_features`."""
    opacity = rendered[..., :1]
    return torch.cat([logits, opacity, rendered[..., 1:] / opacity.clamp(min=MIN_OPACITY)], dim=-1)


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
