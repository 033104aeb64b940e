"""Projection of Gaussians to the image plane, in plain torch (EWA splatting, Zwicker et al. 2001),
and their colours seen from a camera.

Constants are those of gsplat 1.4.0, so that every implementation renders the same image. Spherical
harmonics have the signs of the Gaussian splatting literature.
"""

from dataclasses import dataclass, fields, replace
from functools import cache

import torch
from gsplat.utils import normalized_quat_to_rotmat
from jaxtyping import Bool, Float, Int
from torch import Tensor

from moegs_ns.cameras import View
from moegs_ns.cuda_graphs.graphed import is_capturing
from moegs_ns.gaussians import DEFAULT_EPS2D, per_gaussian

TILE_SIZE = 16
"""Edge in pixels of the tiles that Gaussians are sorted into."""
MAX_ALPHA = 0.999
MIN_ALPHA = 1.0 / 255.0
MIN_TRANSMITTANCE = 1e-4
MEDIAN_TRANSMITTANCE = 0.5
"""What is left of the light at the median depth. No rasteriser stops a pixel before it gets there:
above it even a Gaussian of `MAX_ALPHA` leaves more than `MIN_TRANSMITTANCE`."""
NEAR = 0.01
"""Default distance of the near plane in world units."""
FIELD_OF_VIEW_MARGIN = 0.3
"""Fraction of half the field of view beyond the border at which the Jacobian is clamped."""
RADIUS_DEVIATIONS = 3.0
"""Standard deviations that radii stand for."""
FADE_MARGIN = 1.01
"""Factor on opacities when extents are set, so that rounding never hides a pixel."""
MIN_CONIC_DETERMINANT = 1e-20
"""Below this a Gaussian is flat over any image, and eps2d is lost in rounding."""


@dataclass(frozen=True, eq=False)
class Projection:
    """Gaussians on the image plane, one row per (camera, Gaussian), ready to rasterise.

    Rows are either those that a camera sees, or all: where a radius is 0, the others of their
    numbers mean nothing then.
    """

    means2d: Float[Tensor, "n 2"]
    """Centres in pixels."""
    depths: Float[Tensor, "n"]
    """Distance along the optical axis in world units."""
    conics: Float[Tensor, "n 3"]
    """Inverse 2-D covariance (xx, xy, yy) with eps2d added."""
    opacities: Float[Tensor, "n"]
    radii: Int[Tensor, "n"]
    """Half edge in pixels of the square that a Gaussian may touch; 0 means culled."""
    extents: Int[Tensor, "n"]
    """That of the square outside of which it is too faint to be visible; at most the radius."""
    camera_ids: Int[Tensor, "n"]
    gaussian_ids: Int[Tensor, "n"]
    is_complete: bool = False
    """Whether there is a row for every pair, by camera and then by Gaussian."""

    def select(self, keep: Bool[Tensor, "n"] | Int[Tensor, "m"]) -> "Projection":
        """The rows that `keep` marks (mask) or lists (indices)."""
        return replace(self, is_complete=False, **{n: getattr(self, n)[keep] for n in ROW_FIELDS})


ROW_FIELDS = tuple(field.name for field in fields(Projection) if field.name != "is_complete")
"""What a projection holds one row per pair of."""


def project(
    means: Float[Tensor, "N 3"],
    quats: Float[Tensor, "N 4"],
    scales: Float[Tensor, "N 3"],
    opacities: Float[Tensor, "N"],
    view: View,
    near: float = NEAR,
) -> Projection:
    """Project with the default eps2d and drop what no camera sees. Differentiable."""
    covariances = covariance(quats, scales)
    parts = [
        _project_to_camera(means, covariances, opacities, view, camera, near)
        for camera in range(len(view))
    ]
    merged = {name: torch.cat([getattr(part, name) for part in parts]) for name in ROW_FIELDS}
    return replace(parts[0], **merged)


