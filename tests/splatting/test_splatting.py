"""The public face of splatting: experts, backgrounds, edge cases, gradients."""

import sys
from dataclasses import replace
from types import ModuleType

import pytest
import torch
from tolerances import EXACT, FORWARD, GRADIENT, assert_gradients_agree, assert_images_agree
from toys import LEAVES, make_gaussians, make_view

from moegs_ns.splatting import (
    backend_gsplat,
    backend_numba,
    composite,
    reference,
    render,
    render_experts,
)
from moegs_ns.splatting.rendering import backend_for

IMAGES = ("rgb", "alpha", "depth", "features", "gaussian_features")
CPU_RASTERIZERS = pytest.mark.parametrize("backend", [reference, backend_numba])


def attach(gaussians):
    """The same Gaussians with leaves that collect gradients."""
    leaves = {name: getattr(gaussians, name).detach().clone().requires_grad_() for name in LEAVES}
    return replace(gaussians, **leaves), list(leaves.values())


def test_numba_is_the_choice_on_the_cpu():
    assert backend_for(torch.device("cpu")) is backend_numba


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch):
    """A stand-in for what gsplat has compiled, which is nothing at first."""
    backend = ModuleType("gsplat.cuda._backend")
    vars(backend)["_C"] = None
    monkeypatch.setitem(sys.modules, backend.__name__, backend)
    backend_gsplat.require_kernels.cache_clear()
    yield backend
    backend_gsplat.require_kernels.cache_clear()


def test_a_gpu_without_compiled_kernels(kernels, monkeypatch: pytest.MonkeyPatch):
    """gsplat without nvcc disables itself and would fail at an attribute of None."""
    monkeypatch.setattr(torch.version, "cuda", "12.4")
    message = r"no nvcc .*CUDA toolkit 12\.4.*prebuilt gsplat wheel.*CUDA_VISIBLE_DEVICES=\"\"\.$"
    with pytest.raises(ImportError, match=message):
        backend_for(torch.device("cuda"))


def test_gsplat_is_the_choice_on_a_gpu_and_looked_for_once(kernels):
    kernels._C = object()
    assert backend_for(torch.device("cuda")) is backend_gsplat
    del kernels._C
    assert backend_for(torch.device("cuda")) is backend_gsplat


@CPU_RASTERIZERS
@pytest.mark.parametrize("num_experts", [1, 2, 3])
def test_one_pass_equals_separate_splats(num_experts, backend, generator):
    counts, degrees, dilations = (48, 17, 30), (2, 0, 3), (0.3, 0.1, 0.3)
    experts = [
        make_gaussians(generator, n, degree=degree, eps2d=eps2d)
        for n, degree, eps2d in zip(counts, degrees, dilations, strict=True)
    ][:num_experts]
    features = [torch.rand(n, 3, generator=generator) for n in counts][:num_experts]
    background = torch.rand(num_experts, 3, generator=generator)
    near = [0.01, 3.0, 0.01][:num_experts]
    view = make_view(2)
    together = render_experts(experts, view, features, background, near=near, backend=backend)
    assert len(together) == num_experts
    for e in range(num_experts):
        alone = render(experts[e], view, features[e], background[e], near=near[e], backend=backend)
        assert alone.alpha.max() > 0.5
        for name in IMAGES:
            assert_images_agree(getattr(together[e], name), getattr(alone, name), max_flipped=0.0)
        centres = [one.projected.projection.means2d for one in (together[e], alone)]
        FORWARD.assert_close(centres[0], centres[1])
        EXACT.assert_close(together[e].radii, alone.radii)


def test_order_of_experts_does_not_matter(generator, toy_view):
    experts = [make_gaussians(generator, n) for n in (20, 31, 12)]
    order = [2, 0, 1]
    straight = render_experts(experts, toy_view)
    shuffled = render_experts([experts[e] for e in order], toy_view)
    for place, e in enumerate(order):
        for name in IMAGES:
            EXACT.assert_close(getattr(shuffled[place], name), getattr(straight[e], name))


def test_order_of_gaussians_does_not_matter(generator, toy_gaussians, toy_view):
    shuffled = toy_gaussians.select(torch.randperm(len(toy_gaussians), generator=generator))
    expected = render(toy_gaussians, toy_view)
    assert_images_agree(render(shuffled, toy_view).rgb, expected.rgb, max_flipped=0.0)


def test_cameras_at_one_time_equal_cameras_one_by_one(toy_gaussians):
    view = make_view(3, shift=1.7)
    together = render(toy_gaussians, view)
    for camera in range(3):
        alone = render(toy_gaussians, view.select(torch.tensor([camera])))
        EXACT.assert_close(together.rgb[camera], alone.rgb[0])
        EXACT.assert_close(together.radii[camera], alone.radii[0])


def test_background_is_composited_afterwards(toy_gaussians, toy_view):
    background = torch.tensor([0.2, 0.7, 1.0])
    plain = render(toy_gaussians, toy_view)
    over = render(toy_gaussians, toy_view, background=background)
    EXACT.assert_close(over.rgb, composite(plain.rgb, plain.alpha, background))
    EXACT.assert_close(over.depth, plain.depth)
    assert (over.rgb - plain.rgb).max() > 0.1


