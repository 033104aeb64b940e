"""What both models report about a rendered image."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from moegs_ns.evaluation.metrics import lpips, psnr, quantize, ssim


def target_image(batch: dict[str, Any], device: torch.device) -> Float[Tensor, "*s 3"]:
    """The ground truth of a batch in [0, 1], from 8 bits or floats."""
    image = batch["image"].to(device)
    return image.float() / 255.0 if image.dtype == torch.uint8 else image.float()


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
        metrics["lpips"] = distance
    return metrics, target


def scalar_psnr(rgb: Float[Tensor, "*s 3"], target: Float[Tensor, "*s 3"]) -> Float[Tensor, ""]:
    """PSNR of the training image, for logs."""
    return psnr(rgb.detach().clamp(0.0, 1.0), target)
