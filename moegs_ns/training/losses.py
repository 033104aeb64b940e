"""Losses, and the images that experts, router and students are trained against."""

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import conv2d

from moegs_ns.cameras import View
from moegs_ns.cuda_graphs.graphed import GraphedCallable
from moegs_ns.gaussians import cat_or_single
from moegs_ns.splatting import RenderOutput
from moegs_ns.training.fused_ssim import SWITCH, fused_similarity, kernels

SSIM_LAMBDA = 0.2
"""Weight of D-SSIM in the standard loss of Gaussian splatting."""
WINDOW = 11
"""Pixels along each edge of the window of SSIM."""
C1, C2 = 0.01**2, 0.03**2
"""Constants of SSIM for values in [0, 1] (Wang et al. 2004)."""


@dataclass(frozen=True, eq=False)
class PhotometricErrors:
    """The loss of a batch of images, and their errors, which are detached from its graph."""

    loss: Float[Tensor, ""]
    """(1 - λ)·L1 + λ·(1 - SSIM), averaged over images."""
    l1: Float[Tensor, "C"]
    ssim: Float[Tensor, "C"] | None
    """None where λ is 0, since it is not computed then."""


def photometric_errors(
    pred: Float[Tensor, "C H W 3"],
    target: Float[Tensor, "C H W 3"],
    ssim_lambda: float = SSIM_LAMBDA,
) -> PhotometricErrors:
    """The standard loss of Gaussian splatting between images in [0, 1], and its parts."""
    l1 = (pred - target).abs().mean(dim=(1, 2, 3))
    if ssim_lambda == 0.0:
        return PhotometricErrors(l1.mean(), l1.detach(), None)
    similarity = structural_similarity(pred, target)
    loss = ((1.0 - ssim_lambda) * l1 + ssim_lambda * (1.0 - similarity)).mean()
    return PhotometricErrors(loss, l1.detach(), similarity.detach())


def photometric_loss(
    pred: Float[Tensor, "C H W 3"],
    target: Float[Tensor, "C H W 3"],
    ssim_lambda: float = SSIM_LAMBDA,
) -> Float[Tensor, ""]:
    """The loss of `photometric_errors`."""
    return photometric_errors(pred, target, ssim_lambda).loss


def structural_similarity(
    pred: Float[Tensor, "C H W 3"], target: Float[Tensor, "C H W 3"]
) -> Float[Tensor, "C"]:
    """SSIM of each image: 11x11 Gaussian window of sigma 1.5, no padding, values in [0, 1].

    Images must have at least 11 pixels along each edge.
    """
    height, width = pred.shape[1:3]
    if min(height, width) < WINDOW:
        raise ValueError(
            f"SSIM looks through a window of {WINDOW} by {WINDOW} pixels, but the images have "
            f"{width} by {height}; use larger images or an ssim_lambda of 0."
        )
    inner = WINDOW // 2
    similarity = similarity_map(pred, target)
    return similarity[:, inner : height - inner, inner : width - inner].mean(dim=(1, 2, 3))


def similarity_map(
    pred: Float[Tensor, "C H W 3"], target: Float[Tensor, "C H W 3"]
) -> Float[Tensor, "C H W 1"]:
    """SSIM at every pixel, averaged over colours; zeros lie around the images."""
    if is_fusible(pred, target):
        window = _gaussian_window(pred.device, pred.dtype)[0].flatten()
        return fused_similarity(pred, target, window, (C1, C2)).mean(-1, keepdim=True)
    return plain_similarity(pred, target)


def is_fusible(pred: Tensor, target: Tensor) -> bool:
    """Whether the kernels compute what is asked for: they know no gradient of the target."""
    switch = os.environ.get(SWITCH)
    return (
        (switch != "0" if pred.is_cuda else switch == "1")
        and pred.dtype == target.dtype == torch.float32
        and not (torch.is_grad_enabled() and target.requires_grad)
        and kernels() is not None
    )


