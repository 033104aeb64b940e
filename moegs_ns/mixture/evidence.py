"""What training images say of every Gaussian: how well it explains them, and how many see it.

On unseen views this predicts whom to trust (PRIMU, arXiv 2508.02443, splats errors and coverage of
primitives to predict errors of pixels).
"""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from moegs_ns.cameras import View
from moegs_ns.gaussians import Gaussians
from moegs_ns.mixture.mixture import Mixture
from moegs_ns.mixture.responsibilities import (
    NO_VIEWS,
    OwnViews,
    as_given,
    own_contributions,
    rendered_views,
)

Evidence = dict[str, Float[Tensor, "_"]]
"""By the names of `routers.EVIDENCE`, one entry per Gaussian of an expert's full set: `error`, the
logarithm of the mean squared error of the pixels that it shows; `coverage`, the logarithm of 1 plus
the number of cameras that see it; `unseen`, 1 if none does; `size`, the logarithm of its largest
standard deviation as an angle in radians."""
Recorded = Callable[[Float[Tensor, "E H W 3"], View], Float[Tensor, "E H W 3"]]

MIN_CONTRIBUTION = 1e-3
"""Sum of transmittance times opacity over all pixels, below which a Gaussian counts as unseen."""
MIN_ERROR = 1e-5
"""Squared error, in colours of [0, 1], that is added before the logarithm."""
UNSEEN_ERROR = 0.02
"""Mean squared error that Gaussians stand for which nothing is known of."""
MIN_SIZE = 1e-4
"""Angle in radians that is added before the logarithm."""


class _Sums:
    """Sums over the pixels of all images for one expert's Gaussians, weighted by T·alpha."""

    def __init__(self, zeros: Float[Tensor, "N"]) -> None:
        self.zeros = zeros
        self.contributions: dict[int, Float[Tensor, "N"]] = {}
        """Of each camera by its number."""
        self.errors, self.sizes = zeros.clone(), zeros.clone()

    def add(self, found: Float[Tensor, "n 2"], gaussians: Gaussians, view: View) -> None:
        """Add an image: contributions, and those times errors."""
        weights, errors = found.unbind(1)
        distances = (gaussians.means - view.positions[0]).norm(dim=1)
        angles = gaussians.scales.amax(1) / distances.clamp(min=1e-12) + MIN_SIZE
        ids = slice(None) if gaussians.ids is None else gaussians.ids
        camera = int(view.camera_ids[0])
        self.contributions.setdefault(camera, self.zeros.clone())[ids] += weights
        self.errors[ids] += errors
        self.sizes[ids] += weights * angles.log()

    def evidence(self) -> Evidence:
        """The means."""
        contributions = torch.stack(list(self.contributions.values()), dim=1)
        total = contributions.sum(1)
        is_seen = total > MIN_CONTRIBUTION
        safe = torch.where(is_seen, total, 1.0)
        error = torch.where(is_seen, self.errors / safe, UNSEEN_ERROR)
        # Cameras that see little of it count little: 1 / Σ p² of the shares p of all cameras.
        shares = contributions / safe[:, None]
        cameras = torch.where(is_seen, 1.0 / shares.square().sum(1).clamp(min=1e-12), 0.0)
        sizes = self.sizes / safe
        mean_size = sizes[is_seen].mean() if bool(is_seen.any()) else sizes.new_zeros(())
        return {
            "error": (error + MIN_ERROR).log(),
            "coverage": cameras.log1p(),
            "unseen": (~is_seen).float(),
            "size": torch.where(is_seen, sizes, mean_size),
        }


@torch.no_grad()
def measure_evidence(
    mixture: Mixture,
    images: Iterable[tuple[View, Float[Tensor, "H W 3"]]],
    own_views: OwnViews = as_given,
    recorded: Recorded = lambda images, view: images,
) -> list[Evidence]:
    """The evidence of each expert's Gaussians, from training images of their training.

    Args:
        images: views of one camera each with its number, on the mixture's device, and the ground
            truth in [0, 1], NaN at pixels that do not count.
        recorded: the experts' images as the view's camera records them.

    Raises:
        ValueError: there are no images.
    """
    sums: list[_Sums] = []
    for view, target in images:
        if not sums:
            counts = [expert.num_gaussians for expert in mixture.experts]
            sums = [_Sums(target.new_zeros(count)) for count in counts]
        (rendered,) = rendered_views(mixture, [view], own_views)
        errors = (recorded(rendered.render.images, view) - target).square().mean(-1, keepdim=True)
        maps = torch.cat([torch.ones_like(errors), errors], dim=-1)
        maps = torch.where(target[..., :1].isnan(), 0.0, maps)
        found = own_contributions(mixture, rendered, maps)
        for own, part, value, seen in zip(
            sums, rendered.gaussians, found, rendered.own_views, strict=True
        ):
            own.add(value, part, seen)
    if not sums:
        raise ValueError(NO_VIEWS)
    return [each.evidence() for each in sums]
