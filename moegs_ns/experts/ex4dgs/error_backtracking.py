"""Errors of pixels attributed to the Gaussians that contribute to them (Lee et al., NeurIPS 2024).

A Gaussian's error in a view is the mean error of its pixels, weighted by how much it contributes to
each (alpha times transmittance). The sums over pixels come with the step's own backward pass (see
`splatting.contributions`): Gaussians carry zero-valued probe channels, and the loss gains their
inner product with the error maps, which is zero. As the probes are zero, nothing else receives a
gradient from it.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from nerfstudio.configs.base_config import PrintableConfig
from torch import Tensor

from moegs_ns.splatting import ProjectedGaussians
from moegs_ns.splatting.contributions import zero_probes
from moegs_ns.training.losses import similarity_map
from moegs_ns.training.supervision import TrainingRender

PUBLISHED_HEIGHT = 1014.0
"""Height in pixels of the images that published sizes on screen refer to."""
MIN_WEIGHT = 0.01
"""Sum of contributions in a view from which its error may be the smallest one of a Gaussian."""
SMALLEST_ALPHA = 1e-3
"""Errors are divided by the accumulation of a pixel; below this value they fade out."""
UNSEEN = -1.0
"""Best frame of a Gaussian that has contributed to no view yet."""


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


@dataclass(frozen=True, eq=False)
class GaussianErrors:
    """Sums over the pixels of one time, weighted by each Gaussian's contributions."""

    weights: Float[Tensor, "N"]
    """Sum of the contributions themselves."""
    l1: Float[Tensor, "N"]
    ssim: Float[Tensor, "N"]

    def select(self, rows: slice) -> "GaussianErrors":
        """The sums of some Gaussians."""
        return GaussianErrors(self.weights[rows], self.l1[rows], self.ssim[rows])


def with_probes(projected: ProjectedGaussians) -> ProjectedGaussians:
    """The same Gaussians with probe channels, whose gradients are sums over pixels."""
    return replace(projected, probes=zero_probes(projected.count, 3, like=projected.channels))


def tracing_loss(part: TrainingRender, with_similarity: bool) -> Float[Tensor, ""]:
    """Zero, whose gradient in the probe channels of `part` is what `gaussian_errors` reads.

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


def gaussian_errors(part: TrainingRender) -> GaussianErrors | None:
    """What the backward pass has left in the probe channels; None if it has not been run."""
    probes = part.render.projected.probes
    if probes is None or probes.grad is None:
        return None
    return GaussianErrors(*probes.grad.unbind(-1))


def fresh_statistics(count: int, device: torch.device) -> dict[str, Float[Tensor, "N"]]:
    """Statistics of Gaussians that have not been seen, to be kept beside the screen gradients."""
    zeros = {name: torch.zeros(count, device=device) for name in _SUMS}
    return zeros | {
        "best_errors": torch.full((count,), torch.inf, device=device),
        "best_frames": torch.full((count,), UNSEEN, device=device),
        "smallest_radii": torch.full((count,), torch.inf, device=device),
    }


_SUMS = ("l1_sums", "ssim_sums", "error_views")


@torch.no_grad()
def update_statistics(
    statistics: dict[str, Tensor],
    errors: GaussianErrors,
    radii: Int[Tensor, "N"],
    frame: Int[Tensor, ""],
    height: int,
) -> None:
    """Take note of one time: mean errors, the smallest one and its frame, smallest radius."""
    is_seen = errors.weights > 0
    safe = torch.where(is_seen, errors.weights, 1.0)
    l1 = errors.l1 / safe
    for name, value in zip(_SUMS, (l1, errors.ssim / safe, torch.ones_like(l1)), strict=True):
        statistics[name] += torch.where(is_seen, value, 0.0)
    is_best = (errors.weights > MIN_WEIGHT) & (l1 < statistics["best_errors"])
    statistics["best_errors"] = torch.where(is_best, l1, statistics["best_errors"])
    statistics["best_frames"] = torch.where(is_best, frame.to(l1), statistics["best_frames"])
    sizes = torch.where(is_seen & (radii > 0), radii / height, torch.inf)
    statistics["smallest_radii"] = torch.minimum(statistics["smallest_radii"], sizes)


def reset_sums(statistics: dict[str, Tensor]) -> None:
    """Begin new means of the errors."""
    for name in _SUMS:
        statistics[name].zero_()


def reset_radii(statistics: dict[str, Tensor]) -> None:
    """Begin to look for the smallest radii anew."""
    statistics["smallest_radii"].fill_(torch.inf)


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
