"""Depth maps of experts, mixtures and fused sets, and how well those of several views agree.

Every map is along the optical axis in world units, and 0 where a pixel's total opacity is below
one half: expected and median depth exist in the same pixels of a set of Gaussians.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import grid_sample

from moegs_ns.cameras import View
from moegs_ns.experts.base import Expert
from moegs_ns.gaussians import Gaussians
from moegs_ns.mixture.fuse import fused_parts
from moegs_ns.mixture.mixture import Mixture
from moegs_ns.mixture.volume_mixture import VolumeMixture, cull_near
from moegs_ns.splatting import project_experts, render
from moegs_ns.splatting.projection import MEDIAN_TRANSMITTANCE
from moegs_ns.splatting.rendering import backend_for, merge_projections

SOLID = 1.0 - MEDIAN_TRANSMITTANCE
"""Opacity from which a pixel shows a surface and has a median depth; others are not compared."""
OCCLUSION_MARGIN = 0.05
"""A point that lies behind a view's surface by more than this fraction of its depth is hidden."""
BORDER_PIXELS = 1e-3
"""Rounding by which points may leave the outermost pixel centres."""


@dataclass(frozen=True)
class Depth:
    """A definition of the depth of a pixel."""

    name: str
    of_set: Callable[[Gaussians, View, float], Float[Tensor, "C H W 1"]]
    """Of one set of Gaussians in all cameras of a view, from a near plane on."""
    of_mixture: Callable[[Mixture, View], Float[Tensor, "H W 1"]]
    """Of a mixture in a view of one camera."""


def expected_of_set(gaussians: Gaussians, view: View, near: float) -> Float[Tensor, "C H W 1"]:
    """Mean of the depths of Gaussians, weighted by T·alpha and divided by the opacity."""
    rendered = render(gaussians, view, near=near)
    return torch.where(rendered.alpha >= SOLID, rendered.depth, 0.0)


def expected_of_mixture(mixture: Mixture, view: View) -> Float[Tensor, "H W 1"]:
    """Mean over the experts, weighted by gates and opacities; the Volume Router's is one set."""
    rendered = mixture.render(view)
    return torch.where(rendered.accumulation >= SOLID, rendered.depth, 0.0)


@torch.no_grad()
def median_depth_experts(
    experts: Sequence[Gaussians],
    view: View,
    *,
    near: Sequence[float] | None = None,
    backend: ModuleType | None = None,
) -> Float[Tensor, "E C H W 1"]:
    """Depth of the first Gaussian, near to far, at which accumulated opacity reaches one half, of
    every expert by itself.

    Distance of the Gaussian's centre along the optical axis in world units; 0 where total opacity
    stays below one half. Unlike the expected depth it never lies between two surfaces.

    Raises:
        ValueError: the cameras show different times.
    """
    view.assert_one_time()
    backend = backend or backend_for(experts[0].means.device)
    projection, image_ids = merge_projections(
        project_experts(experts, view, near=near, backend=backend)
    )
    shape = (len(experts) * len(view), view.height, view.width)
    if not len(projection.depths):
        return projection.depths.new_zeros(len(experts), len(view), *shape[1:], 1)
    medians = backend.rasterize_median(projection, image_ids, shape)
    return medians.unflatten(0, (len(experts), len(view)))


def median_of_mixture(mixture: Mixture, view: View) -> Float[Tensor, "H W 1"]:
    """That of the expert with the largest gate; the Volume Router's mixture is one set.

    A mean over the experts would lie between their surfaces, where there is nothing, which is what
    the median is there to avoid; and where experts are opaque and one gate exceeds one half, its
    expert's surface is the median of all Gaussians that the pixel is blended of.
    """
    gaussians = mixture.gaussians(view.time)
    if isinstance(mixture, VolumeMixture):
        return _depth_of_parts(MEDIAN, mixture.modulated(gaussians, view), mixture, view)[0]
    argmax_gate = mixture.render(view, gaussians=gaussians).gates.argmax(0, keepdim=True)
    medians = median_depth_experts(gaussians, view, near=mixture.near)[:, 0]
    return medians.gather(0, argmax_gate)[0]


EXPECTED = Depth("expected", expected_of_set, expected_of_mixture)
MEDIAN = Depth(
    "median",
    lambda gaussians, view, near: median_depth_experts([gaussians], view, near=[near])[0],
    median_of_mixture,
)
DEPTHS = (EXPECTED, MEDIAN)


@torch.no_grad()
def expert_depth(expert: Expert, view: View, depth: Depth) -> Float[Tensor, "C H W 1"]:
    """Of an expert alone, at the view's time."""
    return depth.of_set(expert.at(view.time), view, expert.near)


@torch.no_grad()
def mixture_depth(mixture: Mixture, view: View, depth: Depth) -> Float[Tensor, "C H W 1"]:
    """Of a mixture, which renders one camera after the other."""
    return torch.stack([depth.of_mixture(mixture, camera) for camera in _cameras(view)])


@torch.no_grad()
def fused_depth(
    mixture: Mixture, responsibilities: Sequence[Float[Tensor, "_"]], view: View, depth: Depth
) -> Float[Tensor, "C H W 1"]:
    """Of the fused set of a mixture (`mixture.fuse`); near planes stay those of the experts.

    Raises:
        ValueError: an expert decodes colours per pixel.
    """
    parts = fused_parts(mixture, responsibilities, view.time)
    return torch.cat([_depth_of_parts(depth, parts, mixture, camera) for camera in _cameras(view)])


