"""Rasterisation in plain torch: slow, differentiable in any precision, the others' reference."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from moegs_ns.splatting.projection import (
    MEDIAN_TRANSMITTANCE,
    MIN_TRANSMITTANCE,
    TILE_SIZE,
    Projection,
    alphas_at,
    project,
)

__all__ = ["project", "rasterize", "rasterize_median"]

PIXELS_AT_ONCE = 4096
"""Pixels composited together; bounds the [pixels, Gaussians] matrix of opacities."""


def rasterize(
    projection: Projection,
    channels: Float[Tensor, "n D"],
    image_ids: Int[Tensor, "n"],
    shape: tuple[int, int, int],
) -> tuple[Float[Tensor, "I H W D"], Float[Tensor, "I H W 1"]]:
    """Composite each Gaussian into its image, front to back (Eq. 5); returns channels and alpha.

    `shape` is that of the images: their number I, height H and width W.
    """
    num_images, height, width = shape
    images, alphas = [], []
    for image in range(num_images):
        order = _near_to_far(projection, image_ids == image)
        weights = _at_pixels(_weights, projection.select(order), width, height)
        images.append((weights @ channels[order]).reshape(height, width, -1))
        alphas.append(weights.sum(1).reshape(height, width, 1))
    return torch.stack(images), torch.stack(alphas)


def rasterize_median(
    projection: Projection,
    image_ids: Int[Tensor, "n"],
    shape: tuple[int, int, int],
) -> Float[Tensor, "I H W 1"]:
    """Depth of the first Gaussian, near to far, at which transmittance is at most one half; 0 where
    none is. Not differentiable.
    """
    num_images, height, width = shape
    images = []
    for image in range(num_images):
        order = _near_to_far(projection, image_ids == image)
        medians = _at_pixels(_medians, projection.select(order), width, height)
        images.append(medians.reshape(height, width, 1))
    return torch.stack(images)


def _near_to_far(projection: Projection, mask: Tensor) -> Int[Tensor, "m"]:
    indices = torch.nonzero(mask)[:, 0]
    return indices[torch.argsort(projection.depths[indices], stable=True)]


def _at_pixels(
    function: Callable[[Projection, Tensor], Tensor],
    projection: Projection,
    width: int,
    height: int,
) -> Float[Tensor, "P *d"]:
    """Values of all pixels, row by row, from a function of sorted Gaussians and some pixels."""
    device = projection.means2d.device
    y, x = torch.meshgrid(
        torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
    )
    pixels = torch.stack([x.flatten(), y.flatten()], dim=-1)
    return torch.cat([function(projection, part) for part in pixels.split(PIXELS_AT_ONCE)])


def _weights(projection: Projection, pixels: Int[Tensor, "p 2"]) -> Float[Tensor, "p n"]:
    """Transmittance times alpha of every sorted Gaussian at every pixel."""
    alpha = _alphas(projection, pixels)
    after = torch.cumprod(1.0 - alpha, dim=1)
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], dim=1)
    return torch.where(after > MIN_TRANSMITTANCE, alpha * before, 0.0)


def _medians(projection: Projection, pixels: Int[Tensor, "p 2"]) -> Float[Tensor, "p"]:
    """Depth of the first Gaussian at which transmittance is at most one half, 0 if none is: as it
    never rises, the number of those with more is the index."""
    after = torch.cumprod(1.0 - _alphas(projection, pixels), dim=1)
    num_before = (after > MEDIAN_TRANSMITTANCE).sum(1)
    return torch.nn.functional.pad(projection.depths, (0, 1))[num_before]


def _alphas(projection: Projection, pixels: Int[Tensor, "p 2"]) -> Float[Tensor, "p n"]:
    centres = pixels.to(projection.means2d.dtype) + 0.5
    offsets = projection.means2d[None] - centres[:, None]
    alpha = alphas_at(offsets, projection.conics, projection.opacities)
    return torch.where(_touches_tile(projection, pixels), alpha, 0.0)


@torch.no_grad()
def _touches_tile(projection: Projection, pixels: Int[Tensor, "p 2"]) -> Tensor:
    """Whether the square around a Gaussian touches the tile of a pixel, as the other backends sort.

    They skip tiles of the square where the Gaussian is too faint to be drawn.
    """
    radii = projection.radii[:, None]
    first = torch.floor((projection.means2d - radii) / TILE_SIZE)
    last = torch.ceil((projection.means2d + radii) / TILE_SIZE)
    tiles = torch.div(pixels, TILE_SIZE, rounding_mode="floor")[:, None]
    return (projection.radii > 0) & ((tiles >= first) & (tiles < last)).all(-1)