def test_near_plane_removes_what_is_closer(toy_gaussians, toy_view):
    cut = render(toy_gaussians, toy_view, near=4.0)
    beyond = toy_gaussians.means[:, 2] > 4.0
    expected = render(toy_gaussians.select(beyond), toy_view)
    EXACT.assert_close(cut.rgb, expected.rgb)
    assert not cut.radii[0, ~beyond].any() and cut.radii.any()


def test_depth_of_one_opaque_gaussian_is_its_distance(toy_view):
    one = make_gaussians(torch.Generator().manual_seed(0), 1)
    one = replace(one, means=torch.tensor([[0.0, 0.0, 3.25]]), scales=torch.full((1, 3), 0.5))
    drawn = render(one, toy_view)
    is_hit = drawn.alpha > 0
    assert is_hit.any()
    FORWARD.assert_close(drawn.depth[is_hit], torch.full_like(drawn.depth[is_hit], 3.25))
    assert not drawn.depth[~is_hit].any()


def test_views_of_different_times_are_refused(toy_gaussians):
    view = replace(make_view(2), frame_ids=torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="one time"):
        render(toy_gaussians, view)


def test_a_missing_set_of_features_is_refused(toy_gaussians, toy_view):
    with pytest.raises(ValueError):
        render_experts([toy_gaussians, toy_gaussians], toy_view, [torch.ones(48, 1)])


def altered(kind, gaussians):
    """Gaussians in a state that training can reach and that must not break anything."""
    means, scales = gaussians.means, gaussians.scales
    behind = means * torch.tensor([1.0, 1.0, -1.0])
    aside = means + torch.tensor([1e4, 0.0, 0.0])
    return {
        "empty": lambda: gaussians.select(torch.zeros(len(gaussians), dtype=torch.bool)),
        "behind": lambda: replace(gaussians, means=behind),
        "aside": lambda: replace(gaussians, means=aside),
        "huge": lambda: replace(gaussians, scales=scales * 1e4),
        "gigantic": lambda: replace(gaussians, scales=scales * 1e12),
        "needle": lambda: replace(gaussians, scales=scales * torch.tensor([1e-4, 1.0, 1e3])),
        "point": lambda: replace(gaussians, scales=torch.zeros_like(scales)),
        "clear": lambda: replace(gaussians, opacities=torch.zeros_like(gaussians.opacities)),
        "solid": lambda: replace(gaussians, opacities=torch.ones_like(gaussians.opacities)),
        "close": lambda: replace(gaussians, means=means * torch.tensor([1.0, 1.0, 0.004])),
        "one place": lambda: replace(gaussians, means=means[:1].expand_as(means)),
    }[kind]()


KINDS = ("empty", "behind", "aside", "huge", "gigantic", "needle", "point", "clear", "solid",
         "close", "one place")  # fmt: skip


@CPU_RASTERIZERS
@pytest.mark.parametrize("options", [{}, {"eps2d": 0.1, "antialiased": True}])
@pytest.mark.parametrize("kind", KINDS)
def test_edge_cases_draw_finite_images_with_finite_gradients(kind, options, backend, generator):
    gaussians, leaves = attach(replace(altered(kind, make_gaussians(generator)), **options))
    features = torch.rand(len(gaussians), 2, generator=generator).requires_grad_()
    view = make_view(2)
    drawn = render(gaussians, view, features, torch.ones(3), backend=backend)
    images = [getattr(drawn, name) for name in IMAGES]
    assert all(image.isfinite().all() for image in images)
    grads = torch.autograd.grad(
        sum(((image * image).sum() for image in images), torch.zeros(())),
        [*leaves, features],
        allow_unused=False,
    )
    for name, grad in zip([*LEAVES, "features"], grads, strict=True):
        assert grad.isfinite().all(), name
    assert drawn.rgb.shape == (2, view.height, view.width, 3)
    assert drawn.radii.shape == (2, len(gaussians))
    if kind in ("empty", "behind", "aside"):
        assert not drawn.radii.any() and not drawn.alpha.any()
        EXACT.assert_close(drawn.rgb, torch.ones_like(drawn.rgb))
    if kind in ("huge", "needle", "solid", "one place") or (kind == "point" and not options):
        assert drawn.alpha.any()


@pytest.mark.parametrize("kind", KINDS)
def test_edge_cases_agree_with_the_reference(kind, generator, toy_view):
    gaussians = altered(kind, make_gaussians(generator))
    numba, expected = (render(gaussians, toy_view, backend=r) for r in (backend_numba, reference))
    assert_images_agree(numba.rgb, expected.rgb)
    assert_images_agree(numba.alpha, expected.alpha)


