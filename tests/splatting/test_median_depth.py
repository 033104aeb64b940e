"""Median depth: a case by hand, all backends against the reference, the walk through lists."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from tolerances import EXACT, FORWARD, assert_images_agree
from toys import make_gaussians, make_view, median_depth

from moegs_ns.cameras import View
from moegs_ns.evaluation.depth import median_depth_experts
from moegs_ns.gaussians import Gaussians
from moegs_ns.splatting import (
    backend_gsplat,
    backend_numba,
    reference,
    render,
)
from moegs_ns.splatting.backend_gsplat import MedianWalk
from moegs_ns.splatting.projection import (
    MAX_ALPHA,
    MEDIAN_TRANSMITTANCE,
    MIN_ALPHA,
    MIN_TRANSMITTANCE,
    Projection,
)

CPU_RASTERIZERS = pytest.mark.parametrize("backend", [reference, backend_numba])
SMALL_LISTS = 7
"""Gaussians of a tile that the stand-in for gsplat's kernel lists at a time."""


def sheets(*opacities: float, depths: tuple[float, ...] = (2.0, 3.0, 5.0)) -> Gaussians:
    """Gaussians one behind the other, so wide that they are as opaque all over the image."""
    count = len(opacities)
    generator = torch.Generator().manual_seed(0)
    means = torch.tensor([[0.0, 0.0, depth] for depth in depths[:count]])
    return replace(
        make_gaussians(generator, count),
        means=means,
        scales=torch.full((count, 3), 1e3),
        opacities=torch.tensor(opacities),
    )


def crowd(count: int = 300, seed: int = 3) -> Gaussians:
    """Enough Gaussians that most pixels reach opacity 1/2, some by the first and some by many."""
    gaussians = make_gaussians(torch.Generator().manual_seed(seed), count)
    return replace(gaussians, scales=2.5 * gaussians.scales, opacities=0.6 * gaussians.opacities)


@CPU_RASTERIZERS
@pytest.mark.parametrize(
    ("opacities", "expected"),
    [
        ((0.6,), 2.0),
        ((0.4,), 0.0),
        ((0.3, 0.2, 0.5), 5.0),  # 0.7, 0.56, 0.28 of the transmittance are left
        ((0.3, 0.4, 0.5), 3.0),  # 0.7, 0.42
        ((0.2, 0.2, 0.2), 0.0),  # 0.512 is left at the end
        ((0.003, 0.2, 0.7), 5.0),  # the first is below 1/255 and not drawn
        ((1.0, 1.0, 1.0), 2.0),
    ],
)
def test_transmittance_is_halved_where_computed_by_hand(opacities, expected, backend):
    found = median_depth(sheets(*opacities), make_view(), backend=backend)
    FORWARD.assert_close(found, torch.full((1, 29, 37, 1), expected))


@CPU_RASTERIZERS
def test_exactly_one_half_is_reached(backend):
    """Opacity 0.5 leaves 0.5 in the middle of a Gaussian that is centred on a pixel."""
    view = make_view(width=33, height=33)
    one = sheets(0.5)
    found = median_depth(one, view, backend=backend)
    assert float(found[0, 16, 16]) == 2.0


def test_no_pixel_stops_before_its_median():
    """So the median is that of the drawn Gaussians, however the rasteriser ends its walk."""
    assert MEDIAN_TRANSMITTANCE * (1.0 - MAX_ALPHA) > MIN_TRANSMITTANCE


@CPU_RASTERIZERS
def test_it_is_where_a_loop_over_drawn_weights_finds_it(backend):
    """From the image of one channel per Gaussian, which holds T times alpha."""
    gaussians, view = crowd(100), make_view()
    weights = render(gaussians, view, torch.eye(100), backend=reference).features[0]
    order = torch.argsort(gaussians.means[:, 2])
    found = median_depth(gaussians, view, backend=backend)[0, ..., 0]
    expected = torch.zeros_like(found)
    accumulation = torch.zeros_like(found)
    for row in order.tolist():
        before, accumulation = accumulation, accumulation + weights[..., row]
        is_median = (before < 0.5) & (accumulation >= 0.5)
        expected = torch.where(is_median, gaussians.means[row, 2], expected)
    assert 0.2 < (expected > 0).float().mean() < 0.8, "both kinds of pixels are put to the test"
    assert_images_agree(found[..., None], expected[..., None])


