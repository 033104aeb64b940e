"""Median depth from lists of the Gaussians that are drawn in each pixel, in plain torch."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from moegs_ns.splatting.projection import MEDIAN_TRANSMITTANCE, Projection, alphas_at


class MedianWalk:
    """Walks near to far through the Gaussians of every pixel of an image, list after list.

    All pixels take a step at once, and those that have lost half of their light stay behind. The
    products are those of the rasterisers, factor by factor, so no precision is lost to logarithms
    or long sums, and memory goes with the number of pixels, not of hits.
    """

    def __init__(self, projection: Projection, width: int, height: int) -> None:
        self.projection, self.width = projection, width
        self._transmittance = projection.depths.new_ones(height * width)
        self._medians = torch.zeros_like(self._transmittance)
        self._shape = (height, width)

    @property
    def medians(self) -> Float[Tensor, "H W"]:
        """Depth at which one half of the light was lost; 0 where that has not happened so far."""
        return self._medians.view(self._shape)

    @property
    def light(self) -> Float[Tensor, "H W"]:
        """What passes on to the next list; 0 where the median is found."""
        is_found = self._transmittance <= MEDIAN_TRANSMITTANCE
        return torch.where(is_found, 0.0, self._transmittance).view(self._shape)

    def go_on(self, rows: Int[Tensor, "m"], pixels: Int[Tensor, "m"]) -> None:
        """Walk through one list: rows of the projection and the pixels that they are drawn in.

        Pixels are numbered row by row. Entries of one pixel follow each other, near to far, and
        pixels ascend.
        """
        counts = torch.bincount(pixels, minlength=len(self._medians))
        starts = counts.cumsum(0) - counts
        is_open = self._transmittance > MEDIAN_TRANSMITTANCE
        walking, step = torch.nonzero(is_open & (counts > 0))[:, 0], 0
        while len(walking):
            row = rows[starts[walking] + step]
            after = self._transmittance[walking] * (1.0 - self._alphas(row, walking))
            self._transmittance[walking] = after
            is_found = after <= MEDIAN_TRANSMITTANCE
            self._medians[walking[is_found]] = self.projection.depths[row[is_found]]
            step += 1
            walking = walking[~is_found & (counts[walking] > step)]

    def _alphas(self, row: Int[Tensor, "w"], pixel: Int[Tensor, "w"]) -> Float[Tensor, "w"]:
        shown = self.projection
        x, y = pixel % self.width, torch.div(pixel, self.width, rounding_mode="floor")
        centres = torch.stack([x, y], dim=-1).to(shown.means2d.dtype) + 0.5
        return alphas_at(shown.means2d[row] - centres, shown.conics[row], shown.opacities[row])
