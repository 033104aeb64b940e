"""Errors of pixels attributed to the Gaussians that contribute to them (Lee et al., NeurIPS 2024).

A Gaussian's error in a view is the mean error of its pixels, weighted by how much it contributes to
each (alpha times transmittance). The sums over pixels come with the step's own backward pass (see
`splatting.rendering`): the loss gains the inner product of zero-valued probe channels with the
error maps, which is zero and gives no gradient to anything but the probes.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from nerfstudio.configs.base_config import PrintableConfig
from torch import Tensor

from moegs_ns.training.losses import TrainingRender, similarity_map

PUBLISHED_HEIGHT = 1014.0
"""Height in pixels of the images that published sizes on screen refer to."""
MIN_WEIGHT = 0.01
"""Sum of contributions in a view from which its error may be the smallest one of a Gaussian."""
SMALLEST_ALPHA = 1e-3
"""Errors are divided by the accumulation of a pixel; below this value they fade out."""
UNSEEN = -1.0
"""Best frame of a Gaussian that has contributed to no view yet."""
SUMS = ("l1_sums", "ssim_sums", "error_views")
"""Statistics whose quotients are mean errors."""


@dataclass
class ErrorPruneConfig(PrintableConfig):
    """Which Gaussians are removed for their errors; steps are those of the full recipe."""

    start: int = 20000
    """Step after which Gaussians with large errors are removed."""
    every_rounds: int = 5
    """Rounds of densification between two such removals."""
    max_l1: float = 0.08
    """Mean absolute error above which a Gaussian is removed."""
    min_ssim: float = 0.6
    """Mean SSIM below which a Gaussian is removed."""
    max_fraction: float = 0.02
    """Largest fraction of the Gaussians of either kind that a removal takes, worst first. Published
    without it, but after few steps everything may be above the bounds."""
    visibility_start: int = 6000
    """Step after which every finished pass over the images removes what hardly showed in it."""
    min_radius: float = 5.0
    """Smallest radius on screen, in pixels of images 1014 high, that any view may have shown since
    the last round of densification."""


NUM_SUMS = 3
"""Probe channels of a Gaussian: the sums of its contributions, of their L1 and of their SSIM."""


def probe_loss(part: TrainingRender, with_similarity: bool) -> Float[Tensor, ""]:
    """Zero, whose gradient in the probe channels of `part` is what `update_statistics` reads.

    SSIM counts as 0 unless it is asked for, as it is costly.
    """
    return (part.render.gaussian_features * error_maps(part, with_similarity)).sum()


@torch.no_grad()
def error_maps(part: TrainingRender, with_similarity: bool) -> Float[Tensor, "C H W 3"]:
    """One, L1 and SSIM at every pixel, the latter two over the pixel's accumulation."""
    image, target = part.image.detach(), part.target
    l1 = (image - target).abs().mean(-1, keepdim=True)
    ssim = similarity_map(image, target) if with_similarity else torch.zeros_like(l1)
    accumulation = part.render.alpha.detach().clamp(min=SMALLEST_ALPHA)
    return torch.cat([torch.ones_like(l1), l1 / accumulation, ssim / accumulation], dim=-1)


def fresh_statistics(count: int) -> dict[str, Float[Tensor, "N"]]:
    """Statistics of Gaussians that have not been seen, to be kept beside the screen gradients."""
    initial = dict.fromkeys(SUMS, 0.0)
    initial |= {"best_errors": torch.inf, "best_frames": UNSEEN, "smallest_radii": torch.inf}
    return {name: torch.full((count,), value) for name, value in initial.items()}


@torch.no_grad()
def update_statistics(
    statistics: dict[str, Tensor],
    errors: Float[Tensor, "N 3"],
    radii: Int[Tensor, "N"],
    frame: Int[Tensor, ""],
    height: int,
) -> None:
    """Take note of one time: mean errors, the smallest one and its frame, smallest radius.

    `errors` are the gradients of the probe channels, radii and `height` in pixels.
    """
    weights, l1, ssim = errors.unbind(-1)
    is_seen = weights > 0
    safe = torch.where(is_seen, weights, 1.0)
    l1 = l1 / safe
    for name, value in zip(SUMS, (l1, ssim / safe, torch.ones_like(l1)), strict=True):
        statistics[name] += torch.where(is_seen, value, 0.0)
    is_best = (weights > MIN_WEIGHT) & (l1 < statistics["best_errors"])
    statistics["best_errors"] = torch.where(is_best, l1, statistics["best_errors"])
    statistics["best_frames"] = torch.where(is_best, frame.to(l1), statistics["best_frames"])
    sizes = torch.where(is_seen & (radii > 0), radii / height, torch.inf)
    statistics["smallest_radii"] = torch.minimum(statistics["smallest_radii"], sizes)


def has_large_errors(statistics: dict[str, Tensor], config: ErrorPruneConfig) -> Bool[Tensor, "N"]:
    """Gaussians whose mean error is beyond the bounds; those without a similarity have none."""
    views = statistics["error_views"].clamp(min=1.0)
    l1, ssim = statistics["l1_sums"] / views, statistics["ssim_sums"] / views
    # Errors in units of their bounds, so that one number says how bad a Gaussian is.
    badness = torch.where(ssim > 0.0, config.min_ssim / ssim, 0.0).maximum(l1 / config.max_l1)
    is_bad, largest = badness > 1.0, int(config.max_fraction * len(badness))
    if int(is_bad.sum()) > largest:
        is_bad = torch.zeros_like(is_bad)
        is_bad[badness.topk(largest).indices] = True
    return is_bad


def hardly_shows(statistics: dict[str, Tensor], config: ErrorPruneConfig) -> Bool[Tensor, "N"]:
    """Gaussians that never contributed, or that some view has shown very small."""
    is_small = statistics["smallest_radii"] < config.min_radius / PUBLISHED_HEIGHT
    return is_small | (statistics["best_frames"] == UNSEEN)
