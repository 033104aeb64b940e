"""One set of Gaussians made of a mixture, for the standard renderer (MoE-GS, appendix D.2)."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from moegs_ns.cameras import View
from moegs_ns.gaussians import Gaussians
from moegs_ns.mixture.mixture import Mixture
from moegs_ns.mixture.volume_mixture import joint_composite, refuse_shading

FUSION = "Fusion makes one set of Gaussians of all experts"


def fused_parts(
    mixture: Mixture, responsibilities: Sequence[Float[Tensor, "_"]], time: Float[Tensor, ""]
) -> list[Gaussians]:
    """Every expert's Gaussians at a time, opacities times responsibilities (Eq. 15).

    Raises:
        ValueError: an expert decodes colours per pixel, which no set of Gaussians can do.
    """
    refuse_shading(mixture.experts, FUSION)
    parts = []
    for part, values in zip(mixture.gaussians(time), responsibilities, strict=True):
        own = values.to(part.opacities)[slice(None) if part.ids is None else part.ids]
        parts.append(replace(part, opacities=part.opacities * own))
    return parts


def fuse(
    mixture: Mixture, responsibilities: Sequence[Float[Tensor, "_"]], time: Float[Tensor, ""]
) -> Gaussians:
    """The fused set at a time: all experts' Gaussians one after the other; see `fused_parts`."""
    return Gaussians.cat(fused_parts(mixture, responsibilities, time))


@torch.no_grad()
def fused_image(
    mixture: Mixture, responsibilities: Sequence[Float[Tensor, "_"]], view: View
) -> Float[Tensor, "H W 3"]:
    """The fused set in one camera, over the mean of all backgrounds; experts keep near planes."""
    parts = fused_parts(mixture, responsibilities, view.time)
    background = torch.stack([expert.background for expert in mixture.experts]).mean(0)
    return joint_composite(parts, view, near=mixture.near, background=background)[0]
