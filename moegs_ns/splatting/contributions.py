"""Sums over pixels per Gaussian: Σ_u map(u)·T(u)·alpha(u), by one vector-Jacobian product.

Rasterisation is linear in its channels: a pixel holds Σ_j T_j(u)·alpha_j(u)·channel_j. So the
gradient of the inner product of a rasterised channel with a map, taken in that channel, is the sum
of every Gaussian at once. Zero-valued probe channels suffice, which leave the image and all other
gradients as they are.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from moegs_ns.cameras import View
from moegs_ns.gaussians import Gaussians
from moegs_ns.splatting.rendering import render_experts


def zero_probes(count: int, width: int, like: Tensor) -> Float[Tensor, "{count} {width}"]:
    """Zero-valued probe channels of `count` Gaussians, whose gradients are sums over pixels."""
    return torch.zeros(count, width, device=like.device, dtype=like.dtype, requires_grad=True)


@torch.enable_grad()
def weighted_contributions(
    experts: Sequence[Gaussians],
    view: View,
    maps: Float[Tensor, "E C H W D"],
    *,
    near: Sequence[float] | None = None,
) -> list[Float[Tensor, "_ D"]]:
    """For every Gaussian Σ_u map(u)·T(u)·alpha(u) over the maps of its expert, in one pass.

    T is the transmittance within the expert. Gaussians that no camera sees have zeros.
    """
    experts = [expert.detach() for expert in experts]
    channels = [zero_probes(len(expert), maps.shape[-1], like=expert.means) for expert in experts]
    rendered = render_experts(experts, view, channels, near=near)
    return list(torch.autograd.grad((rendered.features * maps.detach()).sum(), channels))
