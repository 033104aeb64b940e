"""Flicker between consecutive frames."""

import pytest
import torch

from moegs_ns.evaluation.flicker import color_change, consecutive_pairs, gate_change
from moegs_ns.scene import FrameTable


def table_of(*rows: tuple[int, int]) -> FrameTable:
    """Rows of (camera, frame)."""
    cameras, frames = torch.tensor(rows).T
    return FrameTable(cameras, frames, frames / 10.0, torch.zeros(len(rows), 3))


def test_pairs_are_one_camera_at_consecutive_frames():
    # In no order; frame 2 of camera 4 is missing; cameras share frames.
    table = table_of((7, 1), (4, 1), (4, 0), (7, 0), (4, 3), (7, 2))
    assert set(consecutive_pairs(table, 10)) == {(2, 1), (3, 0), (0, 5)}
    assert len(consecutive_pairs(table, 2)) == 2
    assert consecutive_pairs(table_of((4, 0), (7, 1)), 10) == []


def test_gates_that_swap_change_by_one():
    first = torch.tensor([1.0, 0.0]).reshape(2, 1, 1, 1)
    assert float(gate_change(first, first.flip(0))) == 1.0
    assert float(gate_change(first, first)) == 0.0
    half = torch.full_like(first, 0.5)
    assert float(gate_change(first, half)) == pytest.approx(0.5)


def test_colors_change_by_the_mean_over_channels():
    first, second = torch.zeros(2, 1, 1, 3), torch.zeros(2, 1, 1, 3)
    second[1, 0, 0] = torch.tensor([0.3, 0.0, -0.3])
    torch.testing.assert_close(color_change(first, second).flatten(), torch.tensor([0.0, 0.2]))
