"""Multi-view depth consistency: analytic planes and a brute-force loop."""

import math
from dataclasses import replace

import pytest
import torch
from depth_helpers import depth_consistency
from toys import make_gaussians, make_view

from moegs_ns.cameras import View
from moegs_ns.evaluation.depth import (
    DEPTHS,
    OCCLUSION_MARGIN,
)
from moegs_ns.gaussians import Gaussians


def side_by_side(count: int = 2, step: float = 0.5) -> View:
    """Cameras that look along z, shifted along x."""
    view = make_view(count, dtype=torch.float64)
    viewmats = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    viewmats[:, 0, 3] = -step * torch.arange(count)
    return replace(view, viewmats=viewmats)


def plane_depths(view: View, normal: tuple[float, float, float], offset: float) -> torch.Tensor:
    """Depth of the plane normal . x = offset in every view; nothing where it is behind."""
    origins, directions = view.rays()
    n = torch.tensor(normal, dtype=origins.dtype)
    lengths = (offset - origins @ n) / (directions @ n)
    depth = lengths * (directions * view.viewmats[:, None, None, 2, :3]).sum(-1)
    return depth[..., None].clamp(min=0.0)


def test_a_plane_that_faces_the_cameras_is_consistent():
    view = side_by_side()
    result = depth_consistency(torch.full((2, 29, 37, 1), 3.0).double(), view)
    assert float(result.error) == pytest.approx(0.0, abs=1e-9)
    assert result.num_pairs == 2 and 0.5 < result.fraction < 1.0


@pytest.mark.parametrize("view", [side_by_side(3), make_view(3, dtype=torch.float64)])
def test_any_plane_seen_from_anywhere_is_consistent(view: View):
    """Inverse depth is linear over the picture of a plane, so interpolation is exact.

    But for a pixel that leaves the outermost pixel centres by no more than rounding.
    """
    depths = plane_depths(view, (0.2, -0.3, 1.0), 4.0)
    result = depth_consistency(depths, view)
    assert float(result.error) == pytest.approx(0.0, abs=1e-7) and result.num_pairs == 6


def test_a_depth_that_is_wrong_by_a_shift_gives_the_shift():
    """Once the wrong plane lies in front, once behind; the margin allows for both."""
    shift = 0.1
    assert shift < OCCLUSION_MARGIN * 3.0
    depths = torch.full((2, 29, 37, 1), 3.0).double()
    depths[1] += shift
    result = depth_consistency(depths, side_by_side())
    assert float(result.error) == pytest.approx(shift, rel=1e-6) and result.num_pairs == 2


def test_what_may_be_hidden_is_not_compared_but_its_opposite_is():
    """A wrong surface far behind counts in the pair in which it is seen in front."""
    depths = torch.full((2, 29, 37, 1), 3.0).double()
    depths[1] = 5.0
    result = depth_consistency(depths, side_by_side())
    assert float(result.error) == pytest.approx(2.0, rel=1e-6) and result.num_pairs == 1


def test_a_true_occlusion_is_no_error():
    """A pole before a wall hides other parts of the wall from each camera."""
    view = side_by_side(step=1.0)
    depths = torch.full((2, 29, 37, 1), 6.0).double()
    focal, middle = float(view.Ks[0, 0, 0]), float(view.Ks[0, 0, 2])
    left = middle + focal * (0.5 - torch.tensor([0.0, 1.0])) / 3.0
    for camera in range(2):
        column = round(float(left[camera]))
        depths[camera, :, column - 2 : column + 2] = 3.0
    result = depth_consistency(depths, view)
    # Interpolation across the pole's edges errs; everything else agrees.
    assert float(result.error) < 0.2
    assert result.fraction < 0.8


def test_without_anything_in_common_there_is_no_figure():
    view = side_by_side(step=1000.0)
    result = depth_consistency(torch.full((2, 29, 37, 1), 3.0).double(), view)
    assert math.isnan(float(result.error)) and (result.num_pairs, result.fraction) == (0, 0.0)
    one = depth_consistency(torch.ones(1, 29, 37, 1), make_view(1))
    assert one.num_pairs == 0


def test_transparent_pixels_do_not_count():
    view, depths = side_by_side(), torch.full((2, 29, 37, 1), 3.0).double()
    depths[0, 10:20, 10:20] = 1.0
    assert float(depth_consistency(depths, view).error) > 0.01
    depths[0, 10:20, 10:20] = 0.0
    assert float(depth_consistency(depths, view).error) < 1e-9


