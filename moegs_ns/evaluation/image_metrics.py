"""Metrics of images, which are clamped to [0, 1] and rounded to 8 bits first."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from moegs_ns.evaluation.perceptual import convention_metrics, lpips
from moegs_ns.training.losses import (
    WINDOW,
    mask_of,
    masked,
    similarity_map,
    structural_similarity,
    target_image,
)


def image_metrics(
    rgb: Float[Tensor, "H W 3"], batch: dict[str, Any]
) -> tuple[dict[str, float], Float[Tensor, "H W 3"]]:
    """PSNR, SSIM, PSNR over moving pixels and, with weights at hand, LPIPS; and the ground truth.

    With a mask only its pixels count, and the others are black in both images: PSNR is that of the
    pixels that count, SSIM the mean of its map there, and LPIPS that of the whole image. There is
    no `psnr_dynamic` where nothing that counts moves, and no figure where nothing counts.
    """
    truth, mask = target_image(batch, rgb.device), mask_of(batch, rgb.device)
    if mask is not None and not bool(mask.any()):
        return {}, truth
    image, target = masked(quantize(rgb), mask), masked(truth, mask)
    metrics = {"psnr": float(psnr(image, target, mask))}
    if mask is None or bool(away_from_border(mask).any()):
        metrics["ssim"] = float(ssim(image, target, mask))
    if "is_moving" in batch:
        moving = batch["is_moving"].to(rgb.device)
        moving = moving if mask is None else moving & mask
        if bool(moving.any()):
            metrics["psnr_dynamic"] = float(psnr(image, target, moving))
    distance = lpips(image, target)
    if distance is not None:
        metrics["lpips_alex"] = distance
    return metrics, truth


def all_metrics(rgb: Float[Tensor, "H W 3"], batch: dict[str, Any]) -> dict[str, float]:
    """`image_metrics` and those of `convention_metrics`: of an image that is reported itself."""
    metrics, truth = image_metrics(rgb, batch)
    if not metrics:
        return {}
    mask = mask_of(batch, rgb.device)
    return metrics | convention_metrics(masked(quantize(rgb), mask), masked(truth, mask))


def scalar_psnr(
    rgb: Float[Tensor, "*s 3"],
    target: Float[Tensor, "*s 3"],
    mask: Bool[Tensor, "*s 1"] | None = None,
) -> Float[Tensor, ""]:
    """PSNR of the training image, for logs."""
    return psnr(rgb.detach().clamp(0.0, 1.0), target, mask)


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


def ssim(
    pred: Float[Tensor, "H W 3"],
    target: Float[Tensor, "H W 3"],
    mask: Bool[Tensor, "H W 1"] | None = None,
) -> Float[Tensor, ""]:
    """Structural similarity with the window of `losses.structural_similarity`, over the masked
    pixels away from the border; windows reach beyond the mask."""
    if mask is None:
        return structural_similarity(pred[None], target[None])[0]
    return similarity_map(pred[None], target[None])[0][away_from_border(mask)].mean()


def away_from_border(mask: Bool[Tensor, "H W 1"]) -> Bool[Tensor, "H W 1"]:
    """The pixels of a mask whose windows of SSIM lie within the image."""
    edge, inside = WINDOW // 2, torch.zeros_like(mask)
    inside[edge : len(mask) - edge, edge : mask.shape[1] - edge] = True
    return mask & inside
