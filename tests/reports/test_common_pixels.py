"""Depth consistency ranks sets of Gaussians over the pixels that all of them show."""

from dataclasses import replace

import pytest
import torch
from depth_helpers import depth_consistency
from toys import make_view

from moegs_ns.cameras import View
from moegs_ns.evaluation.depth import (
    common_pixels,
    consistency_of,
    pair_errors,
)
from moegs_ns.reports.depth_consistency import Found, depth_row


def side_by_side() -> View:
    """Two cameras that look along z, half a unit apart."""
    view = make_view(2, dtype=torch.float64)
    viewmats = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    viewmats[1, 0, 3] = -0.5
    return replace(view, viewmats=viewmats)


def wall_with_a_flaw(flaw: float) -> torch.Tensor:
    """A wall at depth 3, whose upper rows are nearer by `flaw` in the second view."""
    depths = torch.full((2, 29, 37, 1), 3.0).double()
    depths[1, :10] -= flaw
    return depths


def hiding(depths: torch.Tensor) -> torch.Tensor:
    """The same, transparent where it is wrong."""
    hidden = depths.clone()
    hidden[:, :11] = 0.0
    return hidden


def test_a_set_that_hides_its_flaws_is_no_better_than_one_that_shows_them():
    """Over its own pixels it is perfect, since the wrong ones are not solid; over common ones both
    are."""
    view, shown = side_by_side(), wall_with_a_flaw(0.1)
    hidden = hiding(shown)
    own = [depth_consistency(depths, view) for depths in (shown, hidden)]
    assert float(own[0].error) > 0.02 and float(own[1].error) == pytest.approx(0.0, abs=1e-9)
    common = common_pixels([pair_errors(shown, view), pair_errors(hidden, view)])
    both = [consistency_of(pair_errors(depths, view), depths, common) for depths in (shown, hidden)]
    assert float(both[0].error) == pytest.approx(float(both[1].error), abs=1e-9)
    assert both[0].fraction < own[0].fraction and both[1].fraction == own[1].fraction


def test_common_pixels_are_those_of_each_and_no_others():
    view, shown = side_by_side(), wall_with_a_flaw(0.1)
    alone, both = (
        common_pixels([pair_errors(shown, view)]),
        common_pixels([pair_errors(shown, view), pair_errors(hiding(shown), view)]),
    )
    assert alone.shape == (2, 2, 29, 37)
    assert not alone[0, 0].any() and not alone[1, 1].any(), "no view is compared with itself"
    assert both.any() and (alone | ~both).all()
    assert not both[:, :, :11].any() and torch.equal(both[:, :, 12:], alone[:, :, 12:])


def test_an_error_within_the_common_pixels_counts_in_full():
    view, right = side_by_side(), torch.full((2, 29, 37, 1), 3.0).double()
    wrong = right.clone()
    wrong[1] += 0.1
    common = common_pixels([pair_errors(right, view), pair_errors(wrong, view)])
    errors = [float(consistency_of(pair_errors(d, view), d, common).error) for d in (right, wrong)]
    assert errors == pytest.approx([0.0, 0.1], abs=1e-6)


def test_a_row_has_the_figures_of_both_kinds_of_pixels():
    view, shown = side_by_side(), wall_with_a_flaw(0.1)
    common = common_pixels([pair_errors(shown, view), pair_errors(hiding(shown), view)])
    found = Found(
        [consistency_of(pair_errors(shown, view), shown, common)],
        [depth_consistency(shown, view)],
    )
    row = depth_row("stg", "median", found, 2.0, "held-out")
    assert row["mdc_own_world"] > 0.02 > row["mdc_world"]
    assert row["mdc_extents"] == row["mdc_world"] / 2.0
    assert row["own_share"] > row["compared_share"] > 0.3
    assert (row["instants"], row["pairs"], row["reason"]) == (1, 2, "")