def test_cameras_of_different_instants_are_refused():
    view = replace(side_by_side(), frame_ids=torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="must show one time"):
        depth_consistency(torch.ones(2, 29, 37, 1).double(), view)


def brute_force(depths: torch.Tensor, alphas: torch.Tensor, view: View) -> tuple[float, int]:
    """The definition, pixel by pixel."""
    count, height, width = depths.shape[:3]
    solid = (depths > 0) & (alphas >= 0.5)
    means = []
    for i in range(count):
        for j in range(count):
            errors = []
            for y in range(height):
                for x in range(width):
                    if i == j or not solid[i, y, x]:
                        continue
                    d = depths[i, y, x]
                    pixel = torch.tensor([x + 0.5, y + 0.5, 1.0], dtype=d.dtype)
                    point = torch.ones(4, dtype=d.dtype)
                    point[:3] = d * torch.linalg.solve(view.Ks[i], pixel)
                    seen = (view.viewmats[j] @ torch.linalg.inv(view.viewmats[i]) @ point)[:3]
                    if seen[2] <= 0:
                        continue
                    u, v = (view.Ks[j] @ seen / seen[2])[:2] - 0.5
                    x0, y0 = math.floor(u), math.floor(v)
                    if min(x0, y0) < 0 or x0 + 1 >= width or y0 + 1 >= height:
                        continue
                    inverse, missing = 0.0, False
                    for dy in (0, 1):
                        for dx in (0, 1):
                            missing |= not bool(solid[j, y0 + dy, x0 + dx])
                            weight = (1 - abs(u - x0 - dx)) * (1 - abs(v - y0 - dy))
                            inverse += weight / depths[j, y0 + dy, x0 + dx]
                    shown = 1 / inverse
                    if not missing and seen[2] - shown <= OCCLUSION_MARGIN * shown:
                        errors.append(float((seen[2] - shown).abs()))
            means += [sum(errors) / len(errors)] if errors else []
    return sum(means) / len(means), len(means)


def test_it_is_what_the_definition_says(generator: torch.Generator):
    view = make_view(3, width=12, height=9, dtype=torch.float64)
    depths = 3.0 + torch.rand(3, 9, 12, 1, generator=generator, dtype=torch.float64)
    alphas = (torch.rand(3, 9, 12, 1, generator=generator) > 0.05).double()
    result = depth_consistency(depths * alphas, view)
    error, pairs = brute_force(depths[..., 0], alphas[..., 0], view)
    assert pairs == result.num_pairs == 6
    assert float(result.error) == pytest.approx(error, rel=1e-9)


def wall_and_veil(opacity: float) -> Gaussians:
    """An opaque wall at depth 3 behind a veil of small Gaussians here and there at depth 2.9."""
    generator = torch.Generator().manual_seed(0)
    gaussians = make_gaussians(generator, 61, dtype=torch.float64)
    means = gaussians.means * 2.9 / gaussians.means[:, 2:]
    scales, opacities = gaussians.scales * 0.5, torch.full_like(gaussians.opacities, opacity)
    means[-1], scales[-1], opacities[-1] = torch.tensor([0.0, 0.0, 3.0]), 1e3, 1.0
    return replace(gaussians, means=means, scales=scales, opacities=opacities)


def consistency(depth, gaussians: Gaussians, view: View):
    return depth_consistency(depth.of_set(gaussians, view, 0.01), view)


def test_a_wall_is_consistent_by_both_depths():
    wall = wall_and_veil(0.0)
    for depth in DEPTHS:
        result = consistency(depth, wall, side_by_side())
        assert float(result.error) == pytest.approx(0.0, abs=1e-9) and result.num_pairs == 2


def test_a_veil_moves_the_expected_depth_and_leaves_the_median():
    view, veiled = side_by_side(), wall_and_veil(0.25)
    expected, median = (consistency(d, veiled, view) for d in DEPTHS)
    assert float(expected.error) > 1e-4 > 10 * float(median.error)


def test_both_depths_speak_of_the_same_pixels(generator: torch.Generator):
    gaussians = make_gaussians(generator, 150, dtype=torch.float64)
    view = make_view(3, dtype=torch.float64)
    expected, median = (depth.of_set(gaussians, view, 0.01) > 0 for depth in DEPTHS)
    assert torch.equal(expected, median) and 0.1 < expected.double().mean() < 0.9
