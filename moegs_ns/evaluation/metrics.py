"""Measures of images, which are clamped to [0, 1] and rounded to 8 bits first, and of depth."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor
from torch.nn.functional import grid_sample

from moegs_ns.cameras import View
from moegs_ns.splatting.projection import MEDIAN_TRANSMITTANCE
from moegs_ns.training.losses import structural_similarity

LPIPS_WEIGHTS = "alexnet-owt-7be5be79.pth"
"""File of torchvision's AlexNet, the trunk of LPIPS."""
SOLID = 1.0 - MEDIAN_TRANSMITTANCE
"""Opacity from which a pixel shows a surface, and has a median depth; others are not compared."""
OCCLUSION_MARGIN = 0.05
"""A point that lies behind what a view shows by more than this share of its depth is hidden."""
BORDER_PIXELS = 1e-3
"""Points may leave the outermost pixel centres by this much, which is rounding."""


def quantize(image: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """What an 8-bit file of the image would hold, still in [0, 1]."""
    return (image.clamp(0.0, 1.0) * 255.0).round() / 255.0


def psnr(
    pred: Float[Tensor, "H W 3"],
    target: Float[Tensor, "H W 3"],
    mask: Bool[Tensor, "H W 1"] | None = None,
) -> Float[Tensor, ""]:
    """Peak signal-to-noise ratio in dB, over the masked pixels; NaN for an empty mask."""
    error = (pred - target).square()
    if mask is not None:
        error = error[mask.expand_as(error)]
    return -10.0 * torch.log10(error.mean())


def ssim(pred: Float[Tensor, "H W 3"], target: Float[Tensor, "H W 3"]) -> Float[Tensor, ""]:
    """Structural similarity with the window of `losses.structural_similarity`."""
    return structural_similarity(pred[None], target[None])[0]


def lpips_weights_path() -> Path:
    """Where the trunk of LPIPS belongs; nothing is ever downloaded."""
    return Path(torch.hub.get_dir()) / "checkpoints" / LPIPS_WEIGHTS


def lpips(pred: Float[Tensor, "H W 3"], target: Float[Tensor, "H W 3"]) -> float | None:
    """Learned perceptual distance (AlexNet, inputs in [-1, 1]); None where weights are missing."""
    network = _lpips_network(os.fspath(lpips_weights_path()), str(pred.device))
    if network is None:
        return None
    with torch.no_grad():
        return float(network(*(image.permute(2, 0, 1)[None] for image in (pred, target))))


@cache
def _lpips_network(weights: str, device: str) -> Callable[[Tensor, Tensor], Tensor] | None:
    """The metric, built once a process and kept out of every state dict."""
    if not Path(weights).is_file():
        CONSOLE.print(
            f"LPIPS is not reported: its weights are missing; put torchvision's {LPIPS_WEIGHTS} "
            f"at {weights}."
        )
        return None
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    return LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True).to(device)


@dataclass(frozen=True, eq=False)
class DepthConsistency:
    """How well depth maps of one instant agree (MDC, Eq. 16)."""

    error: Float[Tensor, ""]
    """Mean over view pairs of the mean absolute difference, in world units; NaN without any."""
    num_pairs: int
    """Ordered pairs of views that see something in common."""
    share: float
    """Part of the solid pixels of all pairs that were compared."""


def multiview_depth_consistency(
    depths: Float[Tensor, "C H W 1"],
    view: View,
    alphas: Float[Tensor, "C H W 1"] | None = None,
) -> DepthConsistency:
    """Mean reprojection error of depth over all ordered pairs of views at one instant (Eq. 16).

    Every solid pixel of a view is lifted to its depth and projected into the other view. Its depth
    there is compared with the one that is shown there, interpolated linearly in the inverse depth,
    which is exact on planes; median depths are those of whole Gaussians and have small steps even
    there. Not compared are points outside the outermost pixel centres or behind the camera, points
    with a pixel around them that is not solid, and points that lie behind what is shown by more
    than `OCCLUSION_MARGIN`, since something may hide them. A wrong surface is found all the same:
    in the opposite pair it lies in front. The paper states no rule for these.

    Args:
        depths: along the optical axis in world units, expected (divided by alpha) or median; not
            positive where there is no surface, which is then not compared. The paper does not
            say which it means.
        view: cameras of the depth maps.
        alphas: opacity; pixels below `SOLID` are not solid. None takes all positive depths, as
            befits median depths, which are 0 in just these pixels.
    """
    view.assert_one_instant()
    is_solid = depths[..., 0] > 0
    if alphas is not None:
        is_solid = is_solid & (alphas[..., 0] >= SOLID)
    # Interpolation with a pixel that is not solid gives NaN, which is not compared.
    inverse = torch.where(is_solid, 1.0 / depths[..., 0], torch.nan)
    origins, directions = view.rays()
    forward = view.viewmats[:, None, None, 2, :3]
    lengths = depths / (directions * forward).sum(-1, keepdim=True)
    points = origins + lengths * directions
    errors, compared = [], 0
    for source in range(len(view)):
        error = _reprojection_errors(points[source], inverse, view)
        is_counted = is_solid[source] & error.isfinite()
        is_counted[source] = False
        counts = is_counted.sum((1, 2))
        sums = torch.where(is_counted, error, 0.0).sum((1, 2))
        errors.append((sums / counts)[counts > 0])
        compared += int(counts.sum())
    pairs = torch.cat(errors)
    solid = int(is_solid.sum()) * (len(view) - 1)
    return DepthConsistency(pairs.mean(), len(pairs), compared / solid if solid else 0.0)


def _reprojection_errors(
    points: Float[Tensor, "H W 3"], inverse: Float[Tensor, "C H W"], view: View
) -> Float[Tensor, "C H W"]:
    """Absolute difference of depth of each point in every view; NaN where it is not compared."""
    rotation, translation = view.viewmats[:, :3, :3], view.viewmats[:, :3, 3]
    seen = torch.einsum("cij,hwj->chwi", rotation, points) + translation[:, None, None]
    z = seen[..., 2]
    focal, middle = view.Ks[:, (0, 1), (0, 1)], view.Ks[:, :2, 2]
    pixels = focal[:, None, None] * seen[..., :2] / z[..., None] + middle[:, None, None]
    size = pixels.new_tensor([view.width, view.height])
    low, high = 0.5 - BORDER_PIXELS, size - 0.5 + BORDER_PIXELS
    is_inside = ((pixels >= low) & (pixels <= high)).all(-1) & (z > 0)
    grid = torch.where(is_inside[..., None], 2.0 * pixels / size - 1.0, 0.0)
    shown = grid_sample(inverse[:, None], grid, padding_mode="border", align_corners=False)
    shown = 1.0 / shown[:, 0]
    is_compared = is_inside & (z - shown <= OCCLUSION_MARGIN * shown)
    return torch.where(is_compared, (z - shown).abs(), torch.nan)
