"""Rasterisation in plain torch: slow, differentiable in any precision, the oracle of the others."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from moegs_ns.splatting.projection import (
    MAX_ALPHA,
    MIN_ALPHA,
    MIN_TRANSMITTANCE,
    TILE_SIZE,
    Projection,
    project,
)

__all__ = ["project", "rasterize"]

PIXELS_AT_ONCE = 4096
"""Pixels composited together; bounds the [pixels, Gaussians] matrix of opacities."""


def rasterize(
    projection: Projection,
    channels: Float[Tensor, "n D"],
    image_ids: Int[Tensor, "n"],
    num_images: int,
    width: int,
    height: int,
) -> tuple[Float[Tensor, "I H W D"], Float[Tensor, "I H W 1"]]:
    """Front-to-back compositing (Eq. 5) of each row into its image; returns channels and alpha."""
    images, alphas = [], []
    for image in range(num_images):
        rows = torch.nonzero(image_ids == image)[:, 0]
        rows = rows[torch.argsort(projection.depths[rows], stable=True)]
        weights = _pixel_weights(projection.select(rows), width, height)
        composited = weights @ channels[rows]
        images.append(composited.reshape(height, width, -1))
        alphas.append(weights.sum(1).reshape(height, width, 1))
    return torch.stack(images), torch.stack(alphas)


def _pixel_weights(projection: Projection, width: int, height: int) -> Float[Tensor, "P n"]:
    """Transmittance times alpha of every sorted Gaussian at every pixel, row by row."""
    device, dtype = projection.means2d.device, projection.means2d.dtype
    y, x = torch.meshgrid(
        torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
    )
    pixels = torch.stack([x.flatten(), y.flatten()], dim=-1)
    chunks = [_chunk_weights(projection, part, dtype) for part in pixels.split(PIXELS_AT_ONCE)]
    return torch.cat(chunks)


def _chunk_weights(
    projection: Projection, pixels: Int[Tensor, "p 2"], dtype: torch.dtype
) -> Float[Tensor, "p n"]:
    offsets = projection.means2d[None] - (pixels.to(dtype) + 0.5)[:, None]
    dx, dy = offsets.unbind(-1)
    a, b, c = projection.conics.unbind(-1)
    distance = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
    alpha = (projection.opacities * torch.exp(-distance)).clamp(max=MAX_ALPHA)
    counts = (distance >= 0) & (alpha >= MIN_ALPHA) & _shares_tile(projection, pixels)
    alpha = torch.where(counts, alpha, torch.zeros_like(alpha))
    after = torch.cumprod(1.0 - alpha, dim=1)
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], dim=1)
    is_drawn = after > MIN_TRANSMITTANCE
    return torch.where(is_drawn, alpha * before, torch.zeros_like(alpha))


@torch.no_grad()
def _shares_tile(projection: Projection, pixels: Int[Tensor, "p 2"]) -> Tensor:
    """Whether the square around a Gaussian touches the tile of a pixel, as the fast paths sort."""
    radii = projection.radii[:, None]
    first = torch.floor((projection.means2d - radii) / TILE_SIZE)
    last = torch.ceil((projection.means2d + radii) / TILE_SIZE)
    tiles = torch.div(pixels, TILE_SIZE, rounding_mode="floor")[:, None]
    return (projection.radii > 0) & ((tiles >= first) & (tiles < last)).all(-1)
