"""Projection and rasterisation by gsplat's CUDA kernels: the only place that calls gsplat's raster.

One adapter serves 1.4.0 (nerfstudio's pin) and newer releases, whose arguments were renamed and
reordered; hence keywords only, chosen by signature.
"""

import inspect
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from moegs_ns.cameras import View
from moegs_ns.gaussians import DEFAULT_DILATION
from moegs_ns.splatting.projection import NEAR, TILE_SIZE, Projection

COMPILED_CHANNELS = (1, 2, 3, 4, 5, 8, 9, 16, 17, 32, 33, 64, 65, 128)
"""Channel counts that every release compiles; others are padded with zeros up to the next."""


def project(
    means: Float[Tensor, "N 3"],
    quats: Float[Tensor, "N 4"],
    scales: Float[Tensor, "N 3"],
    opacities: Float[Tensor, "N"],
    view: View,
    near: float = NEAR,
) -> Projection:
    """See `projection.project`."""
    from gsplat import fully_fused_projection

    radii, means2d, depths, conics, _ = fully_fused_projection(
        means,
        None,
        quats,
        scales,
        view.viewmats,
        view.Ks,
        view.width,
        view.height,
        eps2d=DEFAULT_DILATION,
        near_plane=near,
        packed=False,
    )
    if radii.ndim == 3:  # newer releases give one radius per axis
        radii = radii.amin(dim=-1).clamp(max=1) * radii.amax(dim=-1)
    num_cameras, count = radii.shape
    # All rows, since to keep those that are seen would cost a wait for the GPU and their gathering.
    return Projection(
        means2d=means2d.flatten(0, 1),
        depths=depths.flatten(),
        conics=conics.flatten(0, 1),
        opacities=opacities if num_cameras == 1 else opacities.repeat(num_cameras),
        radii=radii.flatten(),
        camera_ids=_numbers(num_cameras, means.device).repeat_interleave(count),
        gaussian_ids=_numbers(count, means.device).repeat(num_cameras),
        is_complete=True,
    )


def rasterize(
    projection: Projection,
    channels: Float[Tensor, "n D"],
    image_ids: Int[Tensor, "n"],
    num_images: int,
    width: int,
    height: int,
) -> tuple[Float[Tensor, "I H W D"], Float[Tensor, "I H W 1"]]:
    """See `torch_twin.rasterize`."""
    from gsplat import isect_offset_encode, isect_tiles, rasterize_to_pixels

    tile_width, tile_height = -(-width // TILE_SIZE), -(-height // TILE_SIZE)
    count_name = _first_parameter(isect_tiles, ("n_images", "n_cameras"))
    ids_name = _first_parameter(isect_tiles, ("image_ids", "camera_ids"))
    radii = projection.radii
    if ids_name == "image_ids":
        radii = radii[:, None].expand(-1, 2).contiguous()
    _, isect_ids, flatten_ids = isect_tiles(
        means2d=projection.means2d,
        radii=radii,
        depths=projection.depths,
        tile_size=TILE_SIZE,
        tile_width=tile_width,
        tile_height=tile_height,
        packed=True,
        gaussian_ids=projection.gaussian_ids,
        **{count_name: num_images, ids_name: image_ids},
    )
    offsets_count = _first_parameter(isect_offset_encode, ("n_images", "n_cameras"))
    offsets = isect_offset_encode(
        isect_ids=isect_ids,
        tile_width=tile_width,
        tile_height=tile_height,
        **{offsets_count: num_images},
    )
    num_channels = channels.shape[1]
    padding = min(n for n in COMPILED_CHANNELS if n >= num_channels) - num_channels
    image, alpha = rasterize_to_pixels(
        means2d=projection.means2d.contiguous(),
        conics=projection.conics.contiguous(),
        colors=torch.nn.functional.pad(channels, (0, padding)).contiguous(),
        opacities=projection.opacities.contiguous(),
        image_width=width,
        image_height=height,
        tile_size=TILE_SIZE,
        isect_offsets=offsets,
        flatten_ids=flatten_ids,
        packed=True,
    )
    return image[..., :num_channels], alpha


def _numbers(count: int, device: torch.device) -> Int[Tensor, "count"]:
    return torch.arange(count, device=device)


@cache
def _first_parameter(function, names: tuple[str, ...]) -> str:
    known = inspect.signature(function).parameters
    for name in names:
        if name in known:
            return name
    raise RuntimeError(
        f"This release of gsplat is not supported: {function.__name__} takes none of {names}. "
        "Install gsplat 1.4.0."
    )
