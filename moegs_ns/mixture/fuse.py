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


def fused_parts(
    mixture: Mixture, shares: Sequence[Float[Tensor, "_"]], time: Float[Tensor, ""]
) -> list[Gaussians]:
    """Every expert's Gaussians at an instant, opacities times responsibilities (Eq. 15).

    `shares` are those of `Responsibilities`, one for each row of each expert's full set.

    Raises:
        ValueError: an expert decodes colours per pixel, which no set of Gaussians can do.
    """
    refuse_shading(mixture.experts, "Fusion makes one set of Gaussians of all experts")
    parts = []
    for part, kept in zip(mixture.gaussians(time), shares, strict=True):
        share = kept.to(part.opacities)
        own = share if part.ids is None else share[part.ids]
        parts.append(replace(part, opacities=part.opacities * own))
    return parts


def fuse(
    mixture: Mixture, shares: Sequence[Float[Tensor, "_"]], time: Float[Tensor, ""]
) -> Gaussians:
    """The fused set at an instant: all experts' Gaussians one after the other; see `fused_parts`.

    Raises:
        ValueError: an expert decodes colours per pixel.
    """
    return Gaussians.cat(fused_parts(mixture, shares, time))


@torch.no_grad()
def fused_image(
    mixture: Mixture, shares: Sequence[Float[Tensor, "_"]], view: View
) -> Float[Tensor, "H W 3"]:
    """The fused set in one camera, by ordinary splatting, over the mean of all backgrounds.

    Near planes stay those of the experts.
    """
    parts = fused_parts(mixture, shares, view.time)
    background = torch.stack([expert.background for expert in mixture.experts]).mean(0)
    return joint_composite(parts, view, near=mixture.near, background=background)[0]
