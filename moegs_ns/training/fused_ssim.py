"""SSIM by four Triton kernels instead of convolutions of all colours of all moments."""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from moegs_ns.triton_modules import triton_module

SWITCH = "MOEGS_FUSED_SSIM"
"""Environment variable: with 0 plain torch computes SSIM, to look for errors; with 1 the kernels do
it on a CPU too, where Triton interprets them (TRITON_INTERPRET=1), slowly, for tests."""
BLOCK = 256
"""Numbers of a program."""
kernels = partial(triton_module, "moegs_ns.training.ssim_kernels")
"""The module of kernels; None without Triton."""


def fused_similarity(
    pred: Float[Tensor, "C H W 3"],
    target: Float[Tensor, "C H W 3"],
    window: Float[Tensor, "_"],
    constants: tuple[float, float],
) -> Float[Tensor, "C H W 3"]:
    """SSIM at every pixel and colour, with zeros around the images; differentiable in `pred`.

    `window` is one row of the separable window, `constants` are those of luminance and structure.
    """
    return _FusedSimilarity.apply(pred.contiguous(), target.contiguous(), window, constants)


class _FusedSimilarity(torch.autograd.Function):
    """The kernels and what they are launched with."""

    @staticmethod
    def forward(
        ctx: Any, pred: Tensor, target: Tensor, window: Tensor, constants: tuple[float, float]
    ) -> Tensor:
        launch, has_gradient = _Launch(pred, window), ctx.needs_input_grad[0]
        moments = pred.new_empty(5, *pred.shape)
        similarity = torch.empty_like(pred)
        # Unused without a gradient, but a kernel's arguments are tensors.
        partials = pred.new_empty((3, *pred.shape) if has_gradient else 1)
        with torch.cuda.device_of(pred):
            launch("moments", pred, target, window, moments, launch.length, pred.numel())
            launch(
                "similarity", moments, window, similarity, partials, *launch.sizes, *constants,
                HAS_GRADIENT=has_gradient,
            )  # fmt: skip
        ctx.save_for_backward(pred, target, window, partials)
        return similarity

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        pred, target, window, partials = ctx.saved_tensors
        launch, gradient = _Launch(pred, window), gradients[0].contiguous()
        blurred, of_pred = torch.empty_like(partials), torch.empty_like(pred)
        with torch.cuda.device_of(pred):
            launch(
                "gradient_rows", gradient, partials, window, blurred, launch.length, pred.numel()
            )
            launch("gradient", pred, target, blurred, window, of_pred, *launch.sizes)
        return of_pred, None, None, None


class _Launch:
    """Launches kernels for all rows of images."""

    def __init__(self, image: Float[Tensor, "C H W 3"], window: Float[Tensor, "_"]) -> None:
        count, height, width, colors = image.shape
        self.length = width * colors
        self.sizes = (self.length, height, image.numel())
        # Rows first: the other axes of a grid end at 65 535.
        self.grid = (count * height, (self.length + BLOCK - 1) // BLOCK)
        self.window = len(window)

    def __call__(self, name: str, *args: Any, **constants: bool) -> None:
        module: Any = kernels()
        kernel = getattr(module, f"{name}_kernel")
        kernel[self.grid](*args, WINDOW=self.window, BLOCK=BLOCK, **constants)
