"""Metrics of images, which are clamped to [0, 1] and rounded to 8 bits first."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from moegs_ns.evaluation.perceptual import convention_metrics, lpips
from moegs_ns.training.losses import structural_similarity, target_image


def image_metrics(
    rgb: Float[Tensor, "H W 3"], batch: dict[str, Any]
) -> tuple[dict[str, float], Float[Tensor, "H W 3"]]:
    """PSNR, SSIM, PSNR over moving pixels and, with weights at hand, LPIPS; and the ground truth.

    `psnr_dynamic` is NaN where nothing moves.
    """
    target, image = target_image(batch, rgb.device), quantize(rgb)
    metrics = {"psnr": float(psnr(image, target)), "ssim": float(ssim(image, target))}
    if "is_moving" in batch:
        mask = batch["is_moving"].to(rgb.device)
        metrics["psnr_dynamic"] = float(psnr(image, target, mask))
    distance = lpips(image, target)
    if distance is not None:
        metrics["lpips_alex"] = distance
    return metrics, target


def all_metrics(rgb: Float[Tensor, "H W 3"], batch: dict[str, Any]) -> dict[str, float]:
    """`image_metrics` and those of `convention_metrics`: of an image that is reported itself."""
    metrics, target = image_metrics(rgb, batch)
    return metrics | convention_metrics(quantize(rgb), target)


def scalar_psnr(rgb: Float[Tensor, "*s 3"], target: Float[Tensor, "*s 3"]) -> Float[Tensor, ""]:
    """PSNR of the training image, for logs."""
    return psnr(rgb.detach().clamp(0.0, 1.0), target)


def quantize(image: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """The values of the image in an 8-bit file, still in [0, 1]."""
    return (image.clamp(0.0, 1.0) * 255.0).round() / 255.0


def psnr(
    pred: Float[Tensor, "*s 3"],
    target: Float[Tensor, "*s 3"],
    mask: Bool[Tensor, "*s 1"] | None = None,
) -> Float[Tensor, ""]:
    """Peak signal-to-noise ratio in dB, over the masked pixels; NaN for an empty mask."""
    error = (pred - target).square()
    if mask is not None:
        error = error[mask.expand_as(error)]
    return decibels(error.mean())


def decibels(error: Float[Tensor, "*e"]) -> Float[Tensor, "*e"]:
    """PSNR in dB of mean squared errors of values in [0, 1]."""
    return -10.0 * torch.log10(error)


def ssim(pred: Float[Tensor, "H W 3"], target: Float[Tensor, "H W 3"]) -> Float[Tensor, ""]:
    """Structural similarity with the window of `losses.structural_similarity`."""
    return structural_similarity(pred[None], target[None])[0]
