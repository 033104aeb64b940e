"""4DGaussians (Wu et al., CVPR 2024): canonical Gaussians deformed by a HexPlane field."""

import os
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.functional import grid_sample

from moegs_ns.experts.base import Expert
from moegs_ns.experts.deformation_heads import (
    Decoder,
    DeformationHeads,
    DeformedExpertConfig,
    decoded,
    deformed,
)
from moegs_ns.experts.fourdgaussians.fused_planes import SWITCH, fused_read, kernels
from moegs_ns.gaussians import Gaussians
from moegs_ns.scene import InitialPoints, SceneInfo

INITIAL_RANGE = (0.1, 0.5)
"""Spatial planes begin uniform in this range, time planes at one, where nothing changes over
time."""


class HexPlaneLevel(nn.Module):
    """Six planes of one resolution, whose features are multiplied.

    The three spatial planes are one parameter and the three time planes another, so that each trio
    is read in one call.
    """

    def __init__(self, channels: int, space_cells: int, time_cells: int) -> None:
        super().__init__()
        space = torch.empty(3, channels, space_cells, space_cells).uniform_(*INITIAL_RANGE)
        self.space = Parameter(space)
        self.time = Parameter(torch.ones(3, channels, time_cells, space_cells))

    def lines(self, time: Float[Tensor, ""]) -> Float[Tensor, "3 C cells"]:
        """The time planes interpolated at a time in [-1, 1], which all points share."""
        last = self.time.shape[2] - 1
        row = (0.5 * last * (time + 1.0)).clamp(0.0, last)
        lower = row.detach().floor().long()
        rows = torch.stack([lower, (lower + 1).clamp(max=last)])
        before, after = self.time.index_select(2, rows).unbind(2)
        return torch.lerp(before, after, row - lower)


def read(
    planes: Float[Tensor, "3 C rows columns"], grid: Float[Tensor, "3 N 1 2"]
) -> Float[Tensor, "3 C N"]:
    """Bilinear interpolation; outside of the planes their border."""
    return grid_sample(planes, grid, align_corners=True, padding_mode="border").squeeze(-1)


class HexPlaneField(nn.ModuleList):
    """Levels of planes, side by side in the features."""

    def __init__(
        self, channels: int, space_cells: int, levels: Sequence[int], time_cells: int
    ) -> None:
        super().__init__(
            HexPlaneLevel(channels, space_cells * level, time_cells) for level in levels
        )

    def forward(
        self, position: Float[Tensor, "N 3"], times: Sequence[Float[Tensor, ""]]
    ) -> list[Float[Tensor, "N F"]]:
        """Features at positions and times in [-1, 1]; outside of the planes those of the border.

        A time's features are the products of what the six planes of a level hold.
        """
        lines = [torch.stack([level.lines(time) for time in times]) for level in self.levels]
        if not self.is_fusible(position):
            return self.plain(position, lines)
        products = [
            fused_read(position, level.space, own)
            for level, own in zip(self.levels, lines, strict=True)
        ]
        return list(torch.cat(products, dim=-1).unbind(0))

    def is_fusible(self, position: Float[Tensor, "N 3"]) -> bool:
        """Whether the kernels read the planes: if asked to, and if the features fill a block."""
        planes = self.levels[0].space
        return (
            os.environ.get(SWITCH) == "1"
            and kernels() is not None
            and position.dtype == planes.dtype == torch.float32
            and planes.shape[1].bit_count() == 1
        )

    def plain(
        self, position: Float[Tensor, "N 3"], lines: Sequence[Float[Tensor, "T 3 C _"]]
    ) -> list[Float[Tensor, "N F"]]:
        """`forward` in plain torch, from the levels' `lines` at the times.

        Features are stored feature by feature, as matrix products take them too. The spatial planes
        are read once for all times.
        """
        along_planes, along_lines = space_grid(position), axis_grid(position)
        of_space = [read(level.space, along_planes) for level in self.levels]
        features = []
        for at_time in zip(*lines, strict=True):
            products = []
            for space, line in zip(of_space, at_time, strict=True):
                first, second, third = (space * read(line[:, :, None], along_lines)).unbind(0)
                products.append(first * second * third)
            features.append(torch.cat(products, dim=0).T)
        return features

    @property
    def levels(self) -> list[HexPlaneLevel]:
        """The planes, from coarse to fine."""
        return cast(list[HexPlaneLevel], list(self))


def space_grid(position: Float[Tensor, "N 3"]) -> Float[Tensor, "3 N 1 2"]:
    """Where each spatial plane (xy, xz, yz) is read: (column, row) of every point, in [-1, 1]."""
    x, y, z = position.unbind(-1)
    pairs = torch.stack([x, y, x, z, y, z]).unflatten(0, (3, 2))
    return pairs.transpose(1, 2)[:, :, None]


def axis_grid(position: Float[Tensor, "N 3"]) -> Float[Tensor, "3 N 1 2"]:
    """Where a line along each axis is read: (column, 0) of every point, in [-1, 1]."""
    return torch.stack([position.T, torch.zeros_like(position.T)], dim=-1)[:, :, None]


@dataclass
class HexPlaneExpertConfig(DeformedExpertConfig):
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
        aabb = torch.zeros(2, 3)
        if points is not None and len(points):
            aabb = torch.stack([points.xyz.amin(0), points.xyz.amax(0)]).float()
        self.register_buffer("aabb", aabb)
        """Smallest and largest corner of the initial cloud, with moving seeds of all times, so that
        it holds where they get; zeros without one."""
        time_cells = config.time_resolution or max(2, scene.num_frames // 2)
        self.planes = HexPlaneField(
            config.channels, config.space_resolution, config.levels, time_cells
        )
        self.decoder = DeformationDecoder(config)

    def initial_parameters(self, points: InitialPoints, scene: SceneInfo) -> dict[str, Tensor]:
        """See base. Of moving seeds those of the first time are taken: canonical Gaussians are seen
        at all times, so copies would be, too."""
        return super().initial_parameters(points.of_first_time(), scene)

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


class DeformationDecoder(nn.Module):
    """One linear trunk and one small head per deformed attribute."""

    def __init__(self, config: HexPlaneExpertConfig) -> None:
        super().__init__()
        self.trunk = nn.Linear(config.channels * len(config.levels), config.width)
        self.heads = DeformationHeads(config)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)

    def forward(self, features: Float[Tensor, "N F"]) -> dict[str, Float[Tensor, "N _"]]:
        """Offsets by name of the raw parameter."""
        return decoded(features, [Decoder(self.trunk.weight, self.trunk.bias, self.heads)])
