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

    def forward(
        self, space_grid: Float[Tensor, "3 N 1 2"], time_grid: Float[Tensor, "3 N 1 2"]
    ) -> Float[Tensor, "C N"]:
        """Product of the six features, interpolated at `plane_grids`."""
        space = grid_sample(self.space, space_grid, align_corners=True, padding_mode="border")
        time = grid_sample(self.time, time_grid, align_corners=True, padding_mode="border")
        first, second, third = (space * time).squeeze(-1).unbind(0)
        return first * second * third


class HexPlaneField(nn.ModuleList):
    """Levels of planes, side by side in the features."""

    def __init__(
        self, channels: int, space_cells: int, levels: Sequence[int], time_cells: int
    ) -> None:
        super().__init__(
            HexPlaneLevel(channels, space_cells * level, time_cells) for level in levels
        )

    def forward(
        self, position: Float[Tensor, "N 3"], time: Float[Tensor, ""]
    ) -> Float[Tensor, "N F"]:
        """Features at positions and a time in [-1, 1]; outside of the planes those of the border.

        The result is stored feature by feature, as matrix products take it too.
        """
        grids = plane_grids(position, time)
        return torch.cat([level(*grids) for level in self.levels], dim=0).T

    @property
    def levels(self) -> list[HexPlaneLevel]:
        """The planes, from coarse to fine."""
        return cast(list[HexPlaneLevel], list(self))


def plane_grids(
    position: Float[Tensor, "N 3"], time: Float[Tensor, ""]
) -> tuple[Float[Tensor, "3 N 1 2"], Float[Tensor, "3 N 1 2"]]:
    """Where each spatial and each time plane is read: (column, row) of every point, in [-1, 1]."""
    axes = position.T
    pairs = axes.index_select(0, _space_axes(position.device)).unflatten(0, (3, 2))
    with_time = torch.stack([axes, time.expand_as(axes)], dim=1)
    return pairs.transpose(1, 2)[:, :, None], with_time.transpose(1, 2)[:, :, None]


@cache
@torch.inference_mode(False)  # Whoever asks first, gradients must be able to pass later.
def _space_axes(device: torch.device) -> Int[Tensor, "6"]:
    """Kept on the device, since a copy would take as long as what it is needed for."""
    return torch.tensor(SPACE_AXES, device=device)
