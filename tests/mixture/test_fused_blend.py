"""The kernel behind the rasteriser against plain torch, forward and gradient.

On the CPU Triton's interpreter runs it; `gpu` tests run what is compiled.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import cast

import pytest
import torch
from mixture_helpers import mixture, views
from tolerances import FORWARD, assert_gradients_agree
from torch import Tensor
from triton_compiler import compile_for_a_gpu

from moegs_ns.cameras import View
from moegs_ns.mixture import fused_blend
from moegs_ns.mixture.mixture import MIN_ACCUMULATION, GateConfig, Mixture, MixtureRender
from moegs_ns.routers import (
    EVIDENCE,
    PixelRouterConfig,
    RouterConfig,
    VolumeAwarePixelRouter,
    VolumeAwarePixelRouterConfig,
)

pytestmark = pytest.mark.skipif(
    fused_blend.kernels() is None, reason="Triton comes with torch for Linux only"
)
OUTPUTS = ("rgb", "gates", "depth", "accumulation")
ROUTERS = {
    "published": VolumeAwarePixelRouterConfig(),
    "one layer": VolumeAwarePixelRouterConfig(hidden=()),
    "three layers": VolumeAwarePixelRouterConfig(hidden=(5, 4, 2)),
    "no time": VolumeAwarePixelRouterConfig(time_weights=False),
    "rays alone": VolumeAwarePixelRouterConfig(time_weights=False, direction_weights=False),
}
BACKGROUNDS = [torch.tensor([0.2, 0.5, 0.9]), torch.zeros(3), torch.ones(3)]


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the kernel runs: interpreted, where there is no GPU, or compiled."""
    if request.param == "cpu" and torch.cuda.is_available():
        pytest.skip("Triton interprets kernels where there is no GPU")
    # cuDNN's TF32, on by default, moves the gradients of the reference by a thousandth.
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    return request.param


def rendered(
    built: Mixture, view: View, is_fused: bool, monkeypatch: pytest.MonkeyPatch, **options
) -> MixtureRender:
    """A mixture's render by the kernel, which must have been used, or by plain torch."""
    calls: list[int] = []
    kernel = fused_blend.fused_blend

    def counted(*args, **kwargs):
        calls.append(1)
        return kernel(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setenv(fused_blend.SWITCH, "1" if is_fused else "0")
        patch.setattr("moegs_ns.mixture.mixture.fused_blend", counted)
        render = built.render(view, **options)
    assert len(calls) == is_fused
    return render


@pytest.mark.parametrize("name", ROUTERS)
@pytest.mark.parametrize("counts", [(40,), (40, 30), (40, 30, 20)])
def test_images_are_those_of_plain_torch(
    name: str, counts: tuple[int, ...], device: str, monkeypatch: pytest.MonkeyPatch
):
    built = mixture(*counts, router=ROUTERS[name]).to(device)
    built.router.scene_center += torch.tensor([0.3, -0.2, 0.1], device=device)
    backgrounds = [value.to(device) for value in BACKGROUNDS[: len(counts)]]
    for view in views(2):
        draw = partial(rendered, built, view.to(device), monkeypatch=monkeypatch)
        fused, plain = (draw(each, backgrounds=backgrounds) for each in (True, False))
        for output in OUTPUTS:
            FORWARD.assert_close(getattr(fused, output), getattr(plain, output))
        assert torch.equal(fused.images, plain.images)
        FORWARD.assert_close(fused.gates.sum(0), torch.ones_like(fused.accumulation))


@pytest.mark.parametrize("name", sorted(ROUTERS.keys() - {"rays alone"}))  # which cancel
@pytest.mark.parametrize("uniform", [0.0, 0.25])
def test_gradients_of_the_router_are_those_of_plain_torch(
    name: str, uniform: float, device: str, monkeypatch: pytest.MonkeyPatch
):
    built = mixture(40, 30, 20, router=ROUTERS[name]).to(device)
    built.gate_config = GateConfig(uniform=uniform)
    view = views(3)[1].to(device)
    renders = [rendered(built, view, is_fused, monkeypatch) for is_fused in (True, False)]
    found = [router_gradients(built, render) for render in renders]
    assert found[0].keys() == found[1].keys()
    for parameter, gradient in found[0].items():
        assert gradient.abs().max() > 0.0, parameter
        assert_gradients_agree(gradient, found[1][parameter])


def router_gradients(built: Mixture, render: MixtureRender) -> dict[str, Tensor]:
    """Of a random loss of colours and gates."""
    generator = torch.Generator().manual_seed(3)
    weights = [
        torch.randn(image.shape, generator=generator).to(image)
        for image in (render.rgb, render.gates)
    ]
    loss = (render.rgb * weights[0]).sum() + (render.gates * weights[1]).sum()
    parameters = dict(built.router.named_parameters())
    return dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))


