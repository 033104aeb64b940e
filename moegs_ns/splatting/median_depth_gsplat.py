"""Median depth from lists of the Gaussians that are drawn in each pixel, in plain torch."""

import torch
from jaxtyping import Int
from torch import Tensor

from moegs_ns.splatting.projection import MEDIAN_TRANSMITTANCE, Projection, alphas_at


class MedianWalk:
    """Walks near to far through the Gaussians of every pixel of an image, list after list.

    All pixels take a step at once, and those that have reached their median stop. The products are
    those of the rasterisers, factor by factor, so no precision is lost to logarithms or long sums,
    and memory grows with the number of pixels, not of hits.
    """

    def __init__(self, projection: Projection, width: int, height: int) -> None:
        self.projection = projection
        self.light = projection.depths.new_ones(height, width)
        """Transmittance [H, W] that the next list begins with; 0 where the median is found."""
        self.medians = torch.zeros_like(self.light)
        """Depth [H, W] at which transmittance reached one half; 0 where it has not so far."""

    def go_on(self, rows: Int[Tensor, "m"], pixels: Int[Tensor, "m"]) -> None:
        """Walk through one list: indices into the projection and the pixels they are drawn in.

        Pixels are numbered row by row. Entries of one pixel follow each other, near to far, and
        pixels ascend.
        """
        shown, width = self.projection, self.light.shape[1]
        light, medians = self.light.view(-1), self.medians.view(-1)
        counts = torch.bincount(pixels, minlength=len(light))
        starts = counts.cumsum(0) - counts
        walking, step = torch.nonzero((light > 0) & (counts > 0))[:, 0], 0
        while len(walking):
            row = rows[starts[walking] + step]
            x, y = walking % width, torch.div(walking, width, rounding_mode="floor")
            offsets = shown.means2d[row] - (torch.stack([x, y], dim=-1).to(shown.means2d) + 0.5)
            alpha = alphas_at(offsets, shown.conics[row], shown.opacities[row])
            after = light[walking] * (1.0 - alpha)
            is_found = after <= MEDIAN_TRANSMITTANCE
            light[walking] = torch.where(is_found, 0.0, after)
            medians[walking[is_found]] = shown.depths[row[is_found]]
            step += 1
            walking = walking[~is_found & (counts[walking] > step)]
