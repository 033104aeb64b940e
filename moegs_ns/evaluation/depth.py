"""Depth maps of experts, mixtures and fused sets, by either notion of the depth of a pixel.

Every map is along the optical axis in world units, and 0 where a pixel's total opacity is below
one half: both notions speak of a surface in the same pixels of a set of Gaussians.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from moegs_ns.cameras import View
from moegs_ns.evaluation.metrics import SOLID
from moegs_ns.experts.base import Expert
from moegs_ns.gaussians import Gaussians
from moegs_ns.mixture.fuse import fused_parts
from moegs_ns.mixture.mixture import Mixture
from moegs_ns.mixture.volume_mixture import VolumeMixture, cull_near
from moegs_ns.splatting import median_depth, median_depth_experts, render
from moegs_ns.splatting.projection import NEAR


class Depth(ABC):
    """A notion of the depth of a pixel."""

    name: str

    @abstractmethod
    def of_set(self, gaussians: Gaussians, view: View, near: float) -> Float[Tensor, "C H W 1"]:
        """Of one set of Gaussians in all cameras of a view."""

    @abstractmethod
    def of_mixture(self, mixture: Mixture, view: View) -> Float[Tensor, "H W 1"]:
        """Of a mixture in a view of one camera."""


class ExpectedDepth(Depth):
    """Mean of the depths of Gaussians, weighted by T·alpha and divided by the opacity.

    Of a mixture the mean over the experts, weighted by gates and opacities; that of the Volume
    Router is drawn as one set.
    """

    name = "expected"

    def of_set(self, gaussians: Gaussians, view: View, near: float) -> Float[Tensor, "C H W 1"]:
        """See base."""
        drawn = render(gaussians, view, near=near)
        return torch.where(drawn.alpha >= SOLID, drawn.depth, 0.0)

    def of_mixture(self, mixture: Mixture, view: View) -> Float[Tensor, "H W 1"]:
        """See base."""
        render = mixture.render(view)
        return torch.where(render.accumulation >= SOLID, render.depth, 0.0)


class MedianDepth(Depth):
    """Depth at which accumulated opacity reaches one half; see `splatting.median_depth`.

    Of a mixture that of the expert with the largest gate. A mean over the experts would lie between
    their surfaces, where there is nothing, which is what the median is there to avoid; and where
    experts are opaque and one gate exceeds one half, its expert's surface is the median of all
    Gaussians that the pixel is blended of. The Volume Router's is that of the one set it draws.
    """

    name = "median"

    def of_set(self, gaussians: Gaussians, view: View, near: float) -> Float[Tensor, "C H W 1"]:
        """See base."""
        return median_depth(gaussians, view, near=near)

    def of_mixture(self, mixture: Mixture, view: View) -> Float[Tensor, "H W 1"]:
        """See base."""
        gaussians = mixture.gaussians(view.time)
        if isinstance(mixture, VolumeMixture):
            parts = mixture.modulated(gaussians, view)
            return self.of_set(_joint(parts, view, mixture.near), view, NEAR)[0]
        winner = mixture.render(view, gaussians=gaussians).gates.argmax(0, keepdim=True)
        medians = median_depth_experts(gaussians, view, near=mixture.near)[:, 0]
        return medians.gather(0, winner)[0]


DEPTHS: tuple[Depth, ...] = (ExpectedDepth(), MedianDepth())


@torch.no_grad()
def expert_depth(expert: Expert, view: View, depth: Depth) -> Float[Tensor, "C H W 1"]:
    """Of an expert alone, at the view's instant."""
    return depth.of_set(expert.at(view.time), view, expert.near)


@torch.no_grad()
def mixture_depth(mixture: Mixture, view: View, depth: Depth) -> Float[Tensor, "C H W 1"]:
    """Of a mixture, which draws one camera after the other."""
    return torch.stack([depth.of_mixture(mixture, camera) for camera in _cameras(view)])


@torch.no_grad()
def fused_depth(
    mixture: Mixture, shares: Sequence[Float[Tensor, "_"]], view: View, depth: Depth
) -> Float[Tensor, "C H W 1"]:
    """Of the fused set of a mixture (`ops.fuse`); near planes stay those of the experts.

    Raises:
        ValueError: an expert decodes colours per pixel.
    """
    parts = fused_parts(mixture, shares, view.time)
    maps = [
        depth.of_set(_joint(parts, camera, mixture.near), camera, NEAR) for camera in _cameras(view)
    ]
    return torch.cat(maps)


def _cameras(view: View) -> list[View]:
    return [view.select(row) for row in torch.arange(len(view))[:, None]]


def _joint(parts: Sequence[Gaussians], view: View, near: Sequence[float]) -> Gaussians:
    """What one camera sees of all parts, as one set."""
    pairs = zip(parts, near, strict=True)
    return Gaussians.cat([cull_near(part, view, plane) for part, plane in pairs])
