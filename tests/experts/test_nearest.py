"""Nearest neighbours: both searches agree, and few points have few neighbours."""

import pytest
import torch
from tolerances import FORWARD

from moegs_ns.experts import nearest

COUNT, NEAREST, REACH = 40, 5, 0.1


@pytest.mark.parametrize("width", [3, 12])
@pytest.mark.parametrize("spread", [0.02, 0.3, 3.0])
def test_both_searches_find_the_same_neighbours_within_reach(generator, monkeypatch, spread, width):
    """Also in several batches, and where some Gaussians have too few neighbours or none."""
    monkeypatch.setattr(nearest, "COMPARED_AT_ONCE", 3 * COUNT)
    # In the middle of several times, where things are at rest.
    points = 0.1 * spread * torch.rand(COUNT, 3, generator=generator).repeat(1, width // 3)
    points = points / (width / 3) ** 0.5
    by_tree = nearest.by_tree(points, NEAREST)
    by_comparing = nearest.by_comparing(points, NEAREST, REACH)
    is_near = by_tree[0] < REACH
    assert bool(is_near.any())
    FORWARD.assert_close(by_comparing[0][is_near], by_tree[0][is_near])
    assert torch.equal(by_comparing[1][is_near], by_tree[1][is_near])
    assert bool((by_comparing[0][~is_near] >= REACH).all())


@pytest.mark.parametrize(("points", "found"), [(0, 0), (1, 0), (3, 2), (9, 5)])
def test_few_points_have_few_neighbours(generator, points, found):
    distances, others = nearest.nearest_others(
        torch.rand(points, 3, generator=generator), NEAREST, REACH
    )
    assert distances.shape == others.shape == (points, found)
    assert bool((others != torch.arange(points)[:, None]).all())
