"""Spacetime Gaussians (Li et al., CVPR 2024): polynomial motion, temporal opacity, colours."""

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from moegs_ns.experts.base import Expert, ExpertConfig
from moegs_ns.gaussians import GaussianParams, Gaussians
from moegs_ns.scene import InitialPoints, SceneInfo
from moegs_ns.seeds import run_seed

HEADS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "clamp": lambda rgb: rgb.clamp(0.0, 1.0),
    "linear": lambda rgb: rgb,
}
"""What follows the decoder; published as sigmoid for N3V, clamp for Technicolor, linear else."""


class LiteColor(nn.Module):
    """One RGB per Gaussian, the same from everywhere and not bounded while it is trained."""

    @staticmethod
    def initial_parameters(rgb: Float[Tensor, "N 3"]) -> dict[str, Tensor]:
        """Raw parameters of Gaussians that begin with these colours."""
        return {"base_rgb": rgb.clone()}

    def features(self, raw: GaussianParams, dt: Float[Tensor, "N 1"]) -> Float[Tensor, "N D"]:
        """What is rendered of the Gaussians, at a time as far as `dt` from their centres."""
        return raw["base_rgb"]

    def forward(
        self, features: Float[Tensor, "*s D"], rays: Float[Tensor, "*s 6"]
    ) -> Float[Tensor, "*s 3"]:
        """Final colour from rendered features and the pixel's ray (origin, direction)."""
        return features


class FeatureColor(LiteColor):
    """Nine rendered features per Gaussian, decoded per pixel by a network of 90 weights.

    The published decoder sees ray origins in world units. Here they are counted from the middle of
    the cameras in scene extents (which the expert does), so that scale does not matter.
    """

    def __init__(self, head: str) -> None:
        super().__init__()
        self.head = HEADS[head]
        self.decoder = nn.Sequential(
            nn.Linear(12, 6, bias=False), nn.ReLU(), nn.Linear(6, 3, bias=False)
        )

    @staticmethod
    def initial_parameters(rgb: Float[Tensor, "N 3"]) -> dict[str, Tensor]:
        """See `LiteColor`; base colour and view features both begin as the point's colour."""
        return {
            "base_rgb": rgb.clone(),
            "view_features": rgb.clone(),
            "time_features": torch.zeros_like(rgb),
        }

    def features(self, raw: GaussianParams, dt: Float[Tensor, "N 1"]) -> Float[Tensor, "N D"]:
        """Base colour, view features, and time features that grow with the distance in time."""
        return torch.cat([raw["base_rgb"], raw["view_features"], dt * raw["time_features"]], dim=1)

    def forward(
        self, features: Float[Tensor, "*s D"], rays: Float[Tensor, "*s 6"]
    ) -> Float[Tensor, "*s 3"]:
        """See `LiteColor`; base colour plus what the decoder makes of the rest and the ray."""
        base, rest = features.split([3, 6], dim=-1)
        return self.head(base + self.decoder(torch.cat([rest, rays], dim=-1)))


FRAMES_PER_UNIT = 50
"""The published rates and widths count time in clips of 50 frames."""


@dataclass
class STGExpertConfig(ExpertConfig):
    """Shape of a Spacetime Gaussian expert."""

    _target: type = field(default_factory=lambda: STGExpert)
    initial_time_log_scale: float = 0.0
    """Log of the initial temporal width, in clip lengths; 0 is almost flat over the clip."""
    color: Literal["sh", "lite", "full"] = "sh"
    """Spherical harmonics (as in MoE-GS), plain RGB (the published lite model), or nine features
    that a small network decodes per pixel (the published full model)."""
    head: Literal["sigmoid", "clamp", "linear"] = "clamp"
    """Last step of the full model; published as sigmoid for N3V, clamp for Technicolor."""


