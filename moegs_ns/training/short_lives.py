"""Growth that sees short lives: which views count for a Gaussian when its screen gradients are
averaged, and from which gradient on one that is visible for a short time is refined.

In 3D Gaussian splatting a view counts that contains a Gaussian. Where opacity depends on time, most
of these views show nothing of a Gaussian of short life, and pull its mean gradient to zero.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from moegs_ns.splatting import RenderOutput

LEAST_VISIBILITY = 0.05
"""Factor on opacity below which a Gaussian counts as invisible at a time, as in TAD-GS."""


class ContainedViews:
    """Every view that contains a Gaussian counts, also while it is invisible."""

    needs_visibility = False
    """Whether `weights` reads how visible the Gaussians are at the time."""

    def weights(
        self, render: RenderOutput, visibility: Float[Tensor, "N"] | None
    ) -> Bool[Tensor, "C N"] | Float[Tensor, "C N"]:
        """How much each view counts for each Gaussian. `visibility` are the factors that time has
        on their opacities; None where there are none."""
        return render.radii > 0


class DrawnViews(ContainedViews):
    """Views count in which a Gaussian is opaque enough to change a pixel."""

    def weights(
        self, render: RenderOutput, visibility: Float[Tensor, "N"] | None
    ) -> Bool[Tensor, "C N"]:
        return super().weights(render, visibility) & (render.extents > 0)


class VisibilityWeights(ContainedViews):
    """Views count by how visible a Gaussian is at their time (TAD-GS, 2606.23212; 4D-Scaffold,
    2411.17044).

    4D-Scaffold also divides by the temporal width, which sets the Gaussians of one anchor against
    each other; in the mean of a single one it cancels.
    """

    needs_visibility = True

    def weights(
        self, render: RenderOutput, visibility: Float[Tensor, "N"] | None
    ) -> Float[Tensor, "C N"]:
        assert visibility is not None
        is_visible = visibility >= LEAST_VISIBILITY
        return super().weights(render, visibility) * torch.where(is_visible, visibility, 0.0)


Counted = Literal["contained", "drawn", "by-visibility"]
COUNTED: dict[Counted, ContainedViews] = {
    "contained": ContainedViews(),
    "drawn": DrawnViews(),
    "by-visibility": VisibilityWeights(),
}


@dataclass
class LifeThresholdConfig:
    """A lower threshold of refinement for Gaussians that are visible for a short time."""

    share: float = 1.0
    """Share of `grow_grad2d` at which a Gaussian of no duration is refined; that of one that is
    visible all the time is 1. TAD-GS has 0.75; 1 for the same threshold whatever the life."""
    exponent: float = 0.8
    """Power of the life, in clips, by which the threshold rises, as in TAD-GS."""

    @property
    def is_on(self) -> bool:
        """Whether the threshold depends on the life."""
        return self.share != 1.0

    def check(self) -> None:
        """Raise ValueError for a share by which everything, or only long lives, would grow."""
        if not 0.0 < self.share <= 1.0:
            raise ValueError(
                "--pipeline.model.recipe.densification.life-threshold.share expects a number above "
                f"0 and at most 1, got {self.share}; 1 is for one threshold."
            )

    def factors(self, life_spans: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
        """Factors on the threshold of Gaussians that are visible for these parts of the clip."""
        return self.share + (1.0 - self.share) * life_spans**self.exponent
