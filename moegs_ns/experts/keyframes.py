"""Interpolation of positions and rotations between keyframes.

Plain functions, differentiable in any precision. Times and distances in time are in keys: key k
stands at time k.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

LARGEST_COSINE = 1.0 - 1e-6
"""Rotations that are closer than this angle are weighted as if they were this far apart, where
the sine and its inverse are still accurate; the difference is below rounding."""


@dataclass(frozen=True, eq=False)
class KeyPosition:
    """Where a time lies between keys that stand at regular intervals."""

    index: Int[Tensor, ""]
    """The last key that is not later than the time."""
    fraction: Float[Tensor, ""]
    """Fraction of the way to the next key, in [0, 1]."""


@dataclass(frozen=True, eq=False)
class Poses:
    """Where Gaussians are at one time."""

    means: Float[Tensor, "N 3"]
    """In the world."""
    quats: Float[Tensor, "N 4"]
    """Of unit length, w first."""


def key_position(time: Float[Tensor, ""], num_keys: int) -> KeyPosition:
    """The position of a time, counted in keys, among `num_keys` of them (at least 4).

    Cubic interpolation needs one key before and two after a time; outside of what the keys
    allow, the nearest such time is taken. Nothing synchronises with the host.
    """
    time = time.clamp(1.0, num_keys - 2.0)
    index = time.detach().floor().clamp(max=num_keys - 3.0)
    return KeyPosition(index.long(), time - index)


def keys_around(
    keys: Float[Tensor, "N K D"], position: KeyPosition, first: int, last: int
) -> list[Float[Tensor, "N D"]]:
    """The keys from `first` to `last`, counted from the position's own; only they are read."""
    wanted = position.index + torch.arange(first, last + 1, device=keys.device)
    return list(keys.index_select(1, wanted).unbind(1))


def catmull_rom(keys: Float[Tensor, "N K 3"], position: KeyPosition) -> Float[Tensor, "N 3"]:
    """Cubic Hermite interpolation whose tangents are central differences of the keys."""
    before, first, second, after = keys_around(keys, position, -1, 2)
    u = position.fraction
    tangents = 0.5 * (second - before), 0.5 * (after - first)
    return (
        (2 * u**3 - 3 * u**2 + 1) * first
        + (u**3 - 2 * u**2 + u) * tangents[0]
        + (3 * u**2 - 2 * u**3) * second
        + (u**3 - u**2) * tangents[1]
    )


def slerp(keys: Float[Tensor, "N K 4"], position: KeyPosition) -> Float[Tensor, "N 4"]:
    """Unit quaternions along the shorter great circle between the two neighbouring keys.

    Keys need not have unit length. A quaternion and its negative are the same rotation, so the
    second key is negated where that is nearer; without it Gaussians spin.
    """
    first, second = keys_around(keys, position, 0, 1)
    first, second = (normalize(key, dim=-1) for key in (first, second))
    second = same_side(second, first)
    cosine = (first * second).sum(-1, keepdim=True).clamp(max=LARGEST_COSINE)
    angle, u = torch.acos(cosine), position.fraction
    mixed = torch.sin((1 - u) * angle) * first + torch.sin(u * angle) * second
    return normalize(mixed, dim=-1)


def same_side(quats: Float[Tensor, "*s 4"], like: Float[Tensor, "*s 4"]) -> Float[Tensor, "*s 4"]:
    """The same rotations, as those of the two quaternions that are nearer to `like`."""
    return torch.where((quats * like).sum(-1, keepdim=True) < 0, -quats, quats)
