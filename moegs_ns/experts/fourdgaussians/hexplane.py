"""The HexPlane field of 4DGaussians: feature planes over (x, y, z, t) at several resolutions."""

from collections.abc import Sequence
from functools import cache
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.functional import grid_sample

SPACE_AXES = (0, 1, 0, 2, 1, 2)
"""Axes (column, row) of the spatial planes xy, xz, yz; the time planes are xt, yt, zt."""
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

    def read_space(self, grid: Float[Tensor, "3 N 1 2"]) -> Float[Tensor, "3 C N"]:
        """Features of the spatial planes, interpolated at `space_grid`."""
        return _read(self.space, grid)

    def read_time(
        self, grid: Float[Tensor, "3 N 1 2"], time: Float[Tensor, ""]
    ) -> Float[Tensor, "3 C N"]:
        """Features of the time planes, interpolated at `axis_grid` and a time in [-1, 1].

        All points share the time: planes are cut along it first, which leaves lines to read.
        """
        last = self.time.shape[2] - 1
        row = (0.5 * last * (time + 1.0)).clamp(0.0, last)
        lower = row.detach().floor().long()
        rows = torch.stack([lower, (lower + 1).clamp(max=last)])
        before, after = self.time.index_select(2, rows).split(1, dim=2)
        return _read(torch.lerp(before, after, row - lower), grid)


def _read(
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

        A time's features are the products of what the six planes of a level hold, stored feature by
        feature, as matrix products take it too. The spatial planes are read once for all times.
        """
        along_planes, along_lines = space_grid(position), axis_grid(position)
        of_space = [level.read_space(along_planes) for level in self.levels]
        features = []
        for time in times:
            products = []
            for space, level in zip(of_space, self.levels, strict=True):
                first, second, third = (space * level.read_time(along_lines, time)).unbind(0)
                products.append(first * second * third)
            features.append(torch.cat(products, dim=0).T)
        return features

    @property
    def levels(self) -> list[HexPlaneLevel]:
        """The planes, from coarse to fine."""
        return cast(list[HexPlaneLevel], list(self))


def space_grid(position: Float[Tensor, "N 3"]) -> Float[Tensor, "3 N 1 2"]:
    """Where each spatial plane is read: (column, row) of every point, in [-1, 1]."""
    pairs = position.T.index_select(0, _space_axes(position.device)).unflatten(0, (3, 2))
    return pairs.transpose(1, 2)[:, :, None]


def axis_grid(position: Float[Tensor, "N 3"]) -> Float[Tensor, "3 N 1 2"]:
    """Where a line along each axis is read: (column, 0) of every point, in [-1, 1]."""
    return torch.stack([position.T, torch.zeros_like(position.T)], dim=-1)[:, :, None]


@cache
@torch.inference_mode(
    False
)  # Cached tensors must allow gradients whatever the mode of the first call.
def _space_axes(device: torch.device) -> Int[Tensor, "6"]:
    """Cached on the device, since a copy would take as long as its use."""
    return torch.tensor(SPACE_AXES, device=device)
