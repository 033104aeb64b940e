"""Real spherical harmonics up to degree 3, with the signs of the Gaussian splatting literature."""

import torch
from jaxtyping import Float
from torch import Tensor

DEGREE_0 = 0.28209479177387814


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
    if sh.is_cuda:
        from gsplat import spherical_harmonics

        degree = int(sh.shape[1] ** 0.5) - 1
        return torch.clamp_min(spherical_harmonics(degree, directions, sh) + 0.5, 0.0)
    bases = evaluate_bases(torch.nn.functional.normalize(directions, dim=-1), sh.shape[1])
    return torch.clamp_min(torch.einsum("nk,nkc->nc", bases, sh) + 0.5, 0.0)


def evaluate_bases(directions: Float[Tensor, "N 3"], count: int) -> Float[Tensor, "N K"]:
    """The first `count` (1, 4, 9 or 16) basis functions at unit `directions`."""
    x, y, z = directions.unbind(-1)
    bases = [torch.full_like(x, DEGREE_0)]
    if count > 1:
        bases += [-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x]
    if count > 4:
        bases += [
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.31539156525252005 * (3.0 * z * z - 1.0),
            -1.0925484305920792 * x * z,
            0.5462742152960396 * (x * x - y * y),
        ]
    if count > 9:
        bases += [
            -0.5900435899266435 * y * (3.0 * x * x - y * y),
            2.890611442640554 * x * y * z,
            -0.4570457994644658 * y * (5.0 * z * z - 1.0),
            0.3731763325901154 * z * (5.0 * z * z - 3.0),
            -0.4570457994644658 * x * (5.0 * z * z - 1.0),
            1.445305721320277 * z * (x * x - y * y),
            -0.5900435899266435 * x * (x * x - 3.0 * y * y),
        ]
    return torch.stack(bases, dim=-1)
