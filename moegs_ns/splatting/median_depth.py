"""Median depth: where transmittance reaches one half."""

from collections.abc import Sequence
from types import ModuleType

import torch
from jaxtyping import Float
from torch import Tensor

from moegs_ns.cameras import View
from moegs_ns.gaussians import Gaussians
from moegs_ns.splatting.projection import NEAR
from moegs_ns.splatting.rendering import backend_for, merge_projections, project_experts


def median_depth(
    gaussians: Gaussians,
    view: View,
    *,
    near: float = NEAR,
    backend: ModuleType | None = None,
) -> Float[Tensor, "C H W 1"]:
    """Depth of the first Gaussian, near to far, at which accumulated opacity reaches one half.

    Distance of the Gaussian's centre along the optical axis in world units; 0 where total opacity
    stays below one half. Unlike the expected depth it never lies between
    two surfaces. Not differentiable.

    Raises:
        ValueError: the cameras show different times.
    """
    return median_depth_experts([gaussians], view, near=[near], backend=backend)[0]


@torch.no_grad()
def median_depth_experts(
    experts: Sequence[Gaussians],
    view: View,
    *,
    near: Sequence[float] | None = None,
    backend: ModuleType | None = None,
) -> Float[Tensor, "E C H W 1"]:
    """`median_depth` of every expert, each with its own transmittance, sorted once.

    Raises:
        ValueError: the cameras show different times.
    """
    view.assert_one_time()
    backend = backend or backend_for(experts[0].means.device)
    projection, image_ids = merge_projections(
        project_experts(experts, view, near=near, backend=backend)
    )
    shape = (len(experts), len(view), view.height, view.width, 1)
    if not len(projection.depths):
        return projection.depths.new_zeros(shape)
    medians = backend.rasterize_median(
        projection, image_ids, len(experts) * len(view), view.width, view.height
    )
    return medians.view(shape)
