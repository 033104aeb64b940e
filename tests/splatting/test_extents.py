"""Lists of tiles leave out what is too faint to be drawn, and nothing else."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from tolerances import EXACT, GRADIENT, assert_gradients_agree
from toys import LEAVES, make_gaussians, make_view

from benchmarks.speed.tile_lists import tiles_of, uncut
from moegs_ns.gaussians import Gaussians
from moegs_ns.splatting import (
    ProjectedGaussians,
    backend_gsplat,
    backend_numba,
    project,
    rasterize,
)
from moegs_ns.splatting.projection import MIN_ALPHA, alphas_at

KERNELS = [backend_numba, pytest.param(backend_gsplat, marks=pytest.mark.gpu)]
SIZE: dict[str, Any] = {"width": 400, "height": 300}


def device_of(backend) -> str:
    return "cuda" if backend is backend_gsplat else "cpu"


def faint_gaussians(generator: torch.Generator, device: str) -> Gaussians:
    """From invisible to opaque, a third of them dilated otherwise, some antialiased."""
    count = 600
    uniform = torch.rand(count, 3, generator=generator)
    gaussians = make_gaussians(
        generator,
        count,
        eps2d=torch.where(uniform[:, 0] < 0.3, 0.1, 0.3).to(device),
        antialiased=(uniform[:, 1] < 0.5).to(device),
    )
    opacities = 0.001 * 999.0 ** uniform[:, 2]
    moved = {name: getattr(gaussians, name).to(device) for name in LEAVES}
    return replace(gaussians, **moved | {"opacities": opacities.to(device)})


@pytest.mark.parametrize("backend", KERNELS)
def test_no_bit_of_the_image_changes(backend, generator):
    device = device_of(backend)
    gaussians, view = faint_gaussians(generator, device), make_view(2, **SIZE).to(device)
    cotangent = torch.randn(2, 300, 400, 3, generator=generator).to(device)
    results = []
    for change in (lambda seen: seen, uncut):
        leaves = {n: getattr(gaussians, n).detach().requires_grad_() for n in LEAVES}
        seen = change(project(replace(gaussians, **leaves), view, backend=backend))
        splat = rasterize([seen], view, backend=backend).only()
        loss = (splat.rgb * cotangent).sum() + splat.depth.mean() + splat.alpha.mean()
        results.append((splat, torch.autograd.grad(loss, list(leaves.values()))))
    (cut, cut_grads), (whole, whole_grads) = results
    for name in ("rgb", "alpha", "depth", "radii"):
        EXACT.assert_close(getattr(cut, name), getattr(whole, name), name)
    for name, actual, expected in zip(LEAVES, cut_grads, whole_grads, strict=True):
        if backend is backend_numba:
            EXACT.assert_close(actual, expected, name)
        else:  # whose sums are atomic
            assert_gradients_agree(actual, expected, GRADIENT, name)


@pytest.mark.parametrize("backend", KERNELS)
def test_lists_are_much_shorter(backend, generator):
    device = device_of(backend)
    gaussians, view = faint_gaussians(generator, device), make_view(**SIZE).to(device)
    seen = project(gaussians, view, backend=backend)

    def length(seen: ProjectedGaussians) -> int:
        projection, shape = seen.projection, (1, view.height, view.width)
        if backend is backend_gsplat:
            pairs = backend_gsplat._sort(projection, projection.camera_ids, shape)[1]
        else:
            pairs = backend_numba._sort(projection, projection.camera_ids, shape)[0]
        assert len(pairs) == tiles_of(seen, view).sum(), "The benchmark counts otherwise."
        return len(pairs)

    assert length(seen) < 0.6 * length(uncut(seen))


def test_a_square_ends_soon_behind_the_last_visible_pixel(generator):
    """Along its longest axis, which radii measure."""
    projection = project(faint_gaussians(generator, "cpu"), make_view(**SIZE)).projection
    is_cut = (projection.extents < projection.radii) & (projection.opacities > 1.01 * MIN_ALPHA)
    assert is_cut.sum() > 100
    shown = projection.select(is_cut)
    a, b, c = shown.conics.double().unbind(-1)
    # The smaller eigenvalue of the conic belongs to the longest axis.
    middle, half = (a + c) / 2, torch.sqrt(((a - c) / 2) ** 2 + b * b)
    angle = 0.5 * torch.atan2(2 * b, a - c) + torch.pi / 2
    direction = torch.stack([angle.cos(), angle.sin()], dim=-1)
    reach = torch.sqrt(2 * torch.log(shown.opacities.double() / MIN_ALPHA) / (middle - half))
    assert (shown.extents >= reach).all()
    # Radii are rounded up before they are cut, and extents after it.
    assert (shown.extents <= reach * (1 + 1 / (shown.radii - 1)) + 2).all()
    inside, outside = 0.99 * reach[:, None] * direction, 1.01 * reach[:, None] * direction
    conics, opacities = shown.conics.double(), shown.opacities.double()
    assert (alphas_at(inside, conics, opacities) > 0).all()
    assert (alphas_at(outside, conics, opacities) == 0).all()


def test_what_is_never_visible_is_in_no_list(generator, toy_view):
    gaussians = make_gaussians(generator)
    faint = replace(gaussians, opacities=torch.full_like(gaussians.opacities, 0.98 * MIN_ALPHA))
    projection = project(faint, toy_view).projection
    assert (projection.radii > 0).any() and not projection.extents.any()
