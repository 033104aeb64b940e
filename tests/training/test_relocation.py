"""Relocation: what is rendered stays, the number stays, and moments begin anew."""

import math
from collections.abc import Callable

import pytest
import torch
from densifiers import image_of, make_densifier
from toys import make_gaussians

from moegs_ns.experts.freetime.recipe import RelocationConfig
from moegs_ns.training.densification import Densifier
from moegs_ns.training.relocation import (
    MOST_COPIES,
    draw_targets,
    relocate,
    relocation_scores,
    shared,
)


def published(opacity: float, copies: int) -> tuple[float, float]:
    """Eq. 9 as it is printed, with its double sum."""
    new = 1.0 - (1.0 - opacity) ** (1.0 / copies)
    total = sum(
        math.comb(i - 1, k) * (-1) ** k * new ** (k + 1) / math.sqrt(k + 1)
        for i in range(1, copies + 1)
        for k in range(i)
    )
    return new, opacity / total


@pytest.mark.parametrize("copies", [1, 2, 3, 7, 20, MOST_COPIES])
@pytest.mark.parametrize("opacity", [0.01, 0.3, 0.9, 0.999])
def test_opacity_and_width_are_those_of_the_paper(opacity: float, copies: int):
    new, factor = shared(torch.tensor([opacity]), torch.tensor([copies]))
    expected = published(opacity, copies)
    assert float(new) == pytest.approx(expected[0], rel=1e-5)
    assert float(factor) == pytest.approx(expected[1], rel=1e-4)


def test_sharing_among_more_than_the_formula_tells_is_sharing_among_those():
    many, most = (shared(torch.tensor([0.9]), torch.tensor([n])) for n in (500, MOST_COPIES))
    assert many == most


@pytest.mark.parametrize("opacity", [0.0, 1.0])
def test_extreme_opacities_stay_finite(opacity: float):
    new, factor = shared(torch.tensor([opacity]), torch.tensor([5]))
    assert 0.0 <= float(new) <= 1.0 and math.isfinite(float(factor))


def scattered(dead: int = 12) -> Densifier:
    """Gaussians of which the last ones are too transparent to be drawn."""
    gaussians = make_gaussians(torch.Generator().manual_seed(3), 40, degree=0)
    gaussians.opacities[-dead:] = 1e-4
    return make_densifier(gaussians, RelocationConfig())


def test_what_is_rendered_stays():
    """As nearly as a few bells can be one: within 3 % on average, where copies without a share of
    opacity change 28 % and those without narrower widths 7 %."""
    targets = torch.tensor([0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8])
    before = image_of(scattered())

    def change(move: Callable[[Densifier], None]) -> float:
        densifier = scattered()
        move(densifier)
        assert (densifier.parameters["opacities"][28:].sigmoid() > 0.01).all()
        return float((image_of(densifier) - before).abs().mean() / before.mean())

    def copy(densifier: Densifier) -> None:
        for value in densifier.parameters.values():
            value.data[28:] = value.data[targets]

    def keep_sizes(densifier: Densifier) -> None:
        sizes = densifier.parameters["scales"].detach().clone()
        relocate(densifier, moved, targets)
        densifier.parameters["scales"].data = sizes.index_copy(0, moved, sizes[targets])

    moved = torch.arange(28, 40)
    assert change(lambda densifier: relocate(densifier, moved, targets)) < 0.03
    assert change(keep_sizes) > 0.06
    assert change(copy) > 0.2


def test_in_the_middle_of_a_gaussian_the_opacity_is_exact():
    new, _ = shared(torch.tensor([0.8]), torch.tensor([4]))
    assert 1.0 - (1.0 - float(new)) ** 4 == pytest.approx(0.8, rel=1e-6)


def test_rows_become_those_of_their_targets_and_others_stay():
    densifier = scattered()
    old = {name: value.detach().clone() for name, value in densifier.parameters.items()}
    relocate(densifier, torch.arange(38, 40), torch.tensor([5, 9]))
    for name, value in densifier.parameters.items():
        assert len(value) == 40
        assert torch.equal(value[38:], value[torch.tensor([5, 9])]), name
        untouched = [row for row in range(38) if row not in (5, 9)]
        assert torch.equal(value[untouched], old[name][untouched]), name
        if name not in ("scales", "opacities"):
            assert torch.equal(value[:38], old[name][:38]), name


def test_moments_begin_anew_for_what_is_moved_and_for_what_is_changed():
    densifier = scattered()
    relocate(densifier, torch.tensor([39]), torch.tensor([5]))
    for name, value in densifier.parameters.items():
        optimizer = densifier.optimizers[name]
        assert optimizer.param_groups[0]["params"] == [value]
        for moment in ("exp_avg", "exp_avg_sq"):
            state = optimizer.state[value][moment]
            assert (state[39] == 0).all() and (state[:5] != 0).all(), name
            assert bool((state[5] == 0).all()) == (name in ("scales", "opacities")), name


def test_copies_part_although_they_begin_as_equals():
    """Equal Gaussians with equal moments would stay one Gaussian for ever."""
    densifier = scattered()
    relocate(densifier, torch.tensor([39]), torch.tensor([5]))
    means = densifier.parameters["means"]
    assert torch.equal(means[39], means[5])
    optimizer = densifier.optimizers["means"]
    optimizer.param_groups[0]["lr"] = 1e-2
    means.grad = torch.zeros_like(means)
    means.grad[[5, 39]] = 0.3
    optimizer.step()
    assert float((means[39] - means[5]).detach().norm()) > 1e-3


def test_statistics_follow_so_that_weights_of_routers_do():
    densifier = scattered()
    densifier.statistics["parent"] = torch.arange(1, 41)
    relocate(densifier, torch.tensor([38, 39]), torch.tensor([4, 4]))
    assert densifier.statistics["parent"].tolist() == [*range(1, 39), 5, 5]


def test_scores_are_half_opacity_half_gradient_of_the_living():
    is_dead = torch.tensor([False, False, True])
    scores = relocation_scores(
        torch.tensor([0.6, 0.2, 0.9]), torch.tensor([1.0, 3.0, 9.0]), is_dead
    )
    assert scores.tolist() == pytest.approx([0.75 + 0.25, 0.25 + 0.75, 0.0])
    no_gradients = relocation_scores(torch.tensor([0.6, 0.2, 0.9]), torch.zeros(3), is_dead)
    assert no_gradients.tolist() == pytest.approx([0.75, 0.25, 0.0])


def test_targets_are_drawn_by_score_and_never_among_the_dead():
    scores = torch.tensor([3.0, 0.0, 1.0])
    first, second = (
        draw_targets(scores, 4000, torch.Generator().manual_seed(seed)) for seed in (0, 0)
    )
    assert torch.equal(first, second)
    share = torch.bincount(first, minlength=3) / 4000
    assert share.tolist() == pytest.approx([0.75, 0.0, 0.25], abs=0.03)
