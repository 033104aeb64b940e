"""Heads of the deformation networks: the fused way against the plain one."""

import pytest
import torch
from tolerances import FORWARD, KERNEL, Tolerance, assert_gradients_agree
from training_helpers import scene

from moegs_ns.experts.deformation_heads import (
    DeformationHeads,
    FusedHeads,
    matmul_precision,
    plain_heads,
)
from moegs_ns.experts.ed3dgs.expert import ED3DGSExpertConfig
from moegs_ns.experts.fourdgaussians.expert import HexPlaneExpertConfig

SIZES = (3, 4, 48)


def arguments(device: str, count: int = 200, width: int = 16):
    generator = torch.Generator().manual_seed(0)

    def values(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(device).requires_grad_()

    weights = [values(size, width) for size in SIZES]
    biases = [values(size) for size in SIZES]
    first = len(SIZES) * width
    return [values(count, width), values(first, width), values(first), *weights, *biases]


def pulled(decode, given) -> tuple[list[torch.Tensor], tuple[torch.Tensor, ...]]:
    """Outputs, and gradients of a sum that tells all of them apart."""
    outputs = decode(*given)
    loss = sum(((k + 1) * out.square().mean() for k, out in enumerate(outputs)), torch.zeros(()))
    return outputs, torch.autograd.grad(loss, given)


def test_fused_heads_are_the_plain_ones():
    given = arguments("cpu")
    (outputs, gradients), (expected, wanted) = (
        pulled(decode, given) for decode in (FusedHeads.apply, plain_heads)
    )
    assert [out.shape[1] for out in outputs] == list(SIZES)
    for found, value in zip(outputs, expected, strict=True):
        FORWARD.assert_close(found, value)
    for found, value in zip(gradients, wanted, strict=True):
        assert_gradients_agree(found, value, FORWARD)


@pytest.mark.gpu
def test_on_a_gpu_they_are_as_exact_as_tensor_cores():
    given = arguments("cuda", width=128)
    expected, wanted = pulled(plain_heads, given)
    outputs, gradients = pulled(FusedHeads.apply, given)
    for found, value in zip([*outputs, *gradients], [*expected, *wanted], strict=True):
        assert_gradients_agree(found, value)
    with matmul_precision("high"):
        outputs, gradients = pulled(FusedHeads.apply, given)
    for found, value in zip(outputs, expected, strict=True):
        KERNEL.assert_close(found / value.abs().max(), value / value.abs().max())
    # A ReLU whose input is almost zero may be on in one of them only.
    for found, value in zip(gradients, wanted, strict=True):
        assert float((found - value).norm() / value.norm()) < 0.05
        assert_gradients_agree(found, value, Tolerance(0.1, 0.1))


@pytest.mark.parametrize("tf32", [True, False])
def test_the_option_reaches_all_heads(tf32):
    for config in (HexPlaneExpertConfig(tf32=tf32), ED3DGSExpertConfig(tf32=tf32)):
        modules = config.setup(scene=scene()).modules()
        heads = [module for module in modules if isinstance(module, DeformationHeads)]
        assert heads and all(each.tf32 is tf32 for each in heads)


def test_other_products_keep_their_precision():
    before = torch.get_float32_matmul_precision()
    with pytest.raises(RuntimeError), matmul_precision("high"):
        assert torch.get_float32_matmul_precision() == "high"
        raise RuntimeError
    assert torch.get_float32_matmul_precision() == before
    assert torch.backends.cuda.matmul.allow_tf32 is False
