"""How rigidly Gaussians move with their neighbours (Luiten et al., 3DV 2024, section 3.3).

Lengths are in units of the spacing of Gaussians, where the published ones are in metres.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from gsplat.utils import normalized_quat_to_rotmat
from jaxtyping import Float, Int
from torch import Tensor

from moegs_ns.experts.keyframes import Poses
from moegs_ns.experts.nearest import nearest_others

SPACING_OF = 3
"""Nearest neighbours whose distance is the spacing, as that of initial sizes."""
SPREAD = 2.0
"""Distance at which a neighbour's weight falls to exp(-1/2), in spacings; the published weight,
exp(-2000 d²) of metres, falls so over 1.6 cm."""
SMALLEST_SPACING = 1e-6
"""Spacing of Gaussians at the same place, as a fraction of the reach of the search."""
SOFT = 1e-3
"""Errors below this are weighed by their squares: rounding must not push anything."""


@dataclass(frozen=True, eq=False)
class Neighbourhoods:
    """The nearest neighbours of each of N Gaussians, as they were when it was made."""

    others: Int[Tensor, "N k"]
    weights: Float[Tensor, "N k"]
    """Fall with the distance, and sum to 1 for each Gaussian; 0 for a neighbour beyond reach."""
    spacings: Float[Tensor, "N"]
    """Distance of the nearest few, in world units."""

    def state(self) -> dict[str, Any]:
        """For checkpoints."""
        return {name: value.cpu() for name, value in vars(self).items()}

    @staticmethod
    def from_state(state: dict[str, Any], device: torch.device) -> "Neighbourhoods":
        """The inverse of `state`."""
        return Neighbourhoods(**{name: value.to(device) for name, value in state.items()})


@torch.no_grad()
def find_neighbourhoods(paths: Float[Tensor, "N T 3"], count: int, reach: float) -> Neighbourhoods:
    """The `count` nearest neighbours by the distance over T times, root mean square, so that what
    merely passes by is none. Those beyond `reach`, in world units, may be missing."""
    points = paths.flatten(1) / math.sqrt(paths.shape[1])
    distances, others = nearest_others(points, count, reach)
    nearest = distances[:, :SPACING_OF]
    if nearest.shape[1] == 0:
        nearest = nearest.new_full((len(points), 1), torch.inf)
    spacings = nearest.clamp(max=reach).square().mean(1).sqrt().clamp(min=SMALLEST_SPACING * reach)
    weights = torch.exp(-0.5 * (distances / (SPREAD * spacings[:, None])).square())
    weights = weights / weights.sum(1, keepdim=True).clamp(min=1e-12)
    return Neighbourhoods(others, weights, spacings)


@dataclass(frozen=True, eq=False)
class MotionErrors:
    """Weighted means over all pairs of neighbours; 0 where all move as one rigid thing."""

    rigidity: Float[Tensor, ""]
    """How far neighbours are from where a Gaussian's own turn would bring them, in spacings."""
    rotation: Float[Tensor, ""]
    """How differently they turn: half the angle, in radians, where it is small."""
    isometry: Float[Tensor, ""]
    """How much their distance changes, in spacings."""


def motion_errors(
    now: Poses, soon: Poses, other: Poses, neighbours: Neighbourhoods
) -> MotionErrors:
    """Rigidity and rotation from one time to a near one, isometry to any other time.

    Published are the frame before for the former, which is the same pair of times, and the first
    frame for the latter: there it is trained before all others, here no frame is.
    """
    others, spacings = neighbours.others, neighbours.spacings[:, None]
    rotation_now, rotation_soon = (normalized_quat_to_rotmat(p.quats) for p in (now, soon))
    apart, apart_soon, apart_other = (
        _rows(p.means, others) - p.means[:, None] for p in (now, soon, other)
    )
    turns = rotation_soon @ rotation_now.mT
    carried = torch.einsum("nij,nkj->nki", turns, apart)
    # A turn by a small angle differs from none by √2 times the angle as a matrix.
    differences = (_rows(turns, others) - turns[:, None]).flatten(2) / math.sqrt(8.0)
    stretches = (_length(apart) - _length(apart_other)) / spacings

    def mean(errors: Tensor) -> Tensor:
        return (neighbours.weights * errors).sum(1).mean()

    return MotionErrors(
        rigidity=mean(_soft_length((carried - apart_soon) / spacings[..., None])),
        rotation=mean(_soft_length(differences)),
        isometry=mean(_soft_length(stretches[..., None])),
    )


def _rows(values: Float[Tensor, "N *s"], rows: Int[Tensor, "N k"]) -> Float[Tensor, "N k *s"]:
    # Its gradient is a plain sum, which that of indexing is not on a GPU.
    return values.index_select(0, rows.flatten()).unflatten(0, rows.shape)


def _length(vectors: Float[Tensor, "*s D"]) -> Float[Tensor, "*s"]:
    # The slope of a root is infinite at 0, where clones begin.
    return (vectors.square().sum(-1) + torch.finfo(vectors.dtype).tiny).sqrt()


def _soft_length(vectors: Float[Tensor, "*s D"]) -> Float[Tensor, "*s"]:
    return (vectors.square().sum(-1) + SOFT**2).sqrt() - SOFT
