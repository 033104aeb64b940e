"""The colours of Spacetime Gaussians (Li et al., CVPR 2024): harmonics, plain RGB, or features."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from moegs_ns.scene import InitialPoints
from moegs_ns.splatting.spherical_harmonics import sh_from_rgb
from moegs_ns.training.gaussian_params import GaussianParams

HEADS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "clamp": lambda rgb: rgb.clamp(0.0, 1.0),
    "linear": lambda rgb: rgb,
}
"""What follows the decoder; published as sigmoid for N3V, clamp for Technicolor, linear else."""
BASE, VIEW = slice(0, 3), slice(3, 6)
"""Base colour and view features among the rendered features; time features follow."""


class HarmonicColor(nn.Module):
    """Spherical harmonics, as MoE-GS gives them to this family."""

    has_shading = False

    @staticmethod
    def initial_parameters(points: InitialPoints, sh_degree: int) -> dict[str, Tensor]:
        """Raw parameters of the colours of all points."""
        sh = sh_from_rgb(points.rgb, sh_degree)
        return {"sh0": sh[:, :1].contiguous(), "shN": sh[:, 1:].contiguous()}

    def features(
        self, raw: GaussianParams, dt: Float[Tensor, "N 1"]
    ) -> Float[Tensor, "N D"] | None:
        """Channels that are rendered beside the harmonics; here none."""
        return None

    def shade(
        self,
        rgb: Float[Tensor, "*s 3"],
        features: Float[Tensor, "*s D"],
        ray_origins: Float[Tensor, "*s 3"],
        ray_directions: Float[Tensor, "*s 3"],
    ) -> Float[Tensor, "*s 3"]:
        """Final colour from rendered channels."""
        return rgb


class LiteColor(HarmonicColor):
    """One RGB per Gaussian, the same from everywhere and not bounded while it is trained."""

    has_shading = True

    @staticmethod
    def initial_parameters(points: InitialPoints, sh_degree: int) -> dict[str, Tensor]:
        return {"base_rgb": points.rgb.float().clone()}

    def features(
        self, raw: GaussianParams, dt: Float[Tensor, "N 1"]
    ) -> Float[Tensor, "N D"] | None:
        """The colour itself."""
        return raw["base_rgb"]

    def shade(
        self,
        rgb: Float[Tensor, "*s 3"],
        features: Float[Tensor, "*s D"],
        ray_origins: Float[Tensor, "*s 3"],
        ray_directions: Float[Tensor, "*s 3"],
    ) -> Float[Tensor, "*s 3"]:
        """See `HarmonicColor`; the rendered colour as it is."""
        return features


class FeatureColor(HarmonicColor):
    """Nine rendered features per Gaussian, decoded per pixel by a network of 90 weights.

    The published decoder sees ray origins in world units. Here they are counted from the middle of
    the cameras in scene extents (which the expert does), so that scale does not matter.
    """

    has_shading = True

    def __init__(self, head: str) -> None:
        super().__init__()
        self.head = HEADS[head]
        self.decoder = nn.Sequential(
            nn.Linear(12, 6, bias=False), nn.ReLU(), nn.Linear(6, 3, bias=False)
        )

    @staticmethod
    def initial_parameters(points: InitialPoints, sh_degree: int) -> dict[str, Tensor]:
        """See `HarmonicColor`; base colour and view features both begin as the point's colour."""
        rgb = points.rgb.float()
        return {
            "base_rgb": rgb.clone(),
            "view_features": rgb.clone(),
            "time_features": torch.zeros(len(points), 3),
        }

    def features(
        self, raw: GaussianParams, dt: Float[Tensor, "N 1"]
    ) -> Float[Tensor, "N D"] | None:
        """Base colour, view features, and time features that grow with the distance in time."""
        return torch.cat([raw["base_rgb"], raw["view_features"], dt * raw["time_features"]], dim=1)

    def shade(
        self,
        rgb: Float[Tensor, "*s 3"],
        features: Float[Tensor, "*s D"],
        ray_origins: Float[Tensor, "*s 3"],
        ray_directions: Float[Tensor, "*s 3"],
    ) -> Float[Tensor, "*s 3"]:
        """See `HarmonicColor`; base colour plus what the decoder makes of features and ray."""
        rest = features[..., VIEW.start :]
        residual = self.decoder(torch.cat([rest, ray_origins, ray_directions], dim=-1))
        return self.head(features[..., BASE] + residual)


COLORS: dict[str, type[HarmonicColor]] = {
    "sh": HarmonicColor,
    "lite": LiteColor,
    "full": FeatureColor,
}
"""Colours by the name that the configuration uses."""


def make_color(name: str, head: str) -> HarmonicColor:
    """The colour called `name`; only the full one has a head."""
    kind = COLORS[name]
    return kind(head) if issubclass(kind, FeatureColor) else kind()
