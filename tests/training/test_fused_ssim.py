"""The kernels of SSIM against plain torch, in values and gradients.

On the CPU Triton's interpreter runs them; `gpu` tests run what is compiled.
"""

import pytest
import torch
from tolerances import FORWARD, Tolerance, assert_gradients_agree
from torch import Tensor
from triton_compiler import compile_for_a_gpu

from moegs_ns.cuda_graphs.graphed import GraphedCallable
from moegs_ns.training import fused_ssim
from moegs_ns.training.losses import (
    is_fusible,
    photometric_errors,
    plain_similarity,
    similarity_map,
    structural_similarity,
)

pytestmark = pytest.mark.skipif(
    fused_ssim.kernels() is None, reason="Triton comes with torch for Linux only"
)
SHAPES = [(1, 11, 11), (2, 13, 97), (3, 40, 12), (1, 3, 5)]
"""Images, heights and widths: of the window's size, longer than a block, and smaller."""
SINGLE = Tolerance(rtol=1e-4, atol=3e-5)
"""Of single against double precision: variances are small differences of large numbers."""


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the kernels run: interpreted, where there is no GPU, or compiled."""
    if request.param == "cpu" and torch.cuda.is_available():
        pytest.skip("Triton interprets kernels where there is no GPU")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setenv(fused_ssim.SWITCH, "1")
    return request.param


def images(shape: tuple[int, int, int], device: str, seed: int = 0) -> Tensor:
    """Random ones, on which SSIM is near 0, mixed with a slope, on which it is not."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(*shape, 3, generator=generator)
    slope = torch.linspace(0, 1, shape[2])[:, None]
    return (0.3 * noise + 0.7 * slope).to(device)


@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients_are_those_of_plain_torch(shape: tuple[int, int, int], device: str):
    target = images(shape, device, seed=1)
    cotangent = images(shape, device, seed=2)[..., :1] - 0.5
    found = []
    for similarity, kind in (
        (similarity_map, torch.float32), (plain_similarity, torch.float32),
        (plain_similarity, torch.float64),
    ):  # fmt: skip
        pred = images(shape, device).to(kind).requires_grad_(True)
        value = similarity(pred, target.to(kind))
        found.append((value.detach(), *torch.autograd.grad((value * cotangent).sum(), pred)))
    (fused, of_fused), (plain, _), (exact, of_exact) = found
    assert exact.std() > 0.01 and of_exact.abs().max() > 0.0
    SINGLE.assert_close(fused.double(), exact)
    assert (fused - exact).abs().max() < 3 * (plain - exact).abs().max() + 1e-6
    assert_gradients_agree(of_fused.double(), of_exact)


def test_equal_and_flat_images(device: str):
    """Without any variance nothing but the constants is left."""
    same, flat = images((1, 15, 17), device), torch.full((1, 15, 17, 3), 0.5, device=device)
    torch.testing.assert_close(similarity_map(same, same), torch.ones_like(same[..., :1]))
    SINGLE.assert_close(similarity_map(flat, same), plain_similarity(flat, same))


def test_images_that_do_not_lie_in_order(device: str):
    """As crops and renders do: the kernels read rows as they lie in memory."""
    wide, target = images((2, 14, 30), device), images((2, 14, 15), device, seed=1)
    pred = wide[:, :, ::2].requires_grad_(True)
    assert not pred.is_contiguous()
    (gradient,) = torch.autograd.grad(similarity_map(pred, target).sum(), pred)
    SINGLE.assert_close(similarity_map(pred, target), plain_similarity(pred, target))
    (expected,) = torch.autograd.grad(plain_similarity(pred, target).sum(), pred)
    assert_gradients_agree(gradient, expected)


def test_the_loss_takes_the_kernels(device: str, monkeypatch: pytest.MonkeyPatch):
    pred, target = images((2, 16, 20), device), images((2, 16, 20), device, seed=1)
    fused = photometric_errors(pred, target)
    monkeypatch.setattr("moegs_ns.training.losses.fused_similarity", None)
    with pytest.raises(TypeError, match="not callable"):
        structural_similarity(pred, target)
    monkeypatch.setenv(fused_ssim.SWITCH, "0")
    plain = photometric_errors(pred, target)
    FORWARD.assert_close(fused.loss, plain.loss)
    assert fused.ssim is not None and plain.ssim is not None
    FORWARD.assert_close(fused.ssim, plain.ssim)


def test_what_the_kernels_do_not_compute_is_left_to_torch(
    device: str, monkeypatch: pytest.MonkeyPatch
):
    """Gradients of the target, and double precision."""
    monkeypatch.setattr("moegs_ns.training.losses.fused_similarity", None)
    pred, target = images((1, 12, 12), device), images((1, 12, 12), device, seed=1)
    assert similarity_map(pred.double(), target.double()).dtype == torch.float64
    assert similarity_map(pred, target.clone().requires_grad_(True)).requires_grad
    with torch.no_grad(), pytest.raises(TypeError, match="not callable"):
        similarity_map(pred, target.requires_grad_(True))


def test_plain_torch_on_a_cpu_without_the_interpreter():
    pred = images((1, 12, 12), "cpu")
    assert not is_fusible(pred, pred)


@pytest.mark.gpu
def test_it_is_captured_with_its_gradient():
    """Replays see other images."""
    loss = GraphedCallable(lambda p, t: photometric_errors(p, t).loss)
    for seed in range(8):
        pred = images((2, 30, 50), "cuda", seed).requires_grad_(True)
        target = images((2, 30, 50), "cuda", seed + 100)
        value = loss(pred, target)
        value.backward()
        plain = pred.detach().clone().requires_grad_(True)
        expected = photometric_errors(plain, target).loss
        expected.backward()
        FORWARD.assert_close(value.detach(), expected.detach())
        assert pred.grad is not None and plain.grad is not None
        assert_gradients_agree(pred.grad, plain.grad)
    assert loss.graph is not None


COMPILE = """
from moegs_ns.training import ssim_kernels

sizes = {"WINDOW": 11, "BLOCK": 256, "HAS_GRADIENT": True}
for name in ("moments", "similarity", "gradient_rows", "gradient"):
    kernel = getattr(ssim_kernels, f"{name}_kernel")
    compile_kernel(kernel, sizes, {"length", "height", "numbers"}, {"c1", "c2"})
"""


@pytest.mark.slow
def test_kernels_compile_for_a_gpu():
    compile_for_a_gpu(COMPILE)
