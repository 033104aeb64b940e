"""Every implementation against the plain torch reference, forward and gradient."""

from contextlib import nullcontext
from dataclasses import replace
from types import ModuleType

import pytest
import torch
from tolerances import (
    EXACT,
    FORWARD,
    GRADIENT,
    KERNEL,
    Tolerance,
    assert_gradients_agree,
    assert_images_agree,
)
from toys import LEAVES, make_gaussians, make_view

from moegs_ns.cameras import View
from moegs_ns.cuda_graphs.graphed import capturing
from moegs_ns.gaussians import Gaussians
from moegs_ns.splatting import backend_gsplat, backend_numba, reference, render_experts
from moegs_ns.splatting.projection import (
    apply_eps2d,
    basis_factors,
    covariance,
    evaluate_bases,
    view_colors,
)

IMAGES = ("rgb", "alpha", "depth", "features", "gaussian_features")


def make_case(name: str, dtype: torch.dtype) -> tuple[list[Gaussians], View, dict]:
    """Experts, view and arguments of `render_experts` for a named case."""
    generator = torch.Generator().manual_seed(7)
    count = 48
    options, arguments, cameras = {}, {}, 1
    uniform = torch.rand(count, 8, generator=generator, dtype=dtype)
    if name == "features":
        options["features"] = uniform[:, :2]
        arguments["features"] = [uniform[:, 2:7]]
    if name == "eps2d":
        options["eps2d"] = 0.05 + 0.25 * uniform[:, 0]
    if name == "antialiased":
        options |= {"eps2d": 0.1, "antialiased": uniform[:, 0] > 0.5}
    if name == "cameras":
        cameras = 3
    experts = [make_gaussians(generator, count, dtype=dtype, **options)]
    if name == "experts":
        experts.append(make_gaussians(generator, 20, degree=0, dtype=dtype, eps2d=0.1))
        arguments["features"] = [uniform[:, :2], uniform[:20, 2:5]]
        arguments["background"] = torch.tensor([[0.9, 0.1, 0.4], [0.0, 1.0, 0.2]], dtype=dtype)
        arguments["near"] = [0.01, 3.5]
    return experts, make_view(cameras, dtype=dtype, shift=2.3), arguments


CASES = ("plain", "features", "eps2d", "antialiased", "cameras", "experts")


