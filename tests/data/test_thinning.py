"""Fewer points that cover the space of many."""

import numpy as np
import pytest

from moegs_ns.data.points.thinning import evenly_chosen


def test_thinning_out_covers_space_evenly():
    """A crowd of 10 000 points takes no more than its room, and lone points stay."""
    random = np.random.default_rng(0)
    crowd, lone = 0.1 * random.random((10_000, 3)), 5.0 + 10 * random.random((200, 3))
    xyz = np.concatenate([crowd, lone]).astype(np.float32)
    kept = evenly_chosen(xyz, 400, seed=3)
    assert len(kept) == len(set(kept.tolist())) == 400
    assert np.all(np.diff(kept) > 0)
    assert (kept >= 10_000).sum() > 180
    assert kept.tolist() == evenly_chosen(xyz, 400, seed=3).tolist()
    assert kept.tolist() != evenly_chosen(xyz, 400, seed=4).tolist()


@pytest.mark.parametrize("count", [1, 7, 99, 100, 200])
def test_any_number_is_left(count: int):
    xyz = np.random.default_rng(1).random((100, 3)).astype(np.float32)
    for points in (xyz, np.zeros_like(xyz), xyz * [1, 0, 0], xyz * 1e-30):
        assert len(evenly_chosen(points.astype(np.float32), count, seed=0)) == min(count, 100)
