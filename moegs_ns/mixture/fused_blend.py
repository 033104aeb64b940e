"""All that a mixture does after rasterisation in one kernel, where Φ sees single pixels."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from moegs_ns.cameras import View
from moegs_ns.routers import VolumeAwarePixelRouter
from moegs_ns.splatting import ExpertRenderOutputs
from moegs_ns.triton_modules import triton_module

SWITCH = "MOEGS_FUSED_BLEND"
"""Environment variable: with 0 plain torch blends the experts, to look for errors; with 1 the
kernel does it on a CPU too, where Triton interprets it (TRITON_INTERPRET=1), slowly, for tests."""
BLOCK, BLOCK_BACKWARD = 128, 64
"""Pixels of a program."""
kernels = partial(triton_module, "moegs_ns.mixture.blend_kernels")
"""The module of kernels; None without Triton."""


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
    refined: int
    """Features behind the first that are weights; Φ reads them."""
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
    smoothed: Callable[[Float[Tensor, "E H W 1"]], Float[Tensor, "E H W 1"]] | None = None,
) -> Blended:
    """Gates, colour, depth and accumulated opacity of a mixture for one camera.

    Differentiable in the router's features and Φ, and with `of_images` in the experts' colours and
    opacities; not in the camera. Gradients of Φ are sums in a fixed order. What is applied to the
    logits, `smoothed`, comes between two kernels; with it, or with a router whose correction is
    fitted, nothing is differentiable.
    """
    layers = [layer.weight for layer in router.phi if isinstance(layer, torch.nn.Conv2d)]
    widths = (*(weight.shape[1] for weight in layers), 1)
    settings = BlendSettings(
        temperature, uniform, widths, len(router.initial_weights) - 1, of_images
    )
    rgb, alpha, features = (
        part[:, 0] for part in (rendered.rgb, rendered.alpha, rendered.features)
    )
    if not of_images:
        # They share storage and graph with the features, but nothing of them is trained.
        rgb, alpha = rgb.detach(), alpha.detach()
    weights = torch.cat([weight.flatten() for weight in layers])
    correction = router.fitted_correction
    # Without a correction the kernel does not read its two tensors, but they are arguments.
    linear = (weights, weights) if correction is None else (correction.bias, correction.slopes)
    camera = (view.Ks[0], view.viewmats[0], router.scene_center, router.scene_extent)
    fixed = tuple(value.detach().contiguous() for value in (*linear, *camera))
    depth = rendered.depth[:, 0].detach().contiguous()
    images, backgrounds = (rgb, alpha.contiguous()), backgrounds.contiguous()
    if smoothed is None:
        return Blended(
            *_FusedBlend.apply(*images, features, weights, depth, backgrounds, fixed, settings)
        )
    assert not torch.is_grad_enabled(), "smoothed logits are blended without gradients"
    logits = smoothed(_logits(features, weights, fixed, settings)).contiguous()
    return Blended(*_blend(logits, images, depth, backgrounds, settings))


def _logits(
    features: Float[Tensor, "E H W F"],
    weights: Float[Tensor, "_"],
    fixed: tuple[Tensor, ...],
    settings: BlendSettings,
) -> Float[Tensor, "E H W 1"]:
    """Logits alone, by the first of two kernels."""
    logits = features.new_empty(*features.shape[:3], 1)
    launch = _Launch(features, settings, BLOCK)
    with launch.device():
        _module().logits_kernel[launch.grid](
            features, weights, *fixed, logits, launch.pixels, launch.width, *_strides(features),
            **launch.experts, **launch.of_phi, **launch.of_correction,
        )  # fmt: skip
    return logits


def _blend(
    logits: Float[Tensor, "E H W 1"],
    images: tuple[Tensor, Tensor],
    depth: Float[Tensor, "E H W 1"],
    backgrounds: Float[Tensor, "E 3"],
    settings: BlendSettings,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What is blended, by the second of two kernels."""
    rgb, alpha = images
    outputs = _new_outputs(rgb)
    launch = _Launch(rgb, settings, BLOCK)
    with launch.device():
        _module().blend_kernel[launch.grid](
            logits, rgb, alpha, depth, backgrounds, *outputs, launch.pixels, *_strides(rgb),
            settings.temperature, settings.uniform, **launch.experts,
        )  # fmt: skip
    return outputs