def splat_and_pull(
    case: tuple[list[Gaussians], View, dict], backend: ModuleType, device: str = "cpu"
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """All images, and all gradients of their product with fixed random cotangents."""
    experts, view, arguments = case
    leaves, attached = {}, []
    for number, expert in enumerate(experts):
        names = [*LEAVES, "features"] if expert.features is not None else LEAVES
        own = {n: getattr(expert, n).to(device).detach().requires_grad_() for n in names}
        leaves |= {f"{name} of expert {number}": value for name, value in own.items()}
        settings = {
            name: value.to(device)
            for name in ("eps2d", "antialiased")
            if isinstance(value := getattr(expert, name), torch.Tensor)
        }
        attached.append(replace(expert, **own, **settings))
    arguments = dict(arguments)
    for name in ("features", "background"):
        if name in arguments:
            moved = [value.to(device).detach().requires_grad_() for value in arguments[name]]
            leaves |= {f"{name}[{number}]": value for number, value in enumerate(moved)}
            arguments[name] = moved if name == "features" else torch.stack(moved)
    splats = render_experts(attached, view.to(device), **arguments, backend=backend)
    images = {name: getattr(splats, name) for name in IMAGES}
    generator = torch.Generator().manual_seed(99)
    weights = [
        torch.randn(image.shape, generator=generator, dtype=torch.float64).to(image)
        for image in images.values()
    ]
    products = zip(images.values(), weights, strict=True)
    loss = sum(((image * weight).sum() for image, weight in products), torch.zeros(()))
    grads = torch.autograd.grad(loss, list(leaves.values()))
    return images, dict(zip(leaves, grads, strict=True))


def assert_same(
    actual: tuple[dict, dict],
    expected: tuple[dict, dict],
    forward: Tolerance = FORWARD,
    gradient: Tolerance = GRADIENT,
) -> None:
    for name in IMAGES:
        assert_images_agree(actual[0][name], expected[0][name], forward)
    for name, grad in expected[1].items():
        assert_gradients_agree(actual[1][name], grad, gradient, what=name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CASES)
def test_numba_image_and_gradients_equal_the_reference(name, dtype):
    case = make_case(name, dtype)
    expected = splat_and_pull(case, reference)
    assert expected[0]["alpha"].max() > 0.7, "The case shows nothing that could go wrong."
    # Where little was hit, the division of depth by alpha costs float32 a digit in the image and
    # half a digit in gradients; float64 shows that the equations are the same.
    forward = Tolerance(1e-4, 1e-5) if dtype == torch.float32 else Tolerance(1e-9, 1e-10)
    gradient = Tolerance(1e-3, 3e-4) if dtype == torch.float32 else Tolerance(1e-7, 1e-8)
    assert_same(splat_and_pull(case, backend_numba), expected, forward, gradient)


def test_numba_stops_where_the_reference_stops():
    generator = torch.Generator().manual_seed(3)
    crowd = make_gaussians(generator, 400, dtype=torch.float64)
    crowd = replace(crowd, opacities=torch.ones_like(crowd.opacities), scales=crowd.scales * 3)
    case = ([crowd], make_view(dtype=torch.float64), {})
    expected = splat_and_pull(case, reference)
    assert (1 - expected[0]["alpha"]).min() < 2e-3, "No pixel is full."
    assert not expected[1]["sh of expert 0"].flatten(1).any(1).all(), "Nothing is hidden."
    actual = splat_and_pull(case, backend_numba)
    assert_same(actual, expected, Tolerance(1e-9, 1e-10), Tolerance(1e-7, 1e-8))


def test_numba_pulls_channels_alone_as_it_pulls_them_with_geometry():
    gaussians, view, _ = make_case("plain", torch.float32)
    rows = backend_numba.project(
        gaussians[0].means, gaussians[0].quats, gaussians[0].scales, gaussians[0].opacities, view
    )
    channels = torch.rand(len(rows.depths), 4, generator=torch.Generator().manual_seed(1))
    grads = []
    for means2d in (rows.means2d, rows.means2d.clone().requires_grad_()):
        leaf = channels.clone().requires_grad_()
        image, _ = backend_numba.rasterize(
            replace(rows, means2d=means2d), leaf, rows.camera_ids, (1, view.height, view.width)
        )
        (image**2).sum().backward()
        grads.append(leaf.grad)
    assert_gradients_agree(grads[0], grads[1], FORWARD)


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_gsplat_draws_and_pulls_like_the_others(name):
    case = make_case(name, torch.float32)
    actual = splat_and_pull(case, backend_gsplat, "cuda")
    # gsplat uses fast exponentials and sums with atomics.
    assert_same(actual, splat_and_pull(case, reference, "cuda"), KERNEL, KERNEL)
    assert_same(actual, splat_and_pull(case, backend_numba), KERNEL, KERNEL)


@pytest.mark.parametrize("backend", [reference, backend_numba])
def test_rasterisation_passes_gradcheck(backend):
    generator = torch.Generator().manual_seed(2)
    gaussians = make_gaussians(generator, 8, dtype=torch.float64)
    view = make_view(width=18, height=12, dtype=torch.float64)
    rows = reference.project(
        gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, view
    )
    assert len(rows.depths) >= 4
    channels = torch.rand(len(rows.depths), 2, generator=generator, dtype=torch.float64)

    def draw(means2d, conics, opacities, channels):
        moved = replace(rows, means2d=means2d, conics=conics, opacities=opacities)
        image_ids = torch.arange(len(channels)) % 2
        return backend.rasterize(moved, channels, image_ids, (2, view.height, view.width))

    leaves = (rows.means2d, rows.conics, rows.opacities, channels)
    leaves = tuple(leaf.detach().clone().requires_grad_() for leaf in leaves)
    assert torch.autograd.gradcheck(draw, leaves, eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("backend", [reference, backend_numba])
def test_splat_passes_gradcheck_through_projection_and_dilation(backend):
    generator = torch.Generator().manual_seed(5)
    fixed = make_gaussians(generator, 3, degree=1, dtype=torch.float64, eps2d=0.1,
                           antialiased=True)  # fmt: skip
    view = make_view(width=9, height=7, dtype=torch.float64)

    def draw(*values):
        splats = render_experts(
            [replace(fixed, **dict(zip(LEAVES, values, strict=True)))], view, backend=backend
        )
        return splats.rgb, splats.alpha, splats.rgb.new_zeros(()) + (splats.depth**2).sum()

    leaves = [getattr(fixed, name).clone().requires_grad_() for name in LEAVES]
    assert torch.autograd.gradcheck(draw, leaves, eps=1e-7, atol=1e-4)


def test_projection_agrees_with_the_reference_of_gsplat(generator):
    from gsplat.cuda._torch_impl import _fully_fused_projection

    gaussians = make_gaussians(generator, 200)
    view = make_view(3, shift=4.0)
    rows = reference.project(
        gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, view
    )
    radii, means2d, depths, conics, _ = _fully_fused_projection(
        gaussians.means, covariance(gaussians.quats, gaussians.scales), view.viewmats, view.Ks,
        view.width, view.height,
    )  # fmt: skip
    index = torch.nonzero(radii > 0, as_tuple=True)
    assert 0 < len(index[0]) < radii.numel(), "Culling is not put to the test."
    EXACT.assert_close(rows.camera_ids, index[0])
    EXACT.assert_close(rows.gaussian_ids, index[1])
    EXACT.assert_close(rows.radii, radii[index])
    FORWARD.assert_close(rows.means2d, means2d[index])
    FORWARD.assert_close(rows.depths, depths[index])
    Tolerance(1e-4, 1e-6).assert_close(rows.conics, conics[index], "a quotient of small numbers")


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_harmonics_agree_with_the_reference_of_gsplat(degree, generator):
    from gsplat.cuda._torch_impl import _spherical_harmonics

    gaussians = make_gaussians(generator, 30, degree=degree)
    gaussians = replace(gaussians, sh=8 * gaussians.sh)
    position = torch.tensor([0.3, -0.2, 0.1])
    directions = gaussians.means - position
    expected = _spherical_harmonics(degree, directions, gaussians.sh)
    FORWARD.assert_close(
        view_colors(gaussians.sh, gaussians.means, position), (expected + 0.5).clamp(min=0)
    )
    assert expected.min() < -0.5, "No colour is clamped."


@pytest.mark.gpu
@pytest.mark.parametrize("degree", [1, 2, 3])
def test_harmonics_of_captures_are_those_of_gsplat(degree, generator):
    gaussians, found = make_gaussians(generator, 200, degree=degree), []
    position = torch.tensor([0.1, -0.2, -1.0]).cuda()
    for context in (nullcontext, capturing):
        leaves = [value.cuda().requires_grad_() for value in (gaussians.sh, gaussians.means)]
        with context():
            colors = view_colors(leaves[0], leaves[1], position)
        found.append((colors, torch.autograd.grad(colors.square().sum(), leaves)))
    FORWARD.assert_close(found[1][0], found[0][0])
    for one, other in zip(found[1][1], found[0][1], strict=True):
        assert_gradients_agree(one, other)


def test_harmonics_are_orthonormal():
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(200_000, 3, generator=generator, dtype=torch.float64)
    bases = evaluate_bases(torch.nn.functional.normalize(directions, dim=-1), basis_factors(16))
    gram = 4 * torch.pi * bases.T @ bases / len(bases)
    # Monte Carlo: the error of 200 000 samples is about 0.003.
    assert (gram - torch.eye(16)).abs().max() < 0.02


def test_dilation_is_a_projection_with_that_kernel(generator):
    from gsplat.cuda._torch_impl import _fully_fused_projection

    gaussians, view = make_gaussians(generator, 200), make_view()
    rows = reference.project(
        gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, view
    )
    dilated = apply_eps2d(rows, 0.1, True)
    _, _, _, conics, factors = _fully_fused_projection(
        gaussians.means, covariance(gaussians.quats, gaussians.scales), view.viewmats, view.Ks,
        view.width, view.height, eps2d=0.1, calc_compensations=True,
    )  # fmt: skip
    assert factors is not None
    index = rows.camera_ids, rows.gaussian_ids
    Tolerance(1e-3, 1e-5).assert_close(dilated.conics, conics[index], "two inversions of float32")
    expected = gaussians.opacities[rows.gaussian_ids] * factors[index]
    Tolerance(1e-3, 1e-5).assert_close(dilated.opacities, expected, "two inversions of float32")
    assert (dilated.opacities < rows.opacities).all()


def test_default_dilation_keeps_every_bit_beside_other_dilations(generator):
    gaussians, view = make_gaussians(generator, 50), make_view()
    rows = reference.project(
        gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, view
    )
    own = torch.full_like(rows.depths, 0.3)
    own[::2] = 0.1
    mixed = apply_eps2d(rows, own, False)
    EXACT.assert_close(mixed.conics[1::2], rows.conics[1::2])
    EXACT.assert_close(mixed.radii[1::2], rows.radii[1::2])
    EXACT.assert_close(mixed.opacities, rows.opacities)
    assert (mixed.conics[::2] != rows.conics[::2]).any(dim=1).all()
