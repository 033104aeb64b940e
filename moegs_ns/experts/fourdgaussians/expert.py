"""4DGaussians (Wu et al., CVPR 2024): canonical Gaussians deformed by a HexPlane field."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from moegs_ns.experts.base import Expert, ExpertConfig
from moegs_ns.experts.deformation_heads import DeformationHeads, deformed
from moegs_ns.experts.fourdgaussians.hexplane import HexPlaneField
from moegs_ns.gaussians import Gaussians
from moegs_ns.scene import InitialPoints, SceneInfo


@dataclass
class HexPlaneExpertConfig(ExpertConfig):
    """Shape of a 4DGaussians expert; the defaults are those published for multi-view video."""

    _target: type = field(default_factory=lambda: HexPlaneExpert)
    channels: int = 16
    """Features per plane."""
    space_resolution: int = 64
    """Cells along each spatial axis of the coarsest level."""
    levels: tuple[int, ...] = (1, 2)
    """Multipliers of the spatial resolution, one level each."""
    time_resolution: int | None = None
    """Cells along time; None takes half the number of frames, the authors' rule of thumb."""
    full_time_range: bool = False
    """Spread time over the whole planes. As published only their second half is used."""
    width: int = 128
    """Units of the decoder's layers."""
    deform_opacity: bool = True
    """Whether the decoder changes opacity over time."""
    deform_sh: bool = True
    """Whether the decoder changes colour over time."""
    tf32: bool = True
    """Multiply the matrices of the heads in TF32 on a GPU, which is faster."""


class HexPlaneExpert(Expert):
    """Canonical Gaussians plus offsets that a field over (x, y, z, t) decodes, in raw spaces."""

    config: HexPlaneExpertConfig
    aabb: Float[Tensor, "2 3"]

    def __init__(
        self, config: HexPlaneExpertConfig, scene: SceneInfo, points: InitialPoints | None = None
    ) -> None:
        super().__init__(config, scene, points)
        self.is_deforming = False
        """Off in the coarse stage, in which the canonical Gaussians are shown at all times."""
        self.register_buffer("aabb", bounding_box(points))
        time_cells = config.time_resolution or max(2, scene.num_frames // 2)
        self.planes = HexPlaneField(
            config.channels, config.space_resolution, config.levels, time_cells
        )
        self.decoder = DeformationDecoder(config)

    def at(self, time: Float[Tensor, ""], camera: Int[Tensor, ""] | None = None) -> Gaussians:
        return self.at_all([time], [camera])[0]

    def at_all(
        self, times: Sequence[Float[Tensor, ""]], cameras: Sequence[Int[Tensor, ""] | None]
    ) -> list[Gaussians]:
        """See base; the times share canonical Gaussians and features of the spatial planes."""
        if not self.is_deforming:
            return [deformed(self, {})] * len(times)
        features = self.field_features(self.gauss_params["means"], times)
        return [deformed(self, self.decoder(own)) for own in features]

    @property
    def graph_key(self) -> Hashable | None:
        return self.active_sh_degree, self.is_deforming

    def field_features(
        self, means: Float[Tensor, "N 3"], times: Sequence[Float[Tensor, ""]]
    ) -> list[Float[Tensor, "N F"]]:
        """Product over the six planes of a level, levels side by side; clamped to the box. One for
        each of the times."""
        corner, size = self.aabb[0], self.aabb[1] - self.aabb[0]
        position = (2.0 * (means - corner) / size.clamp(min=1e-8) - 1.0).clamp(-1.0, 1.0)
        if self.config.full_time_range:
            times = [2.0 * time - 1.0 for time in times]
        return self.planes(position, times)

    def get_extra_state(self) -> dict[str, Any]:
        return super().get_extra_state() | {"is_deforming": self.is_deforming}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        super().set_extra_state(state)
        self.is_deforming = bool(state["is_deforming"])


def bounding_box(points: InitialPoints | None) -> Float[Tensor, "2 3"]:
    """Smallest and largest corner of the initial cloud; zeros without one."""
    if points is None or len(points) == 0:
        return torch.zeros(2, 3)
    return torch.stack([points.xyz.amin(0), points.xyz.amax(0)]).float()


class DeformationDecoder(nn.Module):
    """One linear trunk and one small head per deformed attribute."""

    def __init__(self, config: HexPlaneExpertConfig) -> None:
        super().__init__()
        self.trunk = nn.Linear(config.channels * len(config.levels), config.width)
        self.heads = DeformationHeads(
            config.width,
            sh_degree=config.sh_degree,
            deform_opacity=config.deform_opacity,
            deform_sh=config.deform_sh,
            tf32=config.tf32,
        )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)

    def forward(self, features: Float[Tensor, "N F"]) -> dict[str, Float[Tensor, "N _"]]:
        """Offsets by name of the raw parameter."""
        return self.heads(self.trunk(features))
