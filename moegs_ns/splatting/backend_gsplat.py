"""Projection and rasterisation by gsplat's CUDA kernels: the only place that calls gsplat's raster.

One adapter serves 1.4.0 (nerfstudio's pin) and newer releases, whose arguments were renamed and
reordered; hence keywords only, chosen by signature.
"""

import inspect
from functools import cache, lru_cache
from importlib import import_module

import torch
from jaxtyping import Float, Int
from torch import Tensor

from moegs_ns.cameras import View
from moegs_ns.cuda_graphs.graphed import is_capturing
from moegs_ns.gaussians import DEFAULT_EPS2D
from moegs_ns.splatting.projection import (
    MEDIAN_TRANSMITTANCE,
    NEAR,
    TILE_SIZE,
    Projection,
    alphas_at,
)

COMPILED_CHANNELS = (1, 2, 3, 4, 5, 8, 9, 16, 17, 32, 33, 64, 65, 128)
"""Channel counts that every release compiles; others are padded with zeros up to the next."""

LIST_LENGTH = TILE_SIZE**2
"""Gaussians of a tile that gsplat walks through together."""


@cache
def require_kernels() -> None:
    """Load gsplat's kernels, which its release on PyPI compiles when they are first asked for.

    Raises:
        ImportError: they cannot be compiled here; gsplat itself would go on without them and end in
            an AttributeError of None.
    """
    if import_module("gsplat.cuda._backend")._C is None:
        raise ImportError(
            "Rendering on a GPU expects gsplat's CUDA kernels, but gsplat found no nvcc to compile "
            f"them with: install the CUDA toolkit {torch.version.cuda}, which is that of this "
            "torch, or a prebuilt gsplat wheel; or use the CPU, which needs neither, with "
            'CUDA_VISIBLE_DEVICES="".'
        )


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
        eps2d=DEFAULT_EPS2D,
        near_plane=near,
        packed=False,
    )
    if radii.ndim == 3:  # newer releases give one radius per axis
        radii = radii.amin(dim=-1).clamp(max=1) * radii.amax(dim=-1)
    # What is cached must not lie in the memory of a captured graph.
    pairs = _pairs.__wrapped__ if is_capturing() else _pairs
    camera_ids, gaussian_ids = pairs(len(view), len(means), radii.device)
    # All rows, as a compaction to the visible ones would synchronise with the GPU.
    return Projection(
        means2d=means2d.flatten(0, 1),
        depths=depths.flatten(),
        conics=conics.flatten(0, 1),
        opacities=opacities if len(view) == 1 else opacities.repeat(len(view)),
        radii=radii.flatten(),
        extents=radii.flatten(),
        camera_ids=camera_ids,
        gaussian_ids=gaussian_ids,
        is_complete=True,
    )


def rasterize(
    projection: Projection,
    channels: Float[Tensor, "n D"],
    image_ids: Int[Tensor, "n"],
    shape: tuple[int, int, int],
) -> tuple[Float[Tensor, "I H W D"], Float[Tensor, "I H W 1"]]:
    """See `reference.rasterize`."""
    from gsplat import rasterize_to_pixels

    offsets, flatten_ids = _sort(projection, image_ids, shape)
    num_channels = channels.shape[1]
    padding = min(n for n in COMPILED_CHANNELS if n >= num_channels) - num_channels
    if padding:
        channels = torch.nn.functional.pad(channels, (0, padding))
    image, alpha = rasterize_to_pixels(
        means2d=projection.means2d.contiguous(),
        conics=projection.conics.contiguous(),
        colors=channels.contiguous(),
        opacities=projection.opacities.contiguous(),
        image_width=shape[2],
        image_height=shape[1],
        tile_size=TILE_SIZE,
        isect_offsets=offsets,
        flatten_ids=flatten_ids,
        packed=True,
    )
    return image[..., :num_channels], alpha


@torch.no_grad()
def rasterize_median(
    projection: Projection,
    image_ids: Int[Tensor, "n"],
    shape: tuple[int, int, int],
) -> Float[Tensor, "I H W 1"]:
    """See `reference.rasterize_median`.

    gsplat has no kernel for it, but one that lists which Gaussians are drawn in which pixels. It is
    asked for one image and one batch of each tile's Gaussians at a time, which bounds the memory;
    pixels that are done pass no light, so that nothing more is listed for them.
    """
    from gsplat import rasterize_to_indices_in_range

    num_images, height, width = shape
    offsets, flatten_ids = _sort(projection, image_ids, shape)
    starts = torch.cat([offsets.flatten(), offsets.new_tensor([len(flatten_ids)])])
    ends = starts[1:].unflatten(0, (num_images, -1))[:, -1].tolist()
    longest = starts.diff().unflatten(0, (num_images, -1)).amax(1).tolist()
    geometry = {
        name: getattr(projection, name)[None].contiguous()
        for name in ("means2d", "conics", "opacities")
    }
    images = []
    for image in range(num_images):
        walk = MedianWalk(projection, width, height)
        for batch in range(-(-longest[image] // LIST_LENGTH)):
            rows, pixels, _ = rasterize_to_indices_in_range(
                range_start=batch,
                range_end=batch + 1,
                transmittances=walk.light[None],
                **geometry,
                image_width=width,
                image_height=height,
                tile_size=TILE_SIZE,
                isect_offsets=offsets[image : image + 1],
                # The last tile of the last image ends where the list does.
                flatten_ids=flatten_ids[: ends[image]],
            )
            walk.go_on(rows, pixels)
        images.append(walk.medians)
    return torch.stack(images)[..., None]


def _sort(
    projection: Projection, image_ids: Int[Tensor, "n"], shape: tuple[int, int, int]
) -> tuple[Int[Tensor, "I h w"], Int[Tensor, "m"]]:
    """Where the list of each tile of each image starts, and all lists of rows, near to far."""
    from gsplat import isect_offset_encode, isect_tiles

    num_images, height, width = shape
    tile_width, tile_height = -(-width // TILE_SIZE), -(-height // TILE_SIZE)
    count_name = _first_parameter(isect_tiles, ("n_images", "n_cameras"))
    ids_name = _first_parameter(isect_tiles, ("image_ids", "camera_ids"))
    extents = projection.extents
    if ids_name == "image_ids":
        extents = extents[:, None].expand(-1, 2).contiguous()
    _, isect_ids, flatten_ids = isect_tiles(
        means2d=projection.means2d,
        radii=extents,
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
    return offsets, flatten_ids


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # Whoever asks first, gradients must be able to pass later.
def _pairs(
    num_cameras: int, count: int, device: torch.device
) -> tuple[Int[Tensor, "n"], Int[Tensor, "n"]]:
    """Camera and Gaussian of every pair; cached, as they are the same from frame to frame."""
    cameras = torch.arange(num_cameras, device=device)[:, None].expand(-1, count).flatten()
    return cameras, torch.arange(count, device=device).repeat(num_cameras)


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
