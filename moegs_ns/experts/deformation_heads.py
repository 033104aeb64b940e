"""Offsets of raw parameters: the small networks that decode them, and Gaussians moved by them."""

from collections.abc import Collection, Mapping
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from moegs_ns.experts.base import Expert
from moegs_ns.gaussians import Gaussians
from moegs_ns.splatting.spherical_harmonics import num_bases


class DeformationHeads(nn.ModuleDict):
    """One head per deformed attribute, by name of its raw parameter: ReLU, linear, ReLU, linear.

    The first layers of all heads run as one matrix product, since many small launches cost a GPU
    more than their arithmetic.
    """

    def __init__(
        self, width: int, *, sh_degree: int, deform_opacity: bool, deform_sh: bool
    ) -> None:
        sizes = {"means": 3, "scales": 3, "quats": 4}
        if deform_opacity:
            sizes["opacities"] = 1
        if deform_sh:
            sizes["sh"] = 3 * num_bases(sh_degree)
        super().__init__(
            {
                name: nn.Sequential(
                    nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, size)
                )
                for name, size in sizes.items()
            }
        )

    def forward(
        self, hidden: Float[Tensor, "N W"], names: Collection[str] | None = None
    ) -> dict[str, Float[Tensor, "N _"]]:
        """What all heads, or those of `names`, make of the hidden vectors."""
        heads = {
            name: cast(nn.Sequential, head)
            for name, head in self.items()
            if names is None or name in names
        }
        if not heads:
            return {}
        first = [cast(nn.Linear, head[1]) for head in heads.values()]
        weight = torch.cat([layer.weight for layer in first])
        bias = torch.cat([layer.bias for layer in first])
        active = functional.linear(hidden.relu(), weight, bias).relu()
        parts = active.chunk(len(heads), dim=-1)
        return {
            name: head[3](part) for (name, head), part in zip(heads.items(), parts, strict=True)
        }


def deformed(expert: Expert, offsets: Mapping[str, Float[Tensor, "N _"]]) -> Gaussians:
    """An expert's Gaussians with offsets added to their raw parameters, then activated.

    Attributes without an offset keep their stored values. Quaternions are added, not multiplied.
    """
    raw, sh = expert.gauss_params, expert.active_sh()
    moved = {
        name: raw[name] + offsets[name] if name in offsets else raw[name]
        for name in ("means", "quats", "scales")
    }
    logits = raw["opacities"]
    if "opacities" in offsets:
        logits = logits + offsets["opacities"].squeeze(1)
    if "sh" in offsets:
        sh = sh + expert.active_sh(offsets["sh"].unflatten(1, (-1, 3)))
    return Gaussians(
        means=moved["means"],
        quats=functional.normalize(moved["quats"], dim=-1),
        scales=moved["scales"].exp(),
        opacities=logits.sigmoid(),
        sh=sh,
    )
