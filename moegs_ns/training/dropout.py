"""Gaussians that are left out of training steps at random (DropGaussian, CVPR 2025), so that none
relies on others that hide it in all training views."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool
from torch import Tensor

from moegs_ns.splatting import ProjectedGaussians
from moegs_ns.splatting.projection import tighten_extents


@dataclass
class DropoutConfig:
    """How many Gaussians are left out of a training step; never of any other image."""

    fraction: float = 0.0
    """Share that is left out in the end, which rises from 0; published as 0.2 for three to nine
    views. 0 for none."""
    steps: int = 30000
    """Steps of the full recipe over which the share rises."""

    def check(self) -> None:
        """Raise ValueError if nothing would be left."""
        if not 0.0 <= self.fraction < 1.0:
            raise ValueError(
                "--pipeline.model.recipe.dropout.fraction expects a share of at least 0 and below "
                f"1, got {self.fraction}; 0 is for none."
            )

    def at(self, step: int, steps: int) -> float:
        """Share that is left out at `step` if it rises over `steps` of this run."""
        return self.fraction * min(1.0, step / steps)


def keep_some(
    projected: ProjectedGaussians, is_kept: Bool[Tensor, "N"], fraction: float
) -> ProjectedGaussians:
    """The marked Gaussians, as opaque as makes up for a fraction that is left out.

    The others are as culled, in all cameras: they have no radius, so they count as not seen.
    """
    projection = projected.projection
    kept = is_kept[projection.gaussian_ids]
    opacities = projection.opacities * (kept / (1.0 - fraction))
    changed = replace(
        projection,
        # Nothing may be more opaque than opaque.
        opacities=opacities.clamp(max=1.0),
        radii=torch.where(kept, projection.radii, 0),
    )
    return replace(projected, projection=tighten_extents(changed))
