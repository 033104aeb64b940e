"""The kernels that read HexPlane levels against plain torch, in values and gradients.

On the CPU Triton's interpreter runs them; `gpu` tests run what is compiled.
"""

import pytest
import torch
from tolerances import FORWARD, assert_gradients_agree
from torch import Tensor
from triton_compiler import compile_for_a_gpu

from moegs_ns.experts.fourdgaussians import expert as hexplane
from moegs_ns.experts.fourdgaussians import fused_planes
from moegs_ns.experts.fourdgaussians.expert import HexPlaneField

pytestmark = pytest.mark.skipif(
    fused_planes.kernels() is None, reason="Triton comes with torch for Linux only"
)
TIMES = (-0.3, 0.9)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the kernels run: interpreted, where there is no GPU, or compiled."""
    if request.param == "cpu" and torch.cuda.is_available():
        pytest.skip("Triton interprets kernels where there is no GPU")
    monkeypatch.setenv(fused_planes.SWITCH, "1")
    return request.param


def make_field(device: str, channels: int = 4) -> HexPlaneField:
    """Two levels, whose planes have no symmetry."""
    torch.manual_seed(0)
    field = HexPlaneField(channels, space_cells=5, levels=(1, 2), time_cells=4)
    for parameter in field.parameters():
        parameter.data.uniform_(-1.0, 1.0)
    return field.to(device)


def make_positions(device: str, rows: int = 101) -> Tensor:
    """Within the planes, and a few beyond each side."""
    positions = 2.2 * torch.rand(rows, 3, generator=torch.Generator().manual_seed(1)) - 1.1
    assert (positions.abs() > 1.0).any(0).all()
    return positions.to(device)


def run(
    field: HexPlaneField, positions: Tensor, times: tuple[float, ...], *, fused: bool
) -> list[Tensor]:
    """Features, then gradients of positions, times and planes."""
    positions = positions.clone().requires_grad_(True)
    at = [torch.tensor(time, device=positions.device, requires_grad=True) for time in times]
    lines = [torch.stack([level.lines(time) for time in at]) for level in field.levels]
    found = torch.stack(field(positions, at) if fused else field.plain(positions, lines))
    weight = torch.randn(found.shape, generator=torch.Generator().manual_seed(2)).to(found)
    wanted = [positions, *at, *field.parameters()]
    return [found.detach(), *torch.autograd.grad((found * weight).sum(), wanted)]


@pytest.mark.parametrize("times", [TIMES[:1], TIMES])
@pytest.mark.parametrize("channels", [4, 16])
def test_features_and_gradients_are_those_of_plain_torch(
    times: tuple[float, ...], channels: int, device: str
):
    field, positions = make_field(device, channels), make_positions(device)
    found = run(field, positions, times, fused=True)
    expected = run(field, positions, times, fused=False)
    assert found[0].shape == (len(times), len(positions), 2 * channels)
    FORWARD.assert_close(found[0], expected[0])
    for own, plain in zip(found[1:], expected[1:], strict=True):
        assert plain.abs().max() > 0.0
        assert_gradients_agree(own, plain)


def test_on_the_border_and_on_cells(device: str):
    """Where the cell after a point lies outside, or weighs nothing."""
    steps = torch.linspace(-1.0, 1.0, 5, device=device)
    positions = torch.cartesian_prod(steps, steps, steps)
    field = make_field(device)
    found = run(field, positions, TIMES, fused=True)
    FORWARD.assert_close(found[0], run(field, positions, TIMES, fused=False)[0])
    assert all(value.isfinite().all() for value in found)


def test_a_field_takes_the_kernels(device: str, monkeypatch: pytest.MonkeyPatch):
    """Unless they are not asked for, or its features fill no block."""
    monkeypatch.setattr(hexplane, "fused_read", None)
    positions, times = make_positions(device), [torch.tensor(0.1, device=device)]
    with pytest.raises(TypeError, match="not callable"):
        make_field(device)(positions, times)
    assert make_field(device, channels=3)(positions, times)[0].shape == (101, 6)
    assert make_field(device).double()(positions.double(), times)[0].dtype == torch.float64
    monkeypatch.delenv(fused_planes.SWITCH)
    assert make_field(device)(positions, times)[0].shape == (101, 8)


COMPILE = """
from moegs_ns.experts.fourdgaussians import plane_kernels

for cells, times in ((64, 1), (128, 2)):
    sizes = {"CELLS": cells, "CHANNELS": 16, "TIMES": times, "BLOCK": 32}
    for kernel in (plane_kernels.features_kernel, plane_kernels.gradient_kernel):
        compile_kernel(kernel, sizes, {"count"}, ())
"""


def test_they_compile_for_a_gpu():
    """At the published sizes; the interpreter runs Python that the compiler does not understand."""
    compile_for_a_gpu(COMPILE)