def _new_outputs(rgb: Float[Tensor, "E H W 3"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Memory for colour, gates, depth and accumulated opacity."""
    experts, height, width, _ = rgb.shape
    depth, accumulation = (rgb.new_empty(height, width, 1) for _ in range(2))
    return (
        rgb.new_empty(height, width, 3), rgb.new_empty(experts, height, width, 1),
        depth, accumulation,
    )  # fmt: skip


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
        fixed: tuple[Tensor, ...],
        settings: BlendSettings,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        bias, slopes, *camera = fixed
        outputs = _new_outputs(rgb)
        launch = _Launch(features, settings, BLOCK)
        with launch.device():
            _module().forward_kernel[launch.grid](
                rgb, alpha, depth, features, weights, bias, slopes, backgrounds, *camera,
                *outputs, *launch.values(rgb, features), **launch.experts, **launch.of_phi,
                **launch.of_correction,
            )  # fmt: skip
        ctx.save_for_backward(rgb, alpha, features, weights, backgrounds, *camera)
        ctx.settings = settings
        ctx.mark_non_differentiable(*outputs[2:])
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        rgb, alpha, features, weights, backgrounds, *camera = ctx.saved_tensors
        of_images = ctx.settings.of_images
        launch = _Launch(features, ctx.settings, BLOCK_BACKWARD)
        of_features = features.new_empty(features.shape)
        partials = weights.new_empty(launch.grid[0], len(weights))
        # Unused where they are not asked for, but a kernel's arguments are tensors.
        of_rgb = rgb.new_empty(rgb.shape if of_images else 1)
        of_alpha = alpha.new_empty(alpha.shape if of_images else 1)
        with launch.device():
            _module().backward_kernel[launch.grid](
                rgb, alpha, features, weights, backgrounds, *camera,
                gradients[0].contiguous(), gradients[1].contiguous(),
                of_features, partials, of_rgb, of_alpha, *launch.values(rgb, features),
                **launch.experts, **launch.of_phi, COUNT=len(weights), OF_IMAGES=of_images,
            )  # fmt: skip
        images = (of_rgb, of_alpha) if of_images else (None, None)
        return (*images, of_features, partials.sum(0), None, None, None, None)


class _Launch:
    """Arguments that kernels share, after their tensors."""

    def __init__(
        self, image: Float[Tensor, "E H W D"], settings: BlendSettings, block: int
    ) -> None:
        experts, height, self.width, channels = image.shape
        self.image, self.settings = image, settings
        self.pixels = height * self.width
        self.grid = ((self.pixels + block - 1) // block,)
        self.experts: dict[str, Any] = {
            "EXPERTS": experts, "PADDED": 1 << (experts - 1).bit_length(), "BLOCK": block,
        }  # fmt: skip
        self.of_phi: dict[str, Any] = {
            "REFINED": settings.refined, "WIDTHS": settings.widths,
            "LAYERS": len(settings.widths) - 1,
        }  # fmt: skip
        # Of features, those behind the weights belong to the correction.
        self.of_correction = {"CORRECTION": channels - 1 - settings.refined}

    def values(
        self, rgb: Float[Tensor, "E H W 3"], features: Float[Tensor, "E H W F"]
    ) -> tuple[float, ...]:
        """Numbers of the kernels that do everything."""
        settings = self.settings
        return (
            self.pixels, self.width, *_strides(rgb), *_strides(features),
            settings.temperature, settings.uniform,
        )  # fmt: skip

    def device(self) -> Any:
        """Kernels go to the current device, which may be another one."""
        return torch.cuda.device_of(self.image)


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
