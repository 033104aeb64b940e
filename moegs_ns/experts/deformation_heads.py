"""Offsets of raw parameters: the small networks that decode them, and Gaussians moved by them."""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import reduce
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from moegs_ns.experts.base import Expert, ExpertConfig
from moegs_ns.experts.fused_decoders import (
    LARGEST_WIDTH,
    SMALLEST,
    SWITCH,
    fused_offsets,
    kernels,
)
from moegs_ns.gaussians import Gaussians
from moegs_ns.splatting.projection import num_bases


@dataclass
class DeformedExpertConfig(ExpertConfig):
    """Shape of an expert whose deformation is decoded by heads."""

    width: int = 128
    """Units of the decoders' layers."""
    deform_opacity: bool = True
    """Whether opacity changes over time; published as False for HyperNeRF, and by 4DGaussians also
    for D-NeRF and DyCheck."""
    deform_sh: bool = True
    """Whether colour changes over time; published as False for these, and by E-D3DGS for
    Technicolor."""
    tf32: bool = True
    """Multiply the matrices of the heads in TF32 on a GPU, which is faster."""


class DeformationHeads(nn.ModuleDict):
    """One head per deformed attribute, by name of its raw parameter: ReLU, linear, ReLU, linear.

    The first layers of all heads run as one matrix product, since many small launches cost a GPU
    more than their arithmetic.
    """

    def __init__(self, config: DeformedExpertConfig) -> None:
        width, sizes = config.width, {"means": 3, "scales": 3, "quats": 4}
        if config.deform_opacity:
            sizes["opacities"] = 1
        if config.deform_sh:
            sizes["sh"] = 3 * num_bases(config.sh_degree)
        super().__init__(
            {
                name: nn.Sequential(
                    nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, size)
                )
                for name, size in sizes.items()
            }
        )
        self.tf32 = config.tf32

    def forward(
        self, hidden: Float[Tensor, "N W"], names: Collection[str] | None = None
    ) -> dict[str, Float[Tensor, "N _"]]:
        """What all heads, or those of `names`, make of the hidden vectors."""
        heads = self.among(names)
        if not heads:
            return {}
        first, last = ([cast(nn.Linear, head[at]) for head in heads.values()] for at in (1, 3))
        layers = [
            torch.cat([layer.weight for layer in first]),
            torch.cat([layer.bias for layer in first]),
            *(layer.weight for layer in last),
            *(layer.bias for layer in last),
        ]
        decode = FusedHeads.apply if hidden.is_cuda else plain_heads
        # TF32 has 10 bits of mantissa instead of 23 and is several times as fast.
        with matmul_precision("high") if hidden.is_cuda and self.tf32 else nullcontext():
            return dict(zip(heads, decode(hidden, *layers), strict=True))

    def among(self, names: Collection[str] | None) -> dict[str, nn.Sequential]:
        """The heads of `names`, or all of them for None."""
        return {
            name: cast(nn.Sequential, head)
            for name, head in self.items()
            if names is None or name in names
        }


@dataclass(frozen=True, eq=False)
class Decoder:
    """A linear trunk and the heads behind it."""

    weight: Float[Tensor, "W F"]
    bias: Float[Tensor, "W"]
    heads: DeformationHeads


def decoded(
    inputs: Float[Tensor, "N F"],
    decoders: Sequence[Decoder],
    scales: Mapping[str, Float[Tensor, ""]] | None = None,
) -> dict[str, Float[Tensor, "N _"]]:
    """Offsets by name of the raw parameter: the sum of decoders of equal shape.

    `scales` multiply those that they name; heads without a scale are then left out.
    """
    if scales is not None and not scales:
        return {}
    if not is_fusible(inputs, decoders):
        return plain_offsets(inputs, decoders, scales)
    layers = _layers(decoders, scales)
    names = decoders[0].heads.among(scales)
    factors = None if scales is None else torch.stack([scales[name] for name in names])
    return dict(zip(names, fused_offsets(inputs, layers, factors, len(decoders)), strict=True))


def _layers(
    decoders: Sequence[Decoder], names: Collection[str] | None
) -> list[list[Float[Tensor, "..."]]]:
    """Weights and biases in turn of all trunks, first and last layers, head by head within each
    decoder."""
    heads = [head for decoder in decoders for head in decoder.heads.among(names).values()]
    trunks = [[decoder.weight for decoder in decoders], [decoder.bias for decoder in decoders]]
    behind = [
        [getattr(head[at], kind) for head in heads] for at in (1, 3) for kind in ("weight", "bias")
    ]
    return trunks + behind


