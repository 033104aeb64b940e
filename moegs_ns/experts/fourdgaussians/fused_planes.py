"""Reading a level of HexPlane by two Triton kernels, with its gradients."""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from moegs_ns.triton_modules import triton_module

SWITCH = "MOEGS_FUSED_PLANES"
"""Environment variable: with 1 kernels read the planes; without a GPU Triton then interprets them
(TRITON_INTERPRET=1), slowly, for tests. They have not been timed, so they are off."""
BLOCK, BLOCK_BACKWARD = 64, 32
"""Points of a program."""
kernels = partial(triton_module, "moegs_ns.experts.fourdgaussians.plane_kernels")
"""The module of kernels; None without Triton."""


def fused_read(
    position: Float[Tensor, "N 3"],
    planes: Float[Tensor, "3 C R R"],
    lines: Float[Tensor, "T 3 C R"],
) -> Float[Tensor, "T N C"]:
    """Products of what three planes and three lines hold at positions in [-1, 1], for each time.

    Gradients of planes and lines are sums in no fixed order.
    """
    # Features side by side; the parameters keep torch's order.
    last = planes.permute(0, 2, 3, 1).contiguous(), lines.permute(0, 1, 3, 2).contiguous()
    return _FusedRead.apply(position.contiguous(), *last)


class _FusedRead(torch.autograd.Function):
    """The kernels and what they are launched with."""

    @staticmethod
    def forward(
        ctx: Any,
        position: Float[Tensor, "N 3"],
        planes: Float[Tensor, "3 R R C"],
        lines: Float[Tensor, "T 3 R C"],
    ) -> Float[Tensor, "T N C"]:
        module: Any = kernels()
        features = position.new_empty(len(lines), len(position), planes.shape[-1])
        with torch.cuda.device_of(position):
            module.features_kernel[_grid(position, BLOCK)](
                position, planes, lines, features, len(position), **_sizes(lines), BLOCK=BLOCK
            )
        ctx.save_for_backward(position, planes, lines)
        return features

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        position, planes, lines = ctx.saved_tensors
        module: Any = kernels()
        found = torch.empty_like(position), torch.zeros_like(planes), torch.zeros_like(lines)
        with torch.cuda.device_of(position):
            module.gradient_kernel[_grid(position, BLOCK_BACKWARD)](
                position, planes, lines, gradients[0].contiguous(), *found, len(position),
                **_sizes(lines), BLOCK=BLOCK_BACKWARD,
            )  # fmt: skip
        return found


def _grid(position: Float[Tensor, "N 3"], block: int) -> tuple[int]:
    return ((len(position) + block - 1) // block,)


def _sizes(lines: Float[Tensor, "T 3 R C"]) -> dict[str, int]:
    times, _, cells, channels = lines.shape
    return {"CELLS": cells, "CHANNELS": channels, "TIMES": times}