def covariance(quats: Float[Tensor, "N 4"], scales: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3 3"]:
    """World covariance R S Sᵀ Rᵀ; quaternions (w first) are normalised here."""
    rotation = normalized_quat_to_rotmat(torch.nn.functional.normalize(quats, dim=-1))
    stretched = rotation * scales[:, None, :]
    return stretched @ stretched.transpose(1, 2)


def _project_to_camera(
    means: Float[Tensor, "N 3"],
    covariances: Float[Tensor, "N 3 3"],
    opacities: Float[Tensor, "N"],
    view: View,
    camera: int,
    near: float,
) -> Projection:
    rotation, translation = view.viewmats[camera, :3, :3], view.viewmats[camera, :3, 3]
    in_camera = means @ rotation.T + translation
    ids = torch.nonzero(in_camera[:, 2] > near)[:, 0]
    x, y, z = in_camera[ids].unbind(-1)
    K = view.Ks[camera]
    means2d = torch.stack([K[0, 0] * x / z + K[0, 2], K[1, 1] * y / z + K[1, 2]], dim=-1)
    covariance2d = _project_covariance(covariances[ids], rotation, (x, y, z), K, view)
    conics, radii = _conics_and_radii(covariance2d + _round(torch.full_like(z, DEFAULT_EPS2D)))
    projection = Projection(
        means2d=means2d,
        depths=z,
        conics=conics,
        opacities=opacities[ids],
        radii=radii,
        extents=radii,
        camera_ids=torch.full_like(ids, camera),
        gaussian_ids=ids,
    )
    return projection.select(_touches_image(projection, view.width, view.height))


def _project_covariance(
    covariances: Float[Tensor, "n 3 3"],
    rotation: Float[Tensor, "3 3"],
    in_camera: tuple[Tensor, Tensor, Tensor],
    K: Float[Tensor, "3 3"],
    view: View,
) -> Float[Tensor, "n 3"]:
    """2-D covariance (xx, xy, yy) through the local affine approximation of the projection."""
    x, y, z = in_camera
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    margin_x = FIELD_OF_VIEW_MARGIN * 0.5 * view.width / fx
    margin_y = FIELD_OF_VIEW_MARGIN * 0.5 * view.height / fy
    slope_x = (x / z).clamp(-cx / fx - margin_x, (view.width - cx) / fx + margin_x)
    slope_y = (y / z).clamp(-cy / fy - margin_y, (view.height - cy) / fy + margin_y)
    row_x = (rotation[0] - slope_x[:, None] * rotation[2]) * (fx / z)[:, None]
    row_y = (rotation[1] - slope_y[:, None] * rotation[2]) * (fy / z)[:, None]
    spread_x = torch.einsum("nij,nj->ni", covariances, row_x)
    spread_y = torch.einsum("nij,nj->ni", covariances, row_y)
    return torch.stack(
        [(row_x * spread_x).sum(-1), (row_x * spread_y).sum(-1), (row_y * spread_y).sum(-1)], dim=-1
    )


def _round(variances: Float[Tensor, "n"]) -> Float[Tensor, "n 3"]:
    """Covariances (xx, xy, yy) that are the same in all directions."""
    return torch.stack([variances, torch.zeros_like(variances), variances], dim=-1)


def _conics_and_radii(
    covariance2d: Float[Tensor, "n 3"],
) -> tuple[Float[Tensor, "n 3"], Int[Tensor, "n"]]:
    """Inverse of the covariance and three standard deviations, rounded up."""
    xx, xy, yy = covariance2d.unbind(-1)
    determinant = _determinant(covariance2d)
    is_proper = determinant > 0
    safe = torch.where(is_proper, determinant, 1.0)
    conics = torch.stack([yy, -xy, xx], dim=-1) / safe[:, None]
    with torch.no_grad():
        mean = 0.5 * (xx + yy)
        largest = mean + torch.sqrt((mean * mean - determinant).clamp(min=0.01))
        radii = torch.ceil(RADIUS_DEVIATIONS * torch.sqrt(largest))
        # A square of this many pixels covers any image; larger values would overflow integers.
        radii = torch.where(is_proper & radii.isfinite(), radii.clamp(max=1e8), 0).int()
    return conics, radii


@torch.no_grad()
def _touches_image(projection: Projection, width: int, height: int) -> Bool[Tensor, "n"]:
    x, y = projection.means2d.unbind(-1)
    r = projection.radii
    return (r > 0) & (x + r > 0) & (x - r < width) & (y + r > 0) & (y - r < height)


def alphas_at(
    offsets: Float[Tensor, "*s n 2"], conics: Float[Tensor, "n 3"], opacities: Float[Tensor, "n"]
) -> Float[Tensor, "*s n"]:
    """Opacity of Gaussians `offsets` pixels away from their centres; 0 where it is not drawn."""
    dx, dy = offsets.unbind(-1)
    a, b, c = conics.unbind(-1)
    distance = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
    alpha = (opacities * torch.exp(-distance)).clamp(max=MAX_ALPHA)
    is_drawn = (distance >= 0) & (alpha >= MIN_ALPHA)
    return torch.where(is_drawn, alpha, 0.0)


def apply_eps2d(
    projection: Projection,
    eps2d: Float[Tensor, "n"] | float,
    antialiased: Bool[Tensor, "n"] | bool,
) -> Projection:
    """Replace the default eps2d of projected Gaussians by their own, and compensate opacity.

    The opacity of a antialiased Gaussian is multiplied by sqrt(det before / det after), which keeps
    its integral as it was before eps2d (Mip-Splatting, Yu et al. 2024). All implementations
    share this function. Culling has used the default eps2d, so a larger one may miss Gaussians
    just outside the image.
    """
    is_plain = not isinstance(eps2d, Tensor) and not isinstance(antialiased, Tensor)
    if is_plain and eps2d == DEFAULT_EPS2D and not antialiased:
        return projection
    like = projection.opacities
    own = per_gaussian(eps2d, like)
    is_antialiased = per_gaussian(antialiased, like)
    # What was culled may hold anything, also what is no number and would spoil gradients.
    is_seen = projection.radii > 0
    a, b, c = torch.where(
        is_seen[:, None], projection.conics, _round(torch.ones_like(like))
    ).unbind(-1)
    determinant = a * c - b * b
    is_narrow = is_seen & (determinant > MIN_CONIC_DETERMINANT)
    # Untouched rows keep their bits, so that the company of other experts changes nothing; ones in
    # the place of their determinant keep the unused branch and its gradient finite.
    is_changed = is_narrow & (own != DEFAULT_EPS2D)
    safe = torch.where(is_changed | (is_narrow & is_antialiased), determinant, 1.0)
    before = torch.stack([c, -b, a], dim=-1) / safe[:, None] - _round(
        torch.full_like(like, DEFAULT_EPS2D)
    )
    after = before + _round(own)
    conics, radii = _conics_and_radii(after)
    determinant_after = _determinant(after)
    is_proper = determinant_after > 0
    ratio = _determinant(before) / torch.where(is_proper, determinant_after, 1.0)
    # The smallest positive ratio keeps the square root differentiable for Gaussians without extent.
    factor = torch.sqrt(ratio.clamp(min=1e-12))
    is_weakened = is_antialiased & is_narrow & is_proper
    return replace(
        projection,
        conics=torch.where(is_changed[:, None], conics, projection.conics),
        radii=torch.where(is_changed, radii, projection.radii),
        opacities=like * torch.where(is_weakened, factor, 1.0),
    )


@torch.no_grad()
def tighten_extents(projection: Projection) -> Projection:
    """Set the extents of projected Gaussians, once their opacities are final.

    A Gaussian fades to `MIN_ALPHA` where its squared distance in standard deviations is 2 log
    (opacity / `MIN_ALPHA`); its radius is three of its widest. Nothing that is drawn changes, but
    the lists of the tiles are shorter, the more the more Gaussians are translucent. Within tiles
    `numba_kernels` cuts by the same equation, pixel by pixel.
    """
    halved = torch.log(projection.opacities * (FADE_MARGIN / MIN_ALPHA)).clamp(min=0.0)
    edges = torch.ceil(torch.sqrt(halved * (2.0 / RADIUS_DEVIATIONS**2)) * projection.radii)
    return replace(projection, extents=torch.minimum(edges, projection.radii).int())


def _determinant(covariance2d: Float[Tensor, "n 3"]) -> Float[Tensor, "n"]:
    xx, xy, yy = covariance2d.unbind(-1)
    return xx * yy - xy * xy


# ---- colours: real spherical harmonics up to degree 3 ----

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
    products = [""]
    for _ in range(degree):
        longest = [product for product in products if len(product) == len(products[-1])]
        products += [product + axis for product in longest for axis in "xyz"]
    factors = torch.zeros(len(products), count, dtype=torch.float64)
    for column, polynomial in enumerate(POLYNOMIALS[:count]):
        for product, factor in polynomial.items():
            factors[products.index(product), column] = factor
    return factors


@cache
@torch.inference_mode(False)  # Whoever asks first, gradients must be able to pass later.
def _factors(count: int, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "M K"]:
    """Cached on the device, as an upload takes as long as what it is needed for, and cannot be
    captured."""
    return basis_factors(count).to(device, dtype)
