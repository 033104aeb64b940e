"""All that a mixture does after rasterisation in one kernel, where Φ sees single pixels."""

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from moegs_ns.cameras import View
from moegs_ns.routers import VolumeAwarePixelRouter
from moegs_ns.splatting import ExpertRenderOutputs

SWITCH = "MOEGS_FUSED_BLEND"
"""Environment variable: with 0 plain torch blends the experts, to look for errors; with 1 the
kernel does it on a CPU too, where Triton interprets it (TRITON_INTERPRET=1), slowly, for tests."""
BLOCK, BLOCK_BACKWARD = 128, 64
"""Pixels of a program."""


@cache
def kernels() -> ModuleType | None:
    """The kernels; None where Triton, which comes with torch for CUDA, is missing."""
    if find_spec("triton") is None:
        return None
    from moegs_ns.mixture import blend_kernels

    return blend_kernels


@dataclass(frozen=True, eq=False)
class Blended:
    """What `Mixture.render` makes of the experts' images; see `MixtureRender`."""

    rgb: Float[Tensor, "H W 3"]
    gates: Float[Tensor, "E H W 1"]
    depth: Float[Tensor, "H W 1"]
    """Has no gradient, and neither has the accumulation."""
    accumulation: Float[Tensor, "H W 1"]


@dataclass(frozen=True)
class BlendSettings:
    """Numbers of a blend that no gradient goes to."""

    temperature: float
    uniform: float
    widths: tuple[int, ...]
    """Inputs of Φ's layers in turn, then its output."""
    of_images: bool
    """Whether gradients go to the experts' images, not only to the router."""


def fused_blend(
    rendered: ExpertRenderOutputs,
    view: View,
    router: VolumeAwarePixelRouter,
    backgrounds: Float[Tensor, "E 3"],
    *,
    temperature: float,
    uniform: float,
    of_images: bool,
) -> Blended:
    """Gates, colour, depth and accumulated opacity of a mixture for one camera.

    Differentiable in the router's features and Φ, and with `of_images` in the experts' colours and
    opacities; not in the camera. Gradients of Φ are sums in a fixed order.
    """
    layers = [layer.weight for layer in router.phi if isinstance(layer, torch.nn.Conv2d)]
    widths = (*(weight.shape[1] for weight in layers), 1)
    settings = BlendSettings(temperature, uniform, widths, of_images)
    rgb, alpha, features = (
        part[:, 0] for part in (rendered.rgb, rendered.alpha, rendered.features)
    )
    if not of_images:
        # They share storage and graph with the features, but nothing of them is trained.
        rgb, alpha = rgb.detach(), alpha.detach()
    weights = torch.cat([weight.flatten() for weight in layers])
    camera = (view.Ks[0], view.viewmats[0], router.scene_center, router.scene_extent)
    camera = tuple(value.detach().contiguous() for value in camera)
    depth = rendered.depth[:, 0].detach().contiguous()
    images = (rgb, alpha.contiguous(), features, weights)
    return Blended(*_FusedBlend.apply(*images, depth, backgrounds.contiguous(), camera, settings))


class _FusedBlend(torch.autograd.Function):
    """The kernels and what they are launched with."""

    @staticmethod
    def forward(
        ctx: Any,
        rgb: Float[Tensor, "E H W 3"],
        alpha: Float[Tensor, "E H W 1"],
        features: Float[Tensor, "E H W F"],
        weights: Float[Tensor, "_"],
        depth: Float[Tensor, "E H W 1"],
        backgrounds: Float[Tensor, "E 3"],
        camera: tuple[Tensor, ...],
        settings: BlendSettings,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        experts, height, width, _ = rgb.shape
        blended = rgb.new_empty(height, width, 3)
        gates = rgb.new_empty(experts, height, width, 1)
        mean_depth, accumulation = (rgb.new_empty(height, width, 1) for _ in range(2))
        launch = _Launch(rgb, features, settings, BLOCK)
        with launch.device():
            _module().forward_kernel[launch.grid](
                rgb, alpha, depth, features, weights, backgrounds, *camera,
                blended, gates, mean_depth, accumulation, *launch.values, **launch.constants,
            )  # fmt: skip
        ctx.save_for_backward(rgb, alpha, features, weights, backgrounds, *camera)
        ctx.settings = settings
        ctx.mark_non_differentiable(mean_depth, accumulation)
        return blended, gates, mean_depth, accumulation

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        rgb, alpha, features, weights, backgrounds, *camera = ctx.saved_tensors
        of_images = ctx.settings.of_images
        launch = _Launch(rgb, features, ctx.settings, BLOCK_BACKWARD)
        of_features = features.new_empty(features.shape)
        partials = weights.new_empty(launch.grid[0], len(weights))
        # Unused where they are not asked for, but a kernel's arguments are tensors.
        of_rgb = rgb.new_empty(rgb.shape if of_images else 1)
        of_alpha = alpha.new_empty(alpha.shape if of_images else 1)
        with launch.device():
            _module().backward_kernel[launch.grid](
                rgb, alpha, features, weights, backgrounds, *camera,
                gradients[0].contiguous(), gradients[1].contiguous(),
                of_features, partials, of_rgb, of_alpha, *launch.values, **launch.constants,
                COUNT=len(weights), OF_IMAGES=of_images,
            )  # fmt: skip
        images = (of_rgb, of_alpha) if of_images else (None, None)
        return (*images, of_features, partials.sum(0), None, None, None, None)


class _Launch:
    """Arguments that both kernels share, after their tensors."""

    def __init__(
        self,
        rgb: Float[Tensor, "E H W 3"],
        features: Float[Tensor, "E H W F"],
        settings: BlendSettings,
        block: int,
    ) -> None:
        experts, height, width, _ = rgb.shape
        pixels = height * width
        self.rgb = rgb
        self.grid = ((pixels + block - 1) // block,)
        self.values = (
            pixels, width, *_strides(rgb), *_strides(features),
            settings.temperature, settings.uniform,
        )  # fmt: skip
        self.constants: dict[str, Any] = {
            "EXPERTS": experts, "PADDED": 1 << (experts - 1).bit_length(),
            "REFINED": features.shape[-1] - 1, "WIDTHS": settings.widths,
            "LAYERS": len(settings.widths) - 1, "BLOCK": block,
        }  # fmt: skip

    def device(self) -> Any:
        """Kernels go to the current device, which may be another one."""
        return torch.cuda.device_of(self.rgb)


def _strides(image: Float[Tensor, "E H W D"]) -> tuple[int, int]:
    """Numbers from one expert, and from one pixel, to the next; rows must follow each other."""
    expert, row, pixel, channel = image.stride()
    assert channel == 1 or image.shape[-1] == 1, f"channels are {channel} numbers apart"
    assert row == pixel * image.shape[2], f"rows are {row} numbers apart"
    return expert, pixel


def _module() -> Any:
    module = kernels()
    assert module is not None, "a mixture asks for the kernel where Triton is there"
    return module
