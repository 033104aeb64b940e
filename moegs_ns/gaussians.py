"""Gaussians: an expert at one time, the type that all stages share, and its raw parameters."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

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
    """Indices in the expert's full set; None means all of them in order."""
    eps2d: Float[Tensor, "N"] | float = DEFAULT_EPS2D
    """Variance in square pixels of the 2-D kernel added after projection."""
    antialiased: Bool[Tensor, "N"] | bool = False
    """Whether opacity is multiplied by sqrt(det before / det after) of adding eps2d."""

    def __len__(self) -> int:
        return self.means.shape[0]

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, Tensor) and value.shape[0] != len(self):
                raise ValueError(
                    f"Gaussians.{name} has {value.shape[0]} rows, but there are "
                    f"{len(self)} means; give one row per Gaussian."
                )

    def select(self, keep: Bool[Tensor, "N"] | Int[Tensor, "M"]) -> "Gaussians":
        """Those that `keep` marks (mask) or lists (indices); `ids` still name the source."""
        ids = torch.arange(len(self), device=self.means.device) if self.ids is None else self.ids
        values = vars(self) | {"ids": ids}
        return Gaussians(**{n: v[keep] if isinstance(v, Tensor) else v for n, v in values.items()})

    def detach(self) -> "Gaussians":
        """The same values cut from the graph of gradients."""
        tensors = {n: v.detach() for n, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **tensors)

    @staticmethod
    def cat(parts: Sequence["Gaussians"]) -> "Gaussians":
        """Those of `parts` one after the other; shorter SH and features are padded with zeros.

        `ids` of the result are None: indices are those of the concatenation.
        """
        if not parts:
            raise ValueError("Gaussians.cat expected at least one set, got an empty list.")
        features = None
        if any(part.features is not None for part in parts):
            given = ((part.features, part) for part in parts)
            features = cat_padded([part.means[:, :0] if f is None else f for f, part in given])
        sh = cat_padded([part.sh.flatten(1) for part in parts])
        names = ("means", "quats", "scales", "opacities")
        return Gaussians(
            **{name: torch.cat([getattr(part, name) for part in parts]) for name in names},
            sh=sh.unflatten(1, (-1, 3)),
            features=features,
            eps2d=_shared_or_cat(parts, "eps2d"),
            antialiased=_shared_or_cat(parts, "antialiased"),
        )


class GaussianParams(nn.ParameterDict):
    """Named raw parameters with one row per Gaussian; loading adopts the stored number of rows.

    Rows are resized in place, so that an optimiser built before the load keeps pointing at the
    parameters that are trained.
    """

    @property
    def num_rows(self) -> int:
        """Rows that all parameters have."""
        return next(iter(self.values())).shape[0]

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        for name, parameter in self.items():
            stored = state_dict.get(prefix + name)
            if isinstance(stored, Tensor) and stored.shape[1:] == parameter.shape[1:]:
                parameter.data = torch.empty_like(parameter.data[:1]).new_empty(stored.shape)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def select_(self, keep: Tensor) -> None:
        """Keep the rows that `keep` marks (mask) or lists (indices)."""
        for parameter in self.values():
            parameter.data = parameter.data[keep]
            parameter.grad = None


def cat_or_single(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate along the first axis; a single part is handed on, not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def cat_padded(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate what differs in its last axis; missing columns are zeros."""
    width = max(part.shape[-1] for part in parts)
    if all(part.shape[-1] == width for part in parts):
        return cat_or_single(parts)
    padded = [torch.nn.functional.pad(part, (0, width - part.shape[-1])) for part in parts]
    return torch.cat(padded)


def _shared_or_cat(parts: Sequence[Gaussians], name: str) -> Any:
    """One plain number if all parts agree on it, else one value per Gaussian of all parts."""
    values = [getattr(part, name) for part in parts]
    if not any(isinstance(value, Tensor) for value in values) and len(set(values)) == 1:
        return values[0]
    pairs = zip(values, parts, strict=True)
    return torch.cat([per_gaussian(value, part.means) for value, part in pairs])


def per_gaussian(value: Tensor | float | bool, like: Float[Tensor, "N *s"]) -> Tensor:
    """`value` as one entry per Gaussian, on the device of `like`."""
    if isinstance(value, Tensor):
        return value
    dtype = torch.bool if isinstance(value, bool) else like.dtype
    return torch.full((like.shape[0],), value, dtype=dtype, device=like.device)
