"""Gaussians: what an expert is at one time, the type that all stages share."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Plain = TypeVar("Plain", bound=float)

DEFAULT_EPS2D = 0.3
"""Variance in square pixels that splatting adds to every projected Gaussian."""


@dataclass(frozen=True, eq=False)
class Gaussians:
    """Activated Gaussians at one time; everything that rendering needs is stored per Gaussian.

    Positions and lengths are in the data set's world frame and unit. All values are activated:
    quaternions have unit length (w first), scales are positive, opacities lie in [0, 1].
    """

    means: Float[Tensor, "N 3"]
    quats: Float[Tensor, "N 4"]
    scales: Float[Tensor, "N 3"]
    opacities: Float[Tensor, "N"]
    sh: Float[Tensor, "N K 3"]
    """Spherical harmonics; the colour seen from a direction is max(SH(direction) + 0.5, 0)."""
    features: Float[Tensor, "N D"] | None = None
    """Raw channels that are rasterised beside the colour."""
    ids: Int[Tensor, "N"] | None = None
    """Rows of the expert's full set; None means all rows in order."""
    eps2d: Float[Tensor, "N"] | float = DEFAULT_EPS2D
    """Variance in square pixels of the 2-D kernel added after projection."""
    antialiased: Bool[Tensor, "N"] | bool = False
    """Whether opacity is multiplied by sqrt(det before / det after) of the dilation by eps2d."""

    def __len__(self) -> int:
        return self.means.shape[0]

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor) and value.shape[0] != len(self):
                raise ValueError(
                    f"Gaussians.{field.name} has {value.shape[0]} rows, but there are "
                    f"{len(self)} means; give one row per Gaussian."
                )

    def select(self, keep: Bool[Tensor, "N"] | Int[Tensor, "M"]) -> "Gaussians":
        """The rows that `keep` marks (mask) or lists (indices); `ids` still name the source."""
        ids = torch.arange(len(self), device=self.means.device) if self.ids is None else self.ids
        picked = {
            field.name: value[keep] if isinstance(value, Tensor) else value
            for field in fields(self)
            if field.name != "ids"
            for value in [getattr(self, field.name)]
        }
        return Gaussians(**picked, ids=ids[keep])

    def detach(self) -> "Gaussians":
        """The same values cut from the graph of gradients."""
        detached = {
            field.name: value.detach()
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **detached)

    @staticmethod
    def cat(parts: Sequence["Gaussians"]) -> "Gaussians":
        """All rows of `parts` one after the other; shorter SH and features are padded with zeros.

        `ids` of the result are None: its rows are numbered by their place in the concatenation.
        """
        if not parts:
            raise ValueError("Gaussians.cat expected at least one set, got an empty list.")
        features = None
        if any(part.features is not None for part in parts):
            features = cat_padded([_features_or_empty(part) for part in parts])
        sh = cat_padded([part.sh.flatten(1) for part in parts])
        return Gaussians(
            means=torch.cat([part.means for part in parts]),
            quats=torch.cat([part.quats for part in parts]),
            scales=torch.cat([part.scales for part in parts]),
            opacities=torch.cat([part.opacities for part in parts]),
            sh=sh.unflatten(1, (-1, 3)),
            features=features,
            eps2d=shared_or_cat([(part.eps2d, part) for part in parts]),
            antialiased=shared_or_cat([(part.antialiased, part) for part in parts]),
        )


def _features_or_empty(part: Gaussians) -> Float[Tensor, "N D"]:
    return part.means.new_zeros(len(part), 0) if part.features is None else part.features


def cat_or_single(parts: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Concatenate along `dim`; a single part is handed on, not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=dim)


def cat_padded(parts: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Concatenate along `dim` what differs in its last axis; missing columns are zeros."""
    width = max(part.shape[-1] for part in parts)
    if all(part.shape[-1] == width for part in parts):
        return cat_or_single(parts, dim)
    padded = [torch.nn.functional.pad(part, (0, width - part.shape[-1])) for part in parts]
    return torch.cat(padded, dim=dim)


def shared_or_cat(
    values: Sequence[tuple[Tensor | Plain, Gaussians]],
) -> Tensor | Plain:
    """One plain number if all parts agree on it, else one value per Gaussian of all parts."""
    plain = [value for value, _ in values if not isinstance(value, Tensor)]
    if len(plain) == len(values) and len(set(plain)) == 1:
        return plain[0]
    return torch.cat([per_gaussian(value, part.means) for value, part in values])


def per_gaussian(value: Tensor | float | bool, like: Float[Tensor, "N *s"]) -> Tensor:
    """`value` as one entry per Gaussian, on the device of `like`."""
    if isinstance(value, Tensor):
        return value
    dtype = torch.bool if isinstance(value, bool) else like.dtype
    return torch.full((like.shape[0],), value, dtype=dtype, device=like.device)