def is_fusible(inputs: Float[Tensor, "N F"], decoders: Sequence[Decoder]) -> bool:
    """Whether the kernel computes what is asked for: nothing that needs a gradient, in TF32, and
    layers of a width that fits its blocks."""
    if os.environ.get(SWITCH) != "1" or kernels() is None:
        return False
    tensors = [inputs, *(each for kind in _layers(decoders, None) for each in kind)]
    width = len(decoders[0].bias)
    return (
        all(decoder.heads.tf32 for decoder in decoders)
        and not (torch.is_grad_enabled() and any(each.requires_grad for each in tensors))
        and all(each.dtype == torch.float32 for each in tensors)
        and SMALLEST <= width <= LARGEST_WIDTH
        and width.bit_count() == 1
    )


def plain_offsets(
    inputs: Float[Tensor, "N F"],
    decoders: Sequence[Decoder],
    scales: Mapping[str, Float[Tensor, ""]] | None,
) -> dict[str, Float[Tensor, "N _"]]:
    """`decoded` layer by layer, with gradients."""
    found = [
        decoder.heads(functional.linear(inputs, decoder.weight, decoder.bias), scales)
        for decoder in decoders
    ]
    total = {name: reduce(torch.add, [each[name] for each in found]) for name in found[0]}
    return total if scales is None else {name: scales[name] * total[name] for name in total}


def plain_heads(
    hidden: Float[Tensor, "N W"],
    weight: Float[Tensor, "HW W"],
    bias: Float[Tensor, "HW"],
    *last: Tensor,
) -> Sequence[Float[Tensor, "N _"]]:
    """ReLU, the first layers of H heads, ReLU, and the last layer of each head on its part.

    `last` are the weights of the H last layers, then their biases.
    """
    count = len(last) // 2
    parts = functional.linear(hidden.relu(), weight, bias).relu().chunk(count, dim=-1)
    layers = zip(parts, last[:count], last[count:], strict=True)
    return [functional.linear(*layer) for layer in layers]


class FusedHeads(torch.autograd.Function):
    """`plain_heads` with fewer passes over memory, backward in the precision of the forward pass.

    Of a hundred thousand Gaussians the first layers' outputs are a quarter of a gigabyte, and to
    move them takes longer than to compute them.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, *last: Tensor
    ) -> tuple[Tensor, ...]:
        count = len(last) // 2
        weights, biases = last[:count], last[count:]
        rectified = hidden.relu()
        # ReLU in the epilogue of the product.
        active = torch.ops.aten._addmm_activation(bias, rectified, weight.T)
        parts = active.chunk(count, dim=-1)
        outputs = [
            torch.addmm(own_bias, part, own.T)
            for part, own, own_bias in zip(parts, weights, biases, strict=True)
        ]
        ctx.save_for_backward(rectified, active, weight, *weights)
        ctx.precision = torch.get_float32_matmul_precision()
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor, ...]:
        rectified, active, weight, *weights = ctx.saved_tensors
        of_active, parts = torch.empty_like(active), active.chunk(len(weights), dim=-1)
        with matmul_precision(ctx.precision):
            for gradient, own, part in zip(
                gradients, weights, of_active.chunk(len(weights), dim=-1), strict=True
            ):
                torch.mm(gradient, own, out=part)
            of_active = _through_relu(of_active, active)
            of_rectified = of_active @ weight
            pairs = list(zip(gradients, parts, strict=True))
            return (
                _through_relu(of_rectified, rectified),
                of_active.T @ rectified,
                of_active.sum(0),
                *(gradient.T @ part for gradient, part in pairs),
                *(gradient.sum(0) for gradient, _ in pairs),
            )


def _through_relu(gradient: Float[Tensor, "*s"], output: Float[Tensor, "*s"]) -> Tensor:
    """The gradient before a ReLU, in one pass."""
    return torch.ops.aten.threshold_backward(gradient, output, 0)


@contextmanager
def matmul_precision(name: str) -> Iterator[None]:
    """Matrix products in one of torch's precisions."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def deformed(expert: Expert, offsets: Mapping[str, Float[Tensor, "N _"]]) -> Gaussians:
    """An expert's Gaussians with offsets added to their raw parameters, then activated.

    Attributes without an offset keep their stored values. Quaternions are added, not multiplied.
    """
    raw, sh = dict(expert.gauss_params), expert.active_sh()
    for name in ("means", "quats", "scales", "opacities"):
        if name in offsets:
            raw[name] = raw[name] + offsets[name].view_as(raw[name])
    if "sh" in offsets:
        sh = sh + expert.active_sh(offsets["sh"].unflatten(1, (-1, 3)))
    return Gaussians(
        means=raw["means"],
        quats=functional.normalize(raw["quats"], dim=-1),
        scales=raw["scales"].exp(),
        opacities=raw["opacities"].sigmoid(),
        sh=sh,
    )