def test_a_pixel_has_a_median_where_its_opacity_reaches_one_half():
    gaussians, view = crowd(), make_view(2)
    alpha = render(gaussians, view).alpha
    is_clear = (alpha - 0.5).abs() > 1e-5
    EXACT.assert_close((median_depth(gaussians, view) > 0)[is_clear], (alpha >= 0.5)[is_clear])


def test_between_two_surfaces_it_chooses_one():
    """The expected depth lies where nothing is."""
    view, two = make_view(), sheets(0.6, 1.0, depths=(2.0, 4.0))
    assert 2.5 < float(render(two, view).depth[0, 10, 10]) < 3.5
    FORWARD.assert_close(median_depth(two, view), torch.full((1, 29, 37, 1), 2.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numba_finds_what_the_reference_finds(dtype):
    gaussians = make_gaussians(torch.Generator().manual_seed(1), 300, dtype=dtype)
    view = make_view(3, dtype=dtype, shift=2.3)
    numba, expected = (median_depth(gaussians, view, backend=r) for r in (backend_numba, reference))
    assert numba.dtype == dtype and (expected > 0).any() and (expected == 0).any()
    assert_images_agree(numba, expected)


def test_own_dilations_and_near_planes_count():
    gaussians = replace(crowd(), eps2d=0.05, antialiased=True)
    view = make_view(2)
    numba, expected = (
        median_depth(gaussians, view, near=3.5, backend=r) for r in (backend_numba, reference)
    )
    assert_images_agree(numba, expected)
    assert (
        float(expected[expected > 0].min()) > 3.5 > float(median_depth(crowd(), view)[0].median())
    )


def test_order_of_gaussians_does_not_matter(generator):
    gaussians, view = crowd(), make_view()
    shuffled = gaussians.select(torch.randperm(len(gaussians), generator=generator))
    EXACT.assert_close(median_depth(shuffled, view), median_depth(gaussians, view))


def test_cameras_and_experts_together_equal_one_by_one():
    experts, view = [crowd(), crowd(120, seed=8)], make_view(3, shift=1.7)
    together = median_depth_experts(experts, view, near=[0.01, 3.0])
    assert together.shape == (2, 3, 29, 37, 1)
    for expert, near in enumerate((0.01, 3.0)):
        for camera in range(3):
            alone = median_depth(experts[expert], view.select(torch.tensor([camera])), near=near)
            EXACT.assert_close(together[expert, camera], alone[0])


@CPU_RASTERIZERS
@pytest.mark.parametrize("kind", ["empty", "behind", "clear"])
def test_where_nothing_is_hit_it_is_zero(kind, backend):
    gaussians = {
        "empty": crowd().select(torch.zeros(300, dtype=torch.bool)),
        "behind": replace(crowd(), means=-crowd().means),
        "clear": replace(crowd(), opacities=torch.zeros(300)),
    }[kind]
    found = median_depth(gaussians, make_view(2), backend=backend)
    EXACT.assert_close(found, torch.zeros(2, 29, 37, 1))


def test_it_takes_no_gradients():
    gaussians = replace(crowd(), means=crowd().means.requires_grad_())
    assert not median_depth(gaussians, make_view()).requires_grad


def test_views_of_different_times_are_refused():
    view = replace(make_view(2), frame_ids=torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="one time"):
        median_depth(crowd(), view)


def projected(gaussians: Gaussians, view: View) -> Projection:
    g = gaussians
    return reference.project(g.means, g.quats, g.scales, g.opacities, view)


def listed(
    rows: Projection, tile_rows: Callable[[int, int], list[int]], light: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """What gsplat's kernel lists for an image: pixel by pixel, which rows are drawn, near to far.

    `tile_rows` gives the rows to look at, in order, in the tile of a pixel (x, y).
    """
    hits, pixels = [], []
    height, width = light.shape
    for y in range(height):
        for x in range(width):
            left = float(light[y, x])
            for row in tile_rows(x, y):
                offset = rows.means2d[row] - torch.tensor([x + 0.5, y + 0.5])
                a, b, c = rows.conics[row]
                distance = 0.5 * (a * offset[0] ** 2 + c * offset[1] ** 2)
                distance = distance + b * offset[0] * offset[1]
                alpha = float((rows.opacities[row] * torch.exp(-distance)).clamp(max=MAX_ALPHA))
                if distance < 0 or alpha < MIN_ALPHA:
                    continue
                left *= 1.0 - alpha
                if left <= MIN_TRANSMITTANCE:
                    break
                hits.append(row)
                pixels.append(y * width + x)
    return torch.tensor(hits, dtype=torch.long), torch.tensor(pixels, dtype=torch.long)


@pytest.mark.parametrize("length", [1, 5, 1000])
def test_the_walk_through_lists_finds_what_the_reference_finds(length):
    """However the Gaussians are cut into lists; the square of one tile covers the image."""
    view = make_view(width=16, height=12)
    rows = projected(crowd(60), view)
    order = torch.argsort(rows.depths).tolist()
    walk = MedianWalk(rows, 16, 12)
    for first in range(0, len(order), length):
        part = [k for k in order[first : first + length] if _touches_first_tile(rows, k)]
        walk.go_on(*listed(rows, lambda x, y, part=part: part, walk.light))
    expected = reference.rasterize_median(rows, rows.camera_ids, (1, 12, 16))[0, ..., 0]
    assert (expected > 0).any() and (expected == 0).any()
    EXACT.assert_close(walk.medians, expected)


def _touches_first_tile(rows: Projection, row: int) -> bool:
    centre, radius = rows.means2d[row], rows.radii[row]
    return bool((centre - radius < 16).all() and (centre + radius > 0).all())


def test_done_pixels_pass_no_light_and_a_list_may_be_empty():
    view = make_view(width=4, height=3)
    rows = projected(sheets(0.3, 0.4, 0.5), view)
    walk = MedianWalk(rows, 4, 3)
    nothing = torch.zeros(0, dtype=torch.long)
    walk.go_on(nothing, nothing)
    EXACT.assert_close(walk.light, torch.ones(3, 4))
    walk.go_on(torch.tensor([0, 1, 2, 0]), torch.tensor([5, 5, 5, 7]))
    light, medians = walk.light.flatten(), walk.medians.flatten()
    assert light[5] == 0.0 and 0.69 < light[7] < 0.71 and light[0] == 1.0
    assert medians.nonzero()[:, 0].tolist() == [5] and float(medians[5]) == 3.0


def test_the_adapter_asks_gsplat_image_by_image_and_list_by_list(monkeypatch):
    """A stand-in for gsplat's kernel, with short lists, over the tiles that Numba's path sorts."""
    view = make_view(2, width=20, height=17)
    rows = projected(crowd(50), view)
    shape = (2, view.height, view.width)
    asked = []

    def sort(projection, image_ids, shape):
        pairs, starts, _, _ = backend_numba._sort(projection, image_ids, shape)
        return torch.from_numpy(starts[:-1]).view(2, 2, 2), torch.from_numpy(pairs)

    def in_range(*, range_start, range_end, transmittances, isect_offsets, flatten_ids, **others):
        assert others["means2d"].shape == (1, len(rows.depths), 2)
        asked.append((range_start, int(isect_offsets[0, 0, 0])))
        edges = [*isect_offsets.flatten().tolist(), len(flatten_ids)]

        def tile_rows(x: int, y: int) -> list[int]:
            tile = 2 * (y // 16) + x // 16
            own = flatten_ids[edges[tile] : edges[tile + 1]]
            return own[range_start * SMALL_LISTS : range_end * SMALL_LISTS].tolist()

        hits, pixels = listed(rows, tile_rows, transmittances[0])
        return hits, pixels, torch.zeros_like(hits)

    monkeypatch.setattr(backend_gsplat, "_sort", sort)
    monkeypatch.setattr(backend_gsplat, "LIST_LENGTH", SMALL_LISTS)
    monkeypatch.setattr("gsplat.rasterize_to_indices_in_range", in_range)
    found = backend_gsplat.rasterize_median(rows, rows.camera_ids, shape)
    expected = reference.rasterize_median(rows, rows.camera_ids, shape)
    assert len({start for start, _ in asked}) > 2 and len({first for _, first in asked}) == 2
    EXACT.assert_close(found, expected)


@pytest.mark.gpu
@pytest.mark.parametrize("count", [0, 300, 20_000])
def test_gsplat_finds_what_the_others_find(count):
    """With 20 000 Gaussians tiles have several lists."""
    experts, view = [crowd(count), crowd(40, seed=8)], make_view(3, width=75, height=50, shift=2.3)
    moved = [
        replace(g, **{n: v.cuda() for n, v in vars(g).items() if isinstance(v, torch.Tensor)})
        for g in experts
    ]
    found = median_depth_experts(moved, view.to("cuda"), near=[0.01, 3.0])
    assert found.is_cuda
    expected = median_depth_experts(experts, view, near=[0.01, 3.0], backend=backend_numba)
    # Fast exponentials may find the Gaussian before or behind in a pixel whose opacity is just 1/2.
    assert_images_agree(found, expected, max_flipped=5e-3)