def _cameras(view: View) -> list[View]:
    return [view.select(index) for index in torch.arange(len(view))[:, None]]


def _depth_of_parts(
    depth: Depth, parts: Sequence[Gaussians], mixture: Mixture, view: View
) -> Float[Tensor, "1 H W 1"]:
    """Of a mixture's parts as one set, in a view of one camera."""
    pairs = zip(parts, mixture.near, strict=True)
    joint = Gaussians.cat([cull_near(part, view, near) for part, near in pairs])
    return depth.of_set(joint, view, min(mixture.near))


@dataclass(frozen=True, eq=False)
class DepthConsistency:
    """How well depth maps of one time agree (MDC, Eq. 16)."""

    error: Float[Tensor, ""]
    """Mean over view pairs of the mean absolute difference, in world units; NaN without any."""
    num_pairs: int
    """Ordered pairs of views that see something in common."""
    fraction: float
    """Solid pixels of all pairs that were compared."""


def consistency_of(
    errors: Float[Tensor, "C C H W"],
    depths: Float[Tensor, "C H W 1"],
    common: Bool[Tensor, "C C H W"] | None = None,
) -> DepthConsistency:
    """The means of the `pair_errors` of depth maps over all ordered pairs of views (Eq. 16).

    Args:
        errors: of the depth maps.
        depths: see `pair_errors`.
        common: the only pixels that count; by default all that can be compared. Sets of Gaussians
            that are ranked must be compared over the same pixels (`common_pixels`), or one with few
            solid pixels is judged by its easy ones.
    """
    is_counted = errors.isfinite() if common is None else common & errors.isfinite()
    counts = is_counted.sum((2, 3)).flatten()
    sums = torch.where(is_counted, errors, 0.0).sum((2, 3)).flatten()
    pairs = (sums / counts)[counts > 0]
    solid = int((depths > 0).sum()) * (len(depths) - 1)
    fraction = int(counts.sum()) / solid if solid else 0.0
    return DepthConsistency(pairs.mean(), len(pairs), fraction)


def common_pixels(errors: Sequence[Float[Tensor, "C C H W"]]) -> Bool[Tensor, "C C H W"]:
    """Pixels that can be compared in the depth maps of all of several sets of Gaussians, by the
    `pair_errors` of each."""
    return torch.stack([each.isfinite() for each in errors]).all(0)


def pair_errors(depths: Float[Tensor, "C H W 1"], view: View) -> Float[Tensor, "C C H W"]:
    """Reprojection error of depth of each view's pixels (first) in each view (second) at one time
    (Eq. 16): an absolute difference; NaN where they are not compared, and for a view with itself.

    Every solid pixel of a view is unprojected and projected into the other view. Its depth there is
    compared with that view's map, interpolated linearly in the inverse depth, which is exact on
    planes; median depths are those of whole Gaussians and have small steps even there. Not compared
    are points outside the outermost pixel centres or behind the camera, points next to a pixel that
    is not solid, and points behind the other view's surface by more than `OCCLUSION_MARGIN`, which
    may be hidden. A wrong surface is found all the same: in the opposite pair it lies in front. The
    paper states no rule for these.

    Args:
        depths: along the optical axis in world units, expected (divided by alpha) or median, which
            the paper does not say; not positive where there is no surface to compare.
        view: cameras of the depth maps.
    """
    view.assert_one_time()
    is_solid = depths[..., 0] > 0
    # NaN spreads through interpolation to all points next to a pixel that is not solid.
    inverse = torch.where(is_solid, 1.0 / depths[..., 0], torch.nan)
    # Unproject all pixels, then compare each view's points with all other views.
    origins, directions = view.rays()
    forward = view.viewmats[:, None, None, 2, :3]
    lengths = depths / (directions * forward).sum(-1, keepdim=True)
    points = origins + lengths * directions
    errors = []
    for source in range(len(view)):
        error = _reprojection_errors(points[source], inverse, view)
        error[source] = torch.nan
        errors.append(torch.where(is_solid[source], error, torch.nan))
    return torch.stack(errors)


def _reprojection_errors(
    points: Float[Tensor, "H W 3"], inverse: Float[Tensor, "C H W"], view: View
) -> Float[Tensor, "C H W"]:
    """Absolute difference of depth of each point in every view; NaN where it is not compared."""
    rotation, translation = view.viewmats[:, :3, :3], view.viewmats[:, :3, 3]
    in_camera = torch.einsum("cij,hwj->chwi", rotation, points) + translation[:, None, None]
    z = in_camera[..., 2]
    focal, middle = view.Ks[:, (0, 1), (0, 1)], view.Ks[:, :2, 2]
    pixels = focal[:, None, None] * in_camera[..., :2] / z[..., None] + middle[:, None, None]
    size = pixels.new_tensor([view.width, view.height])
    low, high = 0.5 - BORDER_PIXELS, size - 0.5 + BORDER_PIXELS
    is_inside = ((pixels >= low) & (pixels <= high)).all(-1) & (z > 0)
    grid = torch.where(is_inside[..., None], 2.0 * pixels / size - 1.0, 0.0)
    shown = grid_sample(inverse[:, None], grid, padding_mode="border", align_corners=False)
    shown = 1.0 / shown[:, 0]
    is_compared = is_inside & (z - shown <= OCCLUSION_MARGIN * shown)
    return torch.where(is_compared, (z - shown).abs(), torch.nan)