def plain_similarity(
    pred: Float[Tensor, "C H W 3"], target: Float[Tensor, "C H W 3"]
) -> Float[Tensor, "C H W 1"]:
    """`similarity_map` in plain torch, by one convolution of all moments per axis."""
    count = pred.shape[0]
    images = torch.stack([pred, target]).permute(0, 1, 4, 2, 3)
    p, t = images[0], images[1]
    moments = torch.cat([images.flatten(0, 1), images.square().flatten(0, 1), p * t])
    window = _gaussian_window(pred.device, pred.dtype)
    blurred = conv2d(moments, window, padding=(0, WINDOW // 2), groups=3)
    blurred = conv2d(blurred, window.transpose(2, 3), padding=(WINDOW // 2, 0), groups=3)
    means, squares, product = blurred.split([2 * count, 2 * count, count])
    both = means[:count] * means[count:]
    mean_squares = means.square()
    variances = (squares - mean_squares).unflatten(0, (2, count)).sum(0)
    luminance = (2 * both + C1) / (mean_squares.unflatten(0, (2, count)).sum(0) + C1)
    structure = (2 * (product - both) + C2) / (variances + C2)
    return (luminance * structure).mean(1)[..., None]


@cache
@torch.inference_mode(False)  # Cached tensors allow gradients even if first made without.
def _gaussian_window(device: torch.device, dtype: torch.dtype) -> Float[Tensor, "3 1 1 11"]:
    """One row of the window for each colour; cached, since making it costs as much as using it."""
    offsets = torch.arange(WINDOW, device=device, dtype=dtype) - WINDOW // 2
    window = torch.exp(-0.5 * (offsets / 1.5) ** 2)
    return (window / window.sum()).repeat(3, 1, 1, 1)


def smoothness_penalty(values: Float[Tensor, "*s rows columns"]) -> Float[Tensor, ""]:
    """Mean squared second difference of parameters along their rows, which may be times."""
    if values.shape[-2] < 3:
        return values.new_zeros(())
    bend = values[..., 2:, :] - 2.0 * values[..., 1:-1, :] + values[..., :-2, :]
    return bend.square().mean()


# ---- supervision: what a recipe sees of a step ----


def target_image(batch: dict[str, Any], device: torch.device) -> Float[Tensor, "*s 3"]:
    """The ground truth of a batch in [0, 1], from 8 bits or floats."""
    image = batch["image"].to(device)
    return image.float() / 255.0 if image.dtype == torch.uint8 else image.float()


def mask_of(batch: dict[str, Any], device: torch.device) -> Bool[Tensor, "*s 1"] | None:
    """The pixels of a batch that count, where the data tell; None for all."""
    mask = batch.get("mask")
    return None if mask is None else mask.to(device)


def masked(
    image: Float[Tensor, "*s D"], mask: Bool[Tensor, "*m 1"] | None
) -> Float[Tensor, "*s D"]:
    """The image, black where it does not count. Losses get prediction and truth in this way, as in
    nerfstudio's Splatfacto, so these pixels have neither error nor gradient."""
    return image if mask is None else image * mask


def mean_absolute_error(
    pred: Float[Tensor, "*s 3"], target: Float[Tensor, "*s 3"], mask: Bool[Tensor, "*s 1"] | None
) -> Float[Tensor, ""]:
    """L1 over the pixels that count; 0 if none does."""
    error = (pred - target).abs()
    if mask is None:
        return error.mean()
    return masked(error, mask).sum() / (3 * mask.sum()).clamp(min=1)


@dataclass(frozen=True, eq=False)
class TrainingRender:
    """One time of a training step: what was rendered, and what it should look like."""

    render: RenderOutput
    view: View
    image: Float[Tensor, "C H W 3"]
    """Shaded and laid over the background."""
    target: Float[Tensor, "C H W 3"]
    indices: Int[Tensor, "C"]
    """Rows of the frame table."""
    mask: Bool[Tensor, "C H W 1"] | None = None
    """Where image and target count; both are black elsewhere. None for all pixels."""


class Supervision:
    """The training images alone. `mixture.distill` adds those of a teacher."""

    def __init__(self) -> None:
        # One for each weight of D-SSIM, as recipes may alternate between several.
        self._graphed_errors: dict[float, GraphedCallable] = defaultdict(
            lambda: GraphedCallable(photometric_errors)
        )

    def errors(
        self, parts: Sequence[TrainingRender], ssim_lambda: float, step: int
    ) -> PhotometricErrors:
        """Loss of a step, a mean over its images, and the errors that samplers judge them by.

        Images come in the order of `parts`.
        """
        images, targets = (
            cat_or_single([getattr(part, name) for part in parts]) for name in ("image", "target")
        )
        return self.plain_errors(images, targets, ssim_lambda)

    def plain_errors(
        self,
        images: Float[Tensor, "C H W 3"],
        targets: Float[Tensor, "C H W 3"],
        ssim_lambda: float,
    ) -> PhotometricErrors:
        """`photometric_errors` as a graphed callable: consume the result before the next call."""
        return self._graphed_errors[ssim_lambda](images, targets, ssim_lambda)

    def report(self) -> dict[str, Any]:
        """What the record of the training says about it."""
        return {}

    def state(self) -> dict[str, Any]:
        """What a resumed training needs for the same report."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore `state`."""