class STGExpert(Expert):
    """Cubic motion, linear rotation and Gaussian opacity about each Gaussian's own centre in time.

    Time is counted in units of 50 frames (or of the clip, where that is shorter), so that the
    published learning rates keep their meaning for any length of clip.
    """

    config: STGExpertConfig

    def __init__(
        self, config: STGExpertConfig, scene: SceneInfo, points: InitialPoints | None = None
    ) -> None:
        super().__init__(config, scene, points)
        is_seeded = points is not None and bool(points.is_moving.any())
        self.seed_width = points.time_gap * self.duration if points and is_seeded else 0.0
        """Initial temporal width of moving seeds, in the family's unit; 0 without any."""
        self.color: LiteColor | None = None
        """What replaces spherical harmonics, if anything does."""
        if config.color != "sh":
            self.color = LiteColor() if config.color == "lite" else FeatureColor(config.head)

    @property
    def duration(self) -> float:
        """Length of the clip in the unit of time that this family counts in."""
        return max(1.0, (self.scene.num_frames - 1) / FRAMES_PER_UNIT)

    @property
    def has_shading(self) -> bool:
        """Whether `shade` changes colours."""
        return self.color is not None

    def initial_parameters(self, points: InitialPoints, scene: SceneInfo) -> dict[str, Tensor]:
        """See base; a point's centre in time is its frame, or else drawn over the clip.

        A moving seed has its own time and velocity, and is seen about as long as the next seeds are
        away.
        """
        count = len(points)
        if points.frames is None:
            centers = torch.rand(count, generator=torch.Generator().manual_seed(run_seed()))
        else:
            centers = points.frames.float() / max(1, scene.num_frames - 1)
        width = self.config.initial_time_log_scale + math.log(self.duration)
        motion, widths = torch.zeros(count, 9), torch.full((count,), width)
        if points.times is not None:
            centers = torch.where(points.is_moving, points.times, centers)
            motion[:, :3] = points.clip_velocities(scene) / self.duration
            widths[points.is_moving] = math.log(points.time_gap * self.duration)
        return super().initial_parameters(points, scene) | {
            "motion": motion,
            "angular_rates": torch.zeros(count, 4),
            "time_centers": centers * self.duration,
            "time_log_scales": widths,
        }

    def initial_colors(self, points: InitialPoints) -> dict[str, Tensor]:
        if self.config.color == "sh":
            return super().initial_colors(points)
        kind = LiteColor if self.config.color == "lite" else FeatureColor
        return kind.initial_parameters(points.rgb.float())

    def at(self, time: Float[Tensor, ""], camera: Int[Tensor, ""] | None = None) -> Gaussians:
        """See base. The centre in time learns through opacity only, as published."""
        raw = self.gauss_params
        opacity = raw["opacities"].sigmoid() * self.visibility(time)
        dt = (time * self.duration - raw["time_centers"].detach())[:, None]
        linear, quadratic, cubic = raw["motion"].split(3, dim=1)
        return Gaussians(
            means=raw["means"] + dt * (linear + dt * (quadratic + dt * cubic)),
            quats=torch.nn.functional.normalize(raw["quats"] + raw["angular_rates"] * dt, dim=-1),
            scales=raw["scales"].exp(),
            opacities=opacity,
            sh=raw["means"].new_zeros(len(dt), 1, 3) if self.color else self.active_sh(),
            features=self.color.features(raw, dt) if self.color else None,
        )

    def visibility(self, time: Float[Tensor, ""]) -> Float[Tensor, "N"]:
        """See base; a bell about the centre in time."""
        raw = self.gauss_params
        dt = time * self.duration - raw["time_centers"]
        return torch.exp(-((dt / raw["time_log_scales"].exp()) ** 2))

    def life_spans(self) -> Float[Tensor, "N"]:
        widths = self.gauss_params["time_log_scales"].exp()
        return (math.sqrt(math.pi) * widths / self.duration).clamp(max=1.0)

    @property
    def graph_key(self) -> Hashable | None:
        return self.active_sh_degree

    def shade(
        self,
        rgb: Float[Tensor, "*s 3"],
        features: Float[Tensor, "*s D"],
        ray_origins: Float[Tensor, "*s 3"],
        ray_directions: Float[Tensor, "*s 3"],
    ) -> Float[Tensor, "*s 3"]:
        """See base; origins are handed on in scene extents from the middle of the cameras."""
        origins = (ray_origins - self.scene_center) / self.scene_extent
        rays = torch.cat([origins, ray_directions], dim=-1)
        return self.color(features, rays) if self.color else rgb
