"""The kernel of decoders against plain torch.

On the CPU Triton's interpreter runs it; `gpu` tests run what is compiled.
"""

from dataclasses import replace

import pytest
import torch
from tolerances import Tolerance
from torch import Tensor, nn
from triton_compiler import compile_for_a_gpu

from moegs_ns.experts import deformation_heads, fused_decoders
from moegs_ns.experts.deformation_heads import (
    Decoder,
    DeformationHeads,
    DeformedExpertConfig,
    decoded,
    plain_offsets,
)

pytestmark = pytest.mark.skipif(
    fused_decoders.kernels() is None, reason="Triton comes with torch for Linux only"
)
CONFIG = DeformedExpertConfig(width=32)
TOLERANCES = {
    "cpu": Tolerance(rtol=1e-4, atol=1e-5),
    # Ten bits of mantissa, through three layers, of offsets near 1.
    "cuda": Tolerance(rtol=0.0, atol=5e-3),
}
FEATURES = 20


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the kernel runs: interpreted, where there is no GPU, or compiled."""
    if request.param == "cpu" and torch.cuda.is_available():
        pytest.skip("Triton interprets kernels where there is no GPU")
    monkeypatch.setenv(fused_decoders.SWITCH, "1")
    return request.param


def make_decoders(count: int, device: str, config: DeformedExpertConfig = CONFIG) -> list[Decoder]:
    torch.manual_seed(0)
    decoders = []
    for _ in range(count):
        trunk, heads = nn.Linear(FEATURES, config.width), DeformationHeads(config)
        for module in (trunk, heads):
            module.to(device)
        decoders.append(Decoder(trunk.weight, trunk.bias, heads))
    return decoders


def make_inputs(rows: int, device: str) -> Tensor:
    return torch.randn(rows, FEATURES, generator=torch.Generator().manual_seed(1)).to(device)


def make_scales(*names: str, device: str) -> dict[str, Tensor]:
    return {name: torch.tensor(0.5 + i, device=device) for i, name in enumerate(names)}


def assert_agree(found: dict[str, Tensor], expected: dict[str, Tensor], device: str) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert value.std() > 0.01
        TOLERANCES[device].assert_close(found[name], value)


def in_single_precision(
    inputs: Tensor, decoders: list[Decoder], scales: dict[str, Tensor] | None = None
) -> dict[str, Tensor]:
    for decoder in decoders:
        decoder.heads.tf32 = False
    found = plain_offsets(inputs, decoders, scales)
    for decoder in decoders:
        decoder.heads.tf32 = True
    return found


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("rows", [2, 64, 131])
@torch.no_grad()
def test_offsets_are_those_of_plain_torch(rows: int, count: int, device: str):
    decoders, inputs = make_decoders(count, device), make_inputs(rows, device)
    found = decoded(inputs, decoders)
    assert found["sh"].shape == (rows, 48)
    assert_agree(found, in_single_precision(inputs, decoders), device)


@torch.no_grad()
def test_the_published_width(device: str):
    decoders = make_decoders(2, device, DeformedExpertConfig())
    inputs = make_inputs(100, device)
    assert_agree(decoded(inputs, decoders), in_single_precision(inputs, decoders), device)


@torch.no_grad()
def test_scales_choose_and_multiply(device: str):
    """E-D3DGS shows some of its offsets, and shows them in part."""
    decoders, inputs = make_decoders(2, device), make_inputs(70, device)
    scales = make_scales("quats", "means", "sh", device=device)
    found = decoded(inputs, decoders, scales)
    assert_agree(found, in_single_precision(inputs, decoders, scales), device)
    assert found.keys() == scales.keys()
    assert decoded(inputs, decoders, {}) == {}


@torch.no_grad()
def test_inputs_that_lie_feature_by_feature(device: str):
    """As the features of 4DGaussians do."""
    decoders, inputs = make_decoders(1, device), make_inputs(70, device)
    found = decoded(inputs.T.contiguous().T, decoders)
    for name, value in decoded(inputs, decoders).items():
        assert torch.equal(found[name], value)


def test_what_needs_a_gradient_is_left_to_torch(device: str, monkeypatch: pytest.MonkeyPatch):
    decoders, inputs = make_decoders(1, device), make_inputs(20, device)
    monkeypatch.setattr(deformation_heads, "fused_offsets", None)
    assert decoded(inputs, decoders)["means"].requires_grad
    with torch.no_grad(), pytest.raises(TypeError, match="not callable"):
        decoded(inputs, decoders)
    for decoder in decoders:
        decoder.heads.requires_grad_(False)
    frozen = [
        replace(each, weight=each.weight.detach(), bias=each.bias.detach()) for each in decoders
    ]
    with pytest.raises(TypeError, match="not callable"):
        decoded(inputs, frozen)
    assert decoded(inputs.clone().requires_grad_(True), frozen)["means"].requires_grad


@torch.no_grad()
def test_single_and_double_precision_and_other_widths_are_left_to_torch(
    device: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(deformation_heads, "fused_offsets", None)
    inputs = make_inputs(20, device)
    for config in (replace(CONFIG, tf32=False), *(replace(CONFIG, width=w) for w in (8, 24, 512))):
        assert decoded(inputs, make_decoders(1, device, config))
    decoders = make_decoders(1, device)
    decoders[0].heads.double()
    double = replace(
        decoders[0], weight=decoders[0].weight.double(), bias=decoders[0].bias.double()
    )
    assert decoded(inputs.double(), [double])["sh"].dtype == torch.float64


@torch.no_grad()
def test_it_is_off_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(fused_decoders.SWITCH, raising=False)
    monkeypatch.setattr(deformation_heads, "fused_offsets", None)
    assert decoded(make_inputs(20, "cpu"), make_decoders(1, "cpu"))


COMPILE = """
from moegs_ns.experts import decoder_kernels
from moegs_ns.experts.fused_decoders import kernel_constants

for decoders in (1, 2):
    constants = dict(kernel_constants(32, 128, [3, 3, 4, 1, 48], decoders))
    constants["HAS_SCALES"] = decoders == 2
    compile_kernel(
        decoder_kernels.decode_kernel, constants, {"count", "row_stride", "column_stride"}, ()
    )
"""


def test_it_compiles_for_a_gpu():
    """At the published sizes; the interpreter runs Python that the compiler does not understand."""
    compile_for_a_gpu(COMPILE)
