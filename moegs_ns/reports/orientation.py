"""Which way is up in files that leave the program: programs that open them expect one axis."""

from dataclasses import replace
from typing import Literal

import torch
from gsplat.utils import normalized_quat_to_rotmat
from jaxtyping import Float
from torch import Tensor

from moegs_ns.gaussians import Gaussians
from moegs_ns.splatting.projection import basis_factors, evaluate_bases

Up = Literal["cameras", "x", "y", "z", "minus-x", "minus-y", "minus-z", "as-is"]
"""Which way is up in a data set: the mean of what is up in its cameras, or an axis of its world."""
AS_IS: Up = "as-is"
"""Nothing is turned: the file has the data set's own axes."""
PLY_UP = (0.0, -1.0, 0.0)
"""What is up in a PLY of Gaussians: COLMAP's y points down, and viewers turn files by that."""
SPZ_UP = (0.0, 1.0, 0.0)
"""What is up in an SPZ file, whose axes are right, up, back."""
AGREEMENT = 0.1
"""Length of the mean of the cameras' unit vectors below which they have no common up."""
SAMPLES = 64
"""Directions by which harmonics are turned; more than any degree has coefficients."""


def up_direction(
    up: Up, camera_to_worlds: Float[Tensor, "C 3 4"]
) -> tuple[Float[Tensor, "3"] | None, str]:
    """The unit vector that is up in a data set's world, and words that tell where it is from; no
    vector where nothing is to be turned.

    Raises:
        ValueError: the cameras have no common up.
    """
    if up == AS_IS:
        return None, "axes of the data set"
    if up != "cameras":
        direction = torch.zeros(3)
        direction["xyz".index(up[-1])] = -1.0 if up.startswith("minus") else 1.0
        return direction, f"up is {up}"
    mean = camera_to_worlds[:, :3, 1].float().cpu().mean(0)
    length = float(mean.norm())
    if length < AGREEMENT:
        raise ValueError(
            "--up cameras expects cameras that agree on what is up, but those of this scene are "
            "turned against each other; name an axis of the world instead, as in --up z."
        )
    # Adding 0 makes -0 the 0 that people write.
    x, y, z = (round(value, 2) + 0.0 for value in (mean / length).tolist())
    return mean / length, f"up is ({x:.2f}, {y:.2f}, {z:.2f}), the mean of the cameras'"


def turn_between(source: Float[Tensor, "3"], target: Float[Tensor, "3"]) -> Float[Tensor, "4"]:
    """The smallest rotation that takes one unit vector to another, as a quaternion, w first."""
    source, target = source.double(), target.double()
    real = 1.0 + source @ target
    if real < 1e-9:
        # Half a turn, about any axis across.
        across = torch.eye(3, dtype=torch.float64)[int(source.abs().argmin())]
        real, axis = real * 0.0, torch.linalg.cross(source, across)
    else:
        axis = torch.linalg.cross(source, target)
    quat = torch.cat([real.reshape(1), axis])
    return (quat / quat.norm()).float()


def turned(gaussians: Gaussians, turn: Float[Tensor, "4"] | None) -> Gaussians:
    """The set turned about the origin of the world, with the harmonics of its colours."""
    if turn is None:
        return gaussians
    turn = turn.to(gaussians.means)
    rotation = normalized_quat_to_rotmat(turn)
    count = gaussians.sh.shape[1]
    harmonics = harmonics_turn(rotation.cpu(), count).to(gaussians.sh)
    return replace(
        gaussians,
        means=gaussians.means @ rotation.T,
        quats=quaternion_product(turn, gaussians.quats),
        sh=torch.einsum("kj,njc->nkc", harmonics, gaussians.sh),
    )


def quaternion_product(
    one: Float[Tensor, "4"], others: Float[Tensor, "N 4"]
) -> Float[Tensor, "N 4"]:
    """The rotations of `others`, and then that of `one`; w first."""
    w, v = one[0], one[1:]
    others_w, others_v = others[:, :1], others[:, 1:]
    real = w * others_w - others_v @ v[:, None]
    crossed = torch.linalg.cross(v.expand_as(others_v), others_v)
    return torch.cat([real, w * others_v + others_w * v + crossed], dim=1)


def harmonics_turn(rotation: Float[Tensor, "3 3"], count: int) -> Float[Tensor, "K K"]:
    """What takes coefficients of harmonics to those of the turned function, f(Rᵀ direction).

    Turned harmonics of a degree are combinations of those of the same degree, so as many directions
    as wanted give the same matrix.
    """
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(SAMPLES, 3, generator=generator, dtype=torch.float64)
    directions = torch.nn.functional.normalize(directions, dim=1)
    factors = basis_factors(count)
    before = evaluate_bases(directions @ rotation.double(), factors)
    return torch.linalg.lstsq(evaluate_bases(directions, factors), before).solution