@pytest.mark.parametrize("shift", [0.0, 3.3, -11.0])
@pytest.mark.parametrize("size", [(37, 29), (16, 16), (17, 33), (5, 3), (1, 1), (1, 40)])
def test_any_size_and_principal_point(size, shift, toy_gaussians):
    view = make_view(2, width=size[0], height=size[1], shift=shift)
    numba, expected = (render(toy_gaussians, view, backend=r) for r in (backend_numba, reference))
    assert numba.rgb.shape == (2, size[1], size[0], 3)
    assert_images_agree(numba.rgb, expected.rgb)
    assert_images_agree(numba.alpha, expected.alpha)


def test_a_shifted_principal_point_shifts_the_image(toy_gaussians):
    # Whole pixels and distant borders, so that neither sampling nor clamped Jacobians differ.
    near_centre = replace(toy_gaussians, means=toy_gaussians.means * torch.tensor([0.4, 0.4, 1]))
    straight = render(near_centre, make_view(width=48, height=48)).rgb
    shifted = render(near_centre, make_view(width=48, height=48, shift=5.0)).rgb
    torch.testing.assert_close(shifted[:, :-5, 5:], straight[:, 5:, :-5], rtol=1e-3, atol=1e-3)
    assert straight.max() > 0.5


def test_two_runs_pull_the_same_bits(generator, toy_view):
    runs = []
    gaussians = make_gaussians(generator, 500)
    for _ in range(2):
        attached, leaves = attach(gaussians)
        drawn = render(attached, toy_view, backend=backend_numba)
        loss = drawn.rgb.pow(2).sum() + drawn.depth.sum()
        runs.append([drawn.rgb, *torch.autograd.grad(loss, leaves)])
    for first, second in zip(*runs, strict=True):
        EXACT.assert_close(first, second)


@CPU_RASTERIZERS
def test_retained_screen_gradients_are_those_of_moving_the_centres(backend):
    generator = torch.Generator().manual_seed(4)
    gaussians = make_gaussians(generator, 10, degree=0, dtype=torch.float64)
    # Parallel to the image plane at one depth, a step of a mean is a step on the screen alone.
    gaussians = replace(gaussians, means=gaussians.means * 3.0 / gaussians.means[:, 2:])
    view = make_view(dtype=torch.float64)
    attached, _ = attach(gaussians)
    drawn = render(attached, view, backend=backend)
    drawn.retain_screen_gradients()
    target = torch.rand(drawn.rgb.shape, generator=generator, dtype=torch.float64)
    (drawn.rgb * target).sum().backward()
    screen = drawn.screen_gradients
    assert screen is not None and screen.shape == (1, 10, 2)
    assert not screen[drawn.radii == 0].any() and screen[drawn.radii > 0].any()

    step = 1e-6
    rows = reference.project(
        gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, view
    )
    colors = torch.clamp_min(gaussians.sh[:, 0] * 0.28209479177387814 + 0.5, 0)[rows.gaussian_ids]

    def loss(means2d):
        moved = replace(rows, means2d=means2d)
        image, _ = reference.rasterize(moved, colors, rows.camera_ids, (1, view.height, view.width))
        return (image * target).sum()

    for row, gaussian in enumerate(rows.gaussian_ids.tolist()):
        for axis in range(2):
            shift = torch.zeros_like(rows.means2d)
            shift[row, axis] = step
            slope = (loss(rows.means2d + shift) - loss(rows.means2d - shift)) / (2 * step)
            GRADIENT.assert_close(screen[0, gaussian, axis], slope)


def test_screen_gradients_of_experts_are_apart(generator, toy_view):
    experts = [attach(make_gaussians(generator, n))[0] for n in (20, 31)]
    together = render_experts(experts, toy_view)
    for output in (together[0], together[1]):
        output.retain_screen_gradients()
    together.rgb[1].square().sum().backward()
    first, second = (together[k].screen_gradients for k in range(2))
    assert second is not None and second.any()
    assert first is None or not first.any()


def test_gradients_of_one_pass_equal_those_of_separate_splats(generator, toy_view):
    experts = [make_gaussians(generator, n, degree=d) for n, d in ((20, 2), (31, 0))]
    attached = [attach(expert) for expert in experts]
    together = render_experts([gaussians for gaussians, _ in attached], toy_view)
    loss = together.rgb[0].square().sum() + 2 * together.rgb[1].square().sum()
    expected_loss, leaves = torch.zeros(()), []
    for factor, expert in zip((1, 2), experts, strict=True):
        alone, own = attach(expert)
        expected_loss = expected_loss + factor * render(alone, toy_view).rgb.square().sum()
        leaves += own
    actual = torch.autograd.grad(loss, [leaf for _, own in attached for leaf in own])
    for got, want in zip(actual, torch.autograd.grad(expected_loss, leaves), strict=True):
        assert_gradients_agree(got, want)


def test_threads_may_render_at_one_time(toy_gaussians, toy_view):
    from concurrent.futures import ThreadPoolExecutor

    expected = render(toy_gaussians, toy_view).rgb
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(render, toy_gaussians, toy_view) for _ in range(24)]
        for job in jobs:
            EXACT.assert_close(job.result().rgb, expected)
