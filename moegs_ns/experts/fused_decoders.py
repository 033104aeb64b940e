"""Decoders of the deformation in one Triton kernel, where no gradient is asked for."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from moegs_ns.triton_modules import triton_module

SWITCH = "MOEGS_FUSED_DECODERS"
"""Environment variable: with 1 the kernel decodes what needs no gradient; without a GPU Triton then
interprets it (TRITON_INTERPRET=1), slowly, for tests. It has not been timed, so it is off."""
BLOCK = 64
"""Gaussians of a program."""
WARPS = 8
"""Of a program; with fewer its registers do not hold what lies between the layers."""
SMALLEST = 16
"""Rows and columns of a matrix that Triton multiplies."""
LARGEST_WIDTH = 256
"""Units of a layer up to which what lies between two layers stays in registers."""
kernels = partial(triton_module, "moegs_ns.experts.decoder_kernels")
"""The module of kernels; None without Triton."""


def fused_offsets(
    inputs: Float[Tensor, "N F"],
    layers: Sequence[Sequence[Float[Tensor, "..."]]],
    scales: Float[Tensor, "_"] | None,
    decoders: int,
) -> list[Float[Tensor, "N _"]]:
    """Offsets of each head, summed over decoders of equal shape and multiplied by its scale.

    `layers` are weights and biases in turn of all trunks, first layers and last layers, head by
    head within each decoder. ReLU follows trunks and first layers.
    """
    sizes = [len(bias) for bias in layers[5]][: len(layers[5]) // decoders]
    count, features = inputs.shape
    packed = inputs.new_empty(count * sum(sizes))
    module: Any = kernels()
    with torch.cuda.device_of(inputs):
        module.decode_kernel[((count + BLOCK - 1) // BLOCK,)](
            inputs, *(torch.cat(list(kind)) for kind in layers),
            packed if scales is None else scales, packed, count, *inputs.stride(),
            **kernel_constants(features, len(layers[0][0]), sizes, decoders),
            HAS_SCALES=scales is not None, num_warps=WARPS,
        )  # fmt: skip
    parts = packed.split([count * size for size in sizes])
    return [part.view(count, size) for part, size in zip(parts, sizes, strict=True)]


def kernel_constants(
    features: int, width: int, sizes: Sequence[int], decoders: int
) -> Mapping[str, Any]:
    """What the kernel is compiled for."""
    return {
        "FEATURES": features, "COLUMNS": _padded(features), "WIDTH": width, "SIZES": tuple(sizes),
        "PADDED": tuple(map(_padded, sizes)), "HEADS": len(sizes), "DECODERS": decoders,
        "BLOCK": BLOCK,
    }  # fmt: skip


def _padded(size: int) -> int:
    """The power of two that holds a layer's units."""
    return max(SMALLEST, 1 << (size - 1).bit_length())
