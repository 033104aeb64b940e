"""Real spherical harmonics up to degree 3, with the signs of the Gaussian splatting literature."""

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from moegs_ns.cuda_graphs.graphed import is_capturing

DEGREE_0 = 0.28209479177387814
_A, _B, _C, _D = 0.4886025119029199, 1.0925484305920792, 0.31539156525252005, 0.5462742152960396
_E, _F, _G, _H = 0.5900435899266435, 0.4570457994644658, 0.3731763325901154, 1.445305721320277
POLYNOMIALS: tuple[dict[str, float], ...] = (
    {"": DEGREE_0},
    {"y": -_A},
    {"z": _A},
    {"x": -_A},
    {"xy": _B},
    {"yz": -_B},
    {"zz": 3 * _C, "": -_C},
    {"xz": -_B},
    {"xx": _D, "yy": -_D},
    {"xxy": -3 * _E, "yyy": _E},
    {"xyz": 2 * _H},
    {"yzz": -5 * _F, "y": _F},
    {"zzz": 5 * _G, "z": -3 * _G},
    {"xzz": -5 * _F, "x": _F},
    {"xxz": _H, "yyz": -_H},
    {"xxx": -_E, "xyy": 3 * _E},
)
"""The basis functions of a unit direction (x, y, z), each as factors of products of coordinates."""


def num_bases(degree: int) -> int:
    """Number of coefficients per colour channel up to and including `degree`."""
    return (degree + 1) ** 2


def sh_from_rgb(rgb: Float[Tensor, "N 3"], degree: int) -> Float[Tensor, "N K 3"]:
    """Coefficients that show `rgb` from every direction."""
    sh = rgb.new_zeros(len(rgb), num_bases(degree), 3)
    sh[:, 0] = (rgb - 0.5) / DEGREE_0
    return sh


def view_colors(
    sh: Float[Tensor, "N K 3"], means: Float[Tensor, "N 3"], position: Float[Tensor, "3"]
) -> Float[Tensor, "N 3"]:
    """Colour of each Gaussian seen from a camera at `position`: max(SH(direction) + 0.5, 0)."""
    if sh.shape[1] == 1:
        return torch.clamp_min(sh[:, 0] * DEGREE_0 + 0.5, 0.0)
    directions = means - position
    factors = _factors(sh.shape[1], sh.device, sh.dtype)
    # gsplat 1.4.0 launches this kernel on a stream of its own, which a capture misses.
    if sh.is_cuda and not is_capturing():
        from gsplat import spherical_harmonics

        degree = int(sh.shape[1] ** 0.5) - 1
        return torch.clamp_min(spherical_harmonics(degree, directions, sh) + 0.5, 0.0)
    bases = evaluate_bases(torch.nn.functional.normalize(directions, dim=-1), factors)
    return torch.clamp_min((bases[..., None] * sh).sum(dim=1) + 0.5, 0.0)


def evaluate_bases(
    directions: Float[Tensor, "N 3"], factors: Float[Tensor, "M K"]
) -> Float[Tensor, "N K"]:
    """Basis functions at unit `directions`; `factors` are those of `basis_factors`."""
    products = [torch.ones_like(directions[:, :1])]
    while sum(part.shape[1] for part in products) < len(factors):
        products.append((products[-1][:, :, None] * directions[:, None]).flatten(1))
    return torch.cat(products, dim=1) @ factors


def basis_factors(count: int) -> Float[Tensor, "M K"]:
    """What the products of coordinates, 1, x, y, z, xx, xy, ..., zzz, count in the first `count`
    (1, 4, 9 or 16) basis functions."""
    degree = int(count**0.5) - 1
    words = [""]
    for _ in range(degree):
        longest = [word for word in words if len(word) == len(words[-1])]
        words += [word + axis for word in longest for axis in "xyz"]
    factors = torch.zeros(len(words), count, dtype=torch.float64)
    for column, polynomial in enumerate(POLYNOMIALS[:count]):
        for word, factor in polynomial.items():
            factors[words.index(word), column] = factor
    return factors


@cache
@torch.inference_mode(False)  # Whoever asks first, gradients must be able to pass later.
def _factors(count: int, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "M K"]:
    """Cached on the device, as an upload takes as long as what it is needed for, and cannot be
    captured."""
    return basis_factors(count).to(device, dtype)
