"""Rasterisation on the CPU by compiled, parallel, deterministic kernels (Numba).

Gradients are exact and the same bits on every run: each (Gaussian, tile) pair writes its own slot,
and slots are summed in a fixed order.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numba
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from moegs_ns.splatting import numba_kernels as kernels
from moegs_ns.splatting.projection import TILE_SIZE, Projection, project

__all__ = ["project", "rasterize", "rasterize_median"]

_kernel_lock = threading.Lock()
"""Numba's fallback threading layer must not be entered by two threads, and the viewer renders in
its own thread. As each kernel uses all cores, taking turns costs nothing."""


def rasterize(
    projection: Projection,
    channels: Float[Tensor, "n D"],
    image_ids: Int[Tensor, "n"],
    shape: tuple[int, int, int],
) -> tuple[Float[Tensor, "I H W D"], Float[Tensor, "I H W 1"]]:
    """See `reference.rasterize`."""
    return _Rasterize.apply(  # type: ignore[return-value]
        projection.means2d,
        projection.conics,
        projection.opacities,
        channels,
        _sort(projection, image_ids, shape),
        shape,
    )


def rasterize_median(
    projection: Projection,
    image_ids: Int[Tensor, "n"],
    shape: tuple[int, int, int],
) -> Float[Tensor, "I H W 1"]:
    """See `reference.rasterize_median`."""
    flatten_ids, tile_starts, _, _ = _sort(projection, image_ids, shape)
    means2d = _array(projection.means2d)
    with _exclusive():
        medians = kernels.rasterize_median(
            means2d, _array(projection.conics), _array(projection.opacities),
            _array(projection.depths), flatten_ids, tile_starts,
            kernels.limits_for(means2d.dtype), TILE_SIZE, shape,
        )  # fmt: skip
    return torch.from_numpy(medians)[..., None]


@torch.no_grad()
def _sort(
    projection: Projection, image_ids: Int[Tensor, "n"], shape: tuple[int, int, int]
) -> tuple[np.ndarray, ...]:
    """All (Gaussian, tile) pairs by image, tile and depth; see `numba_kernels.sort_into_tiles`."""
    depth_order = torch.argsort(projection.depths, stable=True)
    with _exclusive():
        return kernels.sort_into_tiles(
            _array(projection.means2d), _array(projection.extents), _array(depth_order),
            _array(image_ids.long()), TILE_SIZE, shape,
        )  # fmt: skip


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, means2d, conics, opacities, channels, sorted_pairs, shape):
        flatten_ids, tile_starts, _, _ = sorted_pairs
        limits = kernels.limits_for(_array(means2d).dtype)
        with _exclusive():
            image, transmittance, last_pairs = kernels.rasterize(
                _array(means2d), _array(conics), _array(opacities), _array(channels),
                flatten_ids, tile_starts, limits, TILE_SIZE, shape,
            )  # fmt: skip
        ctx.save_for_backward(means2d, conics, opacities, channels)
        ctx.sorted_pairs, ctx.limits = sorted_pairs, limits
        ctx.transmittance, ctx.last_pairs = transmittance, last_pairs
        return torch.from_numpy(image), torch.from_numpy(1.0 - transmittance)[..., None]

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):  # pyright: ignore[reportIncompatibleMethodOverride]
        means2d, conics, opacities, channels = map(_array, ctx.saved_tensors)
        flatten_ids, tile_starts, *pairs = ctx.sorted_pairs
        image_grad, alpha_grad = _array(grads[0]), _array(grads[1][..., 0])
        geometry: tuple[Tensor | None, ...] = (None, None, None)
        with _exclusive():
            if any(ctx.needs_input_grad[:3]):
                geometry_parts, channel_parts = kernels.all_gradients(
                    means2d, conics, opacities, channels, flatten_ids, tile_starts,
                    ctx.limits, TILE_SIZE, ctx.transmittance, ctx.last_pairs,
                    image_grad, alpha_grad,
                )  # fmt: skip
                sums = torch.from_numpy(kernels.sum_parts(geometry_parts, *pairs))
                geometry = sums[:, :2], sums[:, 2:5], sums[:, 5]
            else:
                channel_parts = kernels.channel_gradients(
                    means2d, conics, opacities, flatten_ids, tile_starts,
                    ctx.limits, TILE_SIZE, ctx.last_pairs, image_grad,
                )  # fmt: skip
            channel_grad = torch.from_numpy(kernels.sum_parts(channel_parts, *pairs))
        return *geometry, channel_grad, None, None


def _array(value: Tensor) -> np.ndarray:
    return value.detach().contiguous().numpy()


@contextmanager
def _exclusive() -> Iterator[None]:
    """One thread at a time, with as many workers as torch has."""
    with _kernel_lock:
        numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
        yield