def test_thawed_experts_get_the_gradients_of_plain_torch(
    device: str, monkeypatch: pytest.MonkeyPatch
):
    built = mixture(40, 30).to(device)
    built.thaw()
    names = ("means", "opacities", "sh0")
    leaves = [expert.gauss_params[name] for expert in built.experts for name in names]
    view, found = views(3)[1].to(device), []
    for is_fused in (True, False):
        render = rendered(built, view, is_fused, monkeypatch)
        generator = torch.Generator().manual_seed(3)
        weights = torch.randn(render.rgb.shape, generator=generator).to(device)
        found.append(torch.autograd.grad((render.rgb * weights).sum(), leaves))
    for fused, plain in zip(*found, strict=True):
        assert plain.abs().max() > 0.0
        assert_gradients_agree(fused, plain)


@pytest.mark.parametrize("blur", [0.0, 0.1])
@pytest.mark.parametrize("is_corrected", [True, False])
@pytest.mark.parametrize("name", ["published", "no time"])
def test_blurred_and_corrected_gates_are_those_of_plain_torch(
    name: str, is_corrected: bool, blur: float, device: str, monkeypatch: pytest.MonkeyPatch
):
    counts = (40, 30, 20)
    router = replace(ROUTERS[name], stacked=is_corrected)
    built = mixture(*counts, router=router).to(device)
    built.gate_config = GateConfig(blur=blur, uniform=0.1)
    if is_corrected:
        correct(built, counts)
    view = views(3)[1].to(device)
    draw = partial(rendered, built, view, monkeypatch=monkeypatch)
    with torch.no_grad():
        fused, plain = (draw(each, backgrounds=None) for each in (True, False))
        uncorrected = built.router.train() and draw(False)
    for output in OUTPUTS:
        FORWARD.assert_close(getattr(fused, output), getattr(plain, output))
    assert is_corrected != torch.equal(plain.gates, uncorrected.gates)


def correct(built: Mixture, counts: Sequence[int]) -> None:
    """Fit a correction with random numbers."""
    generator = torch.Generator().manual_seed(5)
    router = cast(VolumeAwarePixelRouter, built.router)
    assert router.correction is not None
    router.correction.set_(
        [{n: torch.randn(count, generator=generator) for n in EVIDENCE} for count in counts],
        torch.randn(len(counts), generator=generator),
        torch.randn(2 + len(EVIDENCE), generator=generator),
    )
    router.eval()


@pytest.mark.parametrize(
    "router", [PixelRouterConfig(), VolumeAwarePixelRouterConfig(kernel_size=3)]
)
def test_what_the_kernel_does_not_compute_is_left_to_torch(
    router: RouterConfig, device: str, monkeypatch: pytest.MonkeyPatch
):
    """Neighbouring pixels and other routers would be wrong in the kernel, and blurred and corrected
    gates without gradients."""
    monkeypatch.setenv(fused_blend.SWITCH, "1")
    monkeypatch.setattr("moegs_ns.mixture.mixture.fused_blend", None)
    view = views(3)[1].to(device)
    mixture(20, 10, router=router).to(device).render(view)
    blurred = mixture(20, 10).to(device)
    blurred.gate_config = replace(blurred.gate_config, blur=0.1)
    corrected = mixture(20, 10, router=VolumeAwarePixelRouterConfig(stacked=True)).to(device)
    correct(corrected, (20, 10))
    for each in (blurred, corrected):
        assert each.render(view).gates.requires_grad
    for each in (blurred, corrected, mixture(20, 10).to(device)):
        with torch.no_grad(), pytest.raises(TypeError, match="not callable"):
            each.render(view)


def test_one_number_is_the_same_in_both():
    module = fused_blend.kernels()
    assert module is not None and module.MIN_ACCUMULATION.value == MIN_ACCUMULATION


def test_plain_torch_on_a_cpu_without_the_interpreter():
    view = views(1)[0]
    assert not mixture(20, 10).is_fusible(view, [view])


COMPILE = """
from moegs_ns.mixture import blend_kernels

sizes = {"EXPERTS": 3, "PADDED": 4, "REFINED": 2, "WIDTHS": (8, 6, 3, 1), "LAYERS": 3, "BLOCK": 64}
whole = {"pixels", "width", "rgb_expert", "rgb_pixel", "feature_expert", "feature_pixel"}
for kernel, more in (
    (blend_kernels.forward_kernel, {"CORRECTION": 0}),
    (blend_kernels.forward_kernel, {"CORRECTION": 4}),
    (blend_kernels.logits_kernel, {"CORRECTION": 4}),
    (blend_kernels.blend_kernel, {}),
    (blend_kernels.backward_kernel, {"COUNT": 69, "OF_IMAGES": True}),
):
    compile_kernel(kernel, sizes | more, whole, {"temperature", "uniform"})
"""


@pytest.mark.slow
def test_kernels_compile_for_a_gpu():
    compile_for_a_gpu(COMPILE)
