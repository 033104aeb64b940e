"""Evidence of single Gaussians from sums that are known by hand."""

import math
from dataclasses import replace

import pytest
import torch
from toys import make_gaussians, make_view

from moegs_ns.gaussians import Gaussians
from moegs_ns.mixture.evidence import MIN_ERROR, MIN_SIZE, UNSEEN_ERROR, _Sums

DISTANCE = 4.0


def gaussians(count: int, ids: list[int] | None = None) -> Gaussians:
    """On the optical axis of a camera at the origin, the largest scale of each 0.4."""
    made = make_gaussians(torch.Generator().manual_seed(0), count)
    means = torch.tensor([0.0, 0.0, DISTANCE]).repeat(count, 1)
    scales = torch.tensor([0.1, 0.4, 0.2]).repeat(count, 1)
    rows = None if ids is None else torch.tensor(ids)
    return replace(made, means=means, scales=scales, ids=rows)


def added(*images: tuple[int, list[tuple[float, float]], list[int] | None]) -> dict:
    """Evidence of three Gaussians from images of a camera, (contribution, times error) and ids."""
    sums = _Sums(torch.zeros(3))
    for camera, found, ids in images:
        view = replace(make_view(), camera_ids=torch.tensor([camera]))
        sums.add(torch.tensor(found), gaussians(len(found), ids), view)
    return sums.evidence()


def test_means_are_weighted_by_contribution():
    seen = added(
        (0, [(2.0, 0.5), (1.0, 0.0), (0.0, 0.0)], None),
        (0, [(2.0, 1.5), (1.0, 0.5), (0.0, 0.0)], None),
    )
    expected = [0.5, 0.25, UNSEEN_ERROR]
    assert seen["error"].exp().tolist() == pytest.approx([e + MIN_ERROR for e in expected])
    assert seen["unseen"].tolist() == [0.0, 0.0, 1.0]
    # One camera, whatever it sees of them; none of the last.
    assert seen["coverage"].tolist() == pytest.approx([math.log(2), math.log(2), 0.0])
    angle = math.log(0.4 / DISTANCE + MIN_SIZE)
    assert seen["size"].tolist() == pytest.approx([angle] * 3, rel=1e-5)


def test_cameras_count_by_their_shares():
    """Three quarters and a quarter are 1 / (9 + 1) * 16 = 1.6 cameras."""
    seen = added((5, [(3.0, 0.0), (1.0, 0.0), (1.0, 0.0)], None),
                 (8, [(1.0, 0.0), (1.0, 0.0), (0.0, 0.0)], None))  # fmt: skip
    assert seen["coverage"].tolist() == pytest.approx([math.log(2.6), math.log(3), math.log(2)])


def test_sums_go_to_the_rows_that_are_named():
    seen = added((0, [(1.0, 0.25), (1.0, 0.75)], [2, 0]))
    errors = seen["error"].exp().tolist()
    assert errors == pytest.approx([e + MIN_ERROR for e in (0.75, UNSEEN_ERROR, 0.25)])
    assert seen["unseen"].tolist() == [0.0, 1.0, 0.0]


def test_too_little_is_not_seen():
    seen = added((0, [(1e-3, 1e-3), (1.1e-3, 1.1e-3), (0.0, 0.0)], None))
    assert seen["unseen"].tolist() == [1.0, 0.0, 1.0]
    assert float(seen["error"][1].exp()) == pytest.approx(1.0 + MIN_ERROR)


def test_where_nothing_is_seen_nothing_is_known():
    seen = added((0, [(0.0, 0.0)] * 3, None))
    assert seen["size"].tolist() == [0.0] * 3 and seen["coverage"].tolist() == [0.0] * 3
    assert all(bool(value.isfinite().all()) for value in seen.values())
