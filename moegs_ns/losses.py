"""Losses: what experts, router and students are trained against."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from pytorch_msssim import ssim
from torch import Tensor
from torch.nn.functional import conv2d

SSIM_LAMBDA = 0.2
"""Share of the structural term in the standard loss of Gaussian splatting."""


@dataclass(frozen=True, eq=False)
class PhotometricErrors:
    """Errors of a batch of images, and the loss that is made of them."""

    loss: Float[Tensor, ""]
    """(1 - λ)·L1 + λ·(1 - SSIM), averaged over images."""
    l1: Float[Tensor, "C"]
    ssim: Float[Tensor, "C"] | None
    """Detached from the graph; None where λ is 0, since it is not computed then."""


def photometric_errors(
    pred: Float[Tensor, "C H W 3"],
    target: Float[Tensor, "C H W 3"],
    ssim_lambda: float = SSIM_LAMBDA,
) -> PhotometricErrors:
    """The standard loss of Gaussian splatting between images in [0, 1], and its parts."""
    l1 = (pred - target).abs().mean(dim=(1, 2, 3))
    if ssim_lambda == 0.0:
        return PhotometricErrors(l1.mean(), l1, None)
    similarity = structural_similarity(pred, target)
    loss = ((1.0 - ssim_lambda) * l1 + ssim_lambda * (1.0 - similarity)).mean()
    return PhotometricErrors(loss, l1, similarity.detach())


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
    """SSIM of each image: 11x11 Gaussian window of sigma 1.5, no padding, values in [0, 1]."""
    planar = (image.permute(0, 3, 1, 2) for image in (pred, target))
    return ssim(*planar, data_range=1.0, size_average=False)


def similarity_map(
    pred: Float[Tensor, "C H W 3"], target: Float[Tensor, "C H W 3"]
) -> Float[Tensor, "C H W 1"]:
    """SSIM at every pixel, averaged over colours; zeros lie around the images."""
    count = pred.shape[0]
    images = [image.permute(0, 3, 1, 2) for image in (pred, target)]
    moments = torch.cat([*images, images[0] ** 2, images[1] ** 2, images[0] * images[1]])
    offsets = torch.arange(11, device=pred.device, dtype=pred.dtype) - 5.0
    window = torch.exp(-0.5 * (offsets / 1.5) ** 2)
    window = (window / window.sum()).expand(3, 1, 1, -1)
    blurred = conv2d(moments, window, padding=(0, 5), groups=3)
    blurred = conv2d(blurred, window.transpose(2, 3), padding=(5, 0), groups=3)
    mean_p, mean_t, square_p, square_t, product = blurred.split(count)
    covariance = product - mean_p * mean_t
    variances = square_p - mean_p**2 + square_t - mean_t**2
    luminance = (2 * mean_p * mean_t + 0.01**2) / (mean_p**2 + mean_t**2 + 0.01**2)
    structure = (2 * covariance + 0.03**2) / (variances + 0.03**2)
    return (luminance * structure).mean(1)[..., None]


def distillation_loss(
    pred: Float[Tensor, "C H W 3"],
    target: Float[Tensor, "C H W 3"],
    teacher: Float[Tensor, "C H W 3"],
    gate: Float[Tensor, "C H W 1"],
    lam: float,
    ssim_lambda: float = SSIM_LAMBDA,
) -> Float[Tensor, ""]:
    """Ground truth where the student's gate is high, the mixture's image where it is low (Eq. 11).

    `lam` balances the two terms; `gate` in [0, 1] is the student's share in the teacher's mixture.
    """
    trusted = photometric_loss(gate * pred, gate * target, ssim_lambda)
    doubted = photometric_loss((1.0 - gate) * pred, (1.0 - gate) * teacher, ssim_lambda)
    return lam * trusted + (1.0 - lam) * doubted


def unweighted_distillation_loss(
    pred: Float[Tensor, "C H W 3"],
    target: Float[Tensor, "C H W 3"],
    teacher: Float[Tensor, "C H W 3"],
    lam: float,
    ssim_lambda: float = SSIM_LAMBDA,
) -> Float[Tensor, ""]:
    """Ground truth and the mixture's image at every pixel alike (MoE-GS, appendix G)."""
    truth, taught = (photometric_loss(pred, image, ssim_lambda) for image in (target, teacher))
    return lam * truth + (1.0 - lam) * taught
