"""Metrics of images, which are clamped to [0, 1] and rounded to 8 bits first."""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from moegs_ns.training.losses import structural_similarity, target_image

LPIPS_WEIGHTS = "alexnet-owt-7be5be79.pth"
"""File of torchvision's AlexNet, the trunk of LPIPS."""


def image_metrics(
    rgb: Float[Tensor, "H W 3"], batch: dict[str, Any]
) -> tuple[dict[str, float], Float[Tensor, "H W 3"]]:
    """PSNR, SSIM, PSNR over moving pixels and, with weights at hand, LPIPS; and the ground truth.

    There is no `psnr_dynamic` where nothing moves.
    """
    target, image = target_image(batch, rgb.device), quantize(rgb)
    metrics = {"psnr": float(psnr(image, target)), "ssim": float(ssim(image, target))}
    if "is_moving" in batch:
        mask = batch["is_moving"].to(rgb.device)
        if bool(mask.any()):
            metrics["psnr_dynamic"] = float(psnr(image, target, mask))
    distance = lpips(image, target)
    if distance is not None:
        metrics["lpips"] = distance
    return metrics, target


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


def lpips_weights_path() -> Path:
    """Where the trunk of LPIPS belongs; nothing is ever downloaded."""
    return Path(torch.hub.get_dir()) / "checkpoints" / LPIPS_WEIGHTS


def lpips(pred: Float[Tensor, "H W 3"], target: Float[Tensor, "H W 3"]) -> float | None:
    """Learned perceptual distance (AlexNet); None where its weights are missing."""
    network = _lpips_network(os.fspath(lpips_weights_path()), str(pred.device))
    if network is None:
        return None
    with torch.no_grad():
        return float(network(*(image.permute(2, 0, 1)[None] for image in (pred, target))))


@cache
def _lpips_network(weights: str, device: str) -> Callable[[Tensor, Tensor], Tensor] | None:
    """The metric, built once per process and in no module's state dict."""
    if not Path(weights).is_file():
        CONSOLE.print(
            f"LPIPS is not reported: its weights are missing; put torchvision's {LPIPS_WEIGHTS} "
            f"at {weights}."
        )
        return None
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    return LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True).to(device)
