"""Static Gaussians beside dynamic ones that have a pose at every keyframe, in one set."""

import math
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from moegs_ns.experts import keyframes
from moegs_ns.experts.base import Expert, fill_rows
from moegs_ns.gaussians import GaussianParams
from moegs_ns.splatting.projection import num_bases

Frames = TypeVar("Frames", float, Tensor)

KEYED = ("means", "quats")
"""Parameters of dynamic Gaussians that have an axis of keys, the second one."""


class KeyRowParameters(GaussianParams):
    """With keys, whose number changes while training as well and is adopted on loading."""

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        for name in KEYED:
            stored, own = state_dict.get(prefix + name), self[name]
            if isinstance(stored, Tensor) and stored.ndim == 3 and stored.shape[2] == own.shape[2]:
                own.data = own.data.new_empty(stored.shape)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    @property
    def num_keys(self) -> int:
        """Keys of every Gaussian."""
        return self["means"].shape[1]


class KeyframeExpert(Expert):
    """Static and dynamic Gaussians in one set, the static ones first.

    `gauss_params` are those of the static Gaussians; `key_gauss_params` are those of the dynamic
    ones, with `means` [N, K, 3] and `quats` [N, K, 4] at K keys. A family makes the latter after
    `__init__` of this class, and sets the two numbers that say where keys stand.
    """

    key_gauss_params: KeyRowParameters
    interval: int
    """Frames between two keys."""
    key_offset: float = 0.0
    """Keys that stand before the first frame, beside the one that the spline needs."""

    def keys_needed(self, last_frame: int) -> int:
        """Keys that interpolation up to and including `last_frame` reads."""
        return math.floor(self.in_keys(float(last_frame))) + 3

    def in_keys(self, frame: Frames) -> Frames:
        """The time of a frame, or the times of a tensor of frames, counted in keys."""
        # Cubic interpolation needs one key before those around a time.
        return frame / self.interval + 1.0 + self.key_offset

    def key_frames(self, num_keys: int) -> Float[Tensor, "K"]:
        """The frame at which each key stands; negative before the clip."""
        keys = torch.arange(num_keys, device=self.background.device, dtype=torch.float32)
        return (keys - self.in_keys(0.0)) * self.interval

    @property
    def num_static(self) -> int:
        """Static Gaussians, which come first."""
        return self.gauss_params.num_rows

    @property
    def num_dynamic(self) -> int:
        """Dynamic Gaussians, which come last."""
        return self.key_gauss_params.num_rows

    @property
    def num_gaussians(self) -> int:
        return self.num_static + self.num_dynamic

    def dynamic_poses(self, frame: Float[Tensor, ""]) -> keyframes.Poses:
        """Of the dynamic Gaussians at a frame or between two: a spline through the positions, the
        shorter way between rotations."""
        raw = self.key_gauss_params
        position = keyframes.key_position(self.in_keys(frame), raw.num_keys)
        means = keyframes.catmull_rom(raw["means"], position)
        return keyframes.Poses(means, keyframes.slerp(raw["quats"], position))

    def active_sh_of_all(self) -> Float[Tensor, "N A 3"]:
        """Spherical harmonics of both kinds up to the active degree."""
        count, kinds = num_bases(self.active_sh_degree), (self.gauss_params, self.key_gauss_params)
        parts = [torch.cat([raw["sh0"], raw["shN"][:, : count - 1]], dim=1) for raw in kinds]
        return torch.cat(parts)

    def select(self, keep: Bool[Tensor, "N"] | Int[Tensor, "M"]) -> "Expert":
        """See base; of listed ones the static come first, each kind in the order listed."""
        ids = torch.nonzero(keep)[:, 0] if keep.dtype == torch.bool else keep
        copy = deepcopy(self)
        copy.gauss_params.select_(ids[ids < self.num_static])
        copy.key_gauss_params.select_(ids[ids >= self.num_static] - self.num_static)
        return copy

    def set_at_rest(self, raw: Mapping[str, Tensor]) -> None:
        """See base."""
        first, last = self.num_static, self.num_dynamic
        static, dynamic = ({n: v.split([first, last])[k] for n, v in raw.items()} for k in (0, 1))
        fill_rows(self.gauss_params, static)
        num_keys = self.key_gauss_params.num_keys
        keys = {
            name: dynamic[name][:, None].repeat(1, num_keys, 1) for name in KEYED if name in dynamic
        }
        fill_rows(self.key_gauss_params, dynamic | keys)
