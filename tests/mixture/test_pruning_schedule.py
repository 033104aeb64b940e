"""When a mixture is pruned while its router is trained, and what becomes of the optimisers."""

from typing import Any
from unittest.mock import Mock

import pytest
import torch
from mixture_helpers import mixture, views
from nerfstudio.cameras.cameras import Cameras
from tolerances import EXACT, FORWARD
from torch.optim import Optimizer

from moegs_ns.mixture import pruning_schedule as pruning
from moegs_ns.mixture.mixture import Mixture
from moegs_ns.mixture.pruning_schedule import PruneConfig, PruningSchedule
from moegs_ns.training.optimizers import scaled_steps

COUNTS = (40, 20)
CAMERAS = Mock(spec=Cameras)
"""Which the fixture replaces."""


@pytest.fixture(autouse=True)
def cameras(monkeypatch):
    """Three cameras instead of a data set."""
    monkeypatch.setattr(pruning, "single_views", lambda cameras, device, limit: views())


def schedule(budget: float = 1.0, **options) -> PruningSchedule:
    config = PruneConfig(**{"criterion": "contribution", **options})
    config.check()
    return PruningSchedule(config, budget=budget, seed=0)


def trained() -> tuple[Mixture, dict[str, Optimizer]]:
    """A mixture whose router has been trained for a step, with its optimisers."""
    mixed = mixture(*COUNTS)
    groups = mixed.router.parameter_groups()
    optimizers: dict[str, Optimizer] = {
        name: torch.optim.RAdam(group, lr=0.1) for name, group in groups.items()
    }
    step(mixed, optimizers)
    return mixed, optimizers


def phi_weight(mixed: Mixture) -> torch.Tensor:
    """The first layer's weight of the router's network."""
    router: Any = mixed.router
    return router.phi[0].weight


def step(mixed, optimizers) -> None:
    for optimizer in optimizers.values():
        optimizer.zero_grad()
    mixed.render(views()[1]).rgb.square().sum().backward()
    for optimizer in optimizers.values():
        optimizer.step()


def run(rounds: PruningSchedule, mixed, optimizers):
    """The mixture after every round in its turn, and what the rounds did."""
    for _ in range(rounds.config.rounds):
        mixed = rounds.run_round(mixed, CAMERAS, optimizers)
    return mixed, rounds.reports


@pytest.mark.parametrize("budget", [1.0, 0.01])
def test_rounds_take_place_before_their_steps(budget: float):
    rounds, (mixed, optimizers) = schedule(budget, ratio=0.5, rounds=3), trained()
    every, happened = scaled_steps(1000, budget), []
    for number in range(5 * every):
        if rounds.is_due(number):
            mixed = rounds.run_round(mixed, CAMERAS, optimizers)
            happened.append(number)
    assert happened == [0, every, 2 * every]


def test_a_resumed_schedule_goes_on_where_it_stopped():
    rounds, (mixed, optimizers) = schedule(ratio=0.5, rounds=2), trained()
    mixed = rounds.run_round(mixed, CAMERAS, optimizers)
    again = schedule(ratio=0.5, rounds=2)
    again.load_state_dict(rounds.state_dict())
    assert again.reports == rounds.reports
    assert not again.is_due(999) and again.is_due(1000)
    mixed = again.run_round(mixed, CAMERAS, optimizers)
    assert mixed.num_gaussians == 30 and not again.is_due(2000)


@pytest.mark.parametrize("rounds", [1, 2, 5])
@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.55, 0.9])
def test_the_ratio_is_reached_with_the_last_round(ratio: float, rounds: int):
    mixed, optimizers = trained()
    mixed, reports = run(schedule(ratio=ratio, rounds=rounds), mixed, optimizers)
    assert mixed.num_gaussians == sum(reports[-1].after) == round((1 - ratio) * 60)
    removed = [report.removed_fraction for report in reports]
    assert max(removed) - min(removed) < 0.08, "rounds remove equal fractions of what is left"


def test_the_same_fraction_of_every_expert_on_demand():
    mixed, optimizers = trained()
    mixed, _ = run(schedule(ratio=0.5, per_expert=True), mixed, optimizers)
    assert [expert.num_gaussians for expert in mixed.experts] == [20, 10]
    mixed, optimizers = trained()
    mixed, _ = run(schedule(ratio=0.5), mixed, optimizers)
    assert [expert.num_gaussians for expert in mixed.experts] != [20, 10]


def test_a_threshold_removes_what_is_below_it_in_every_round():
    mixed, optimizers = trained()
    before = mixed.num_gaussians
    pixels = sum(view.height * view.width for view in views())
    mixed, reports = run(schedule(threshold=1.0 / pixels, rounds=2), mixed, optimizers)
    assert mixed.num_gaussians == sum(reports[1].after) <= sum(reports[0].after) < before


def test_optimisers_go_over_to_the_rows_that_stay_with_their_moments():
    mixed, optimizers = trained()
    weights, optimizer = mixed.router.gaussian_weights[0]["w"], optimizers["router_weights"]
    moments = optimizer.state[weights]["exp_avg"].clone()
    phi = optimizers["router_phi"].state[phi_weight(mixed)]["exp_avg"].clone()
    assert moments.abs().max() > 0
    # As nerfstudio does, something holds the graph of the last step.
    held = mixed.render(views()[1]).rgb
    pruned, _ = run(schedule(ratio=0.5), mixed, optimizers)
    fewer = pruned.router.gaussian_weights[0]["w"]
    indices = [int((weights == value).nonzero()[0]) for value in fewer.detach()]
    assert indices == sorted(indices) and 0 < len(indices) < COUNTS[0]
    EXACT.assert_close(optimizer.state[fewer]["exp_avg"], moments[indices])
    assert weights not in optimizer.state
    network = optimizers["router_phi"].state[phi_weight(pruned)]["exp_avg"]
    EXACT.assert_close(network, phi)
    before = {name: value.detach().clone() for name, value in pruned.router.named_parameters()}
    step(pruned, optimizers)
    for name, value in pruned.router.named_parameters():
        assert not torch.equal(value.detach(), before[name]), name
    assert held.requires_grad


def test_chance_is_the_same_for_the_same_seed_and_new_in_every_round():
    kept = []
    for _ in range(2):
        mixed, optimizers = trained()
        mixed, _ = run(schedule(ratio=0.75, rounds=2, criterion="random"), mixed, optimizers)
        kept.append(mixed.experts[0].gauss_params["means"].data.clone())
    EXACT.assert_close(kept[0], kept[1])


def test_a_ratio_of_nothing_changes_nothing():
    mixed, optimizers = trained()
    before = mixed.render(views()[1]).rgb.detach()
    mixed, _ = run(schedule(ratio=0.0), mixed, optimizers)
    FORWARD.assert_close(mixed.render(views()[1]).rgb.detach(), before)


def test_the_report_is_one_sentence():
    rounds, (mixed, optimizers) = schedule(ratio=0.5, criterion="gate-gradient"), trained()
    rounds.run_round(mixed, CAMERAS, optimizers)
    text = rounds.describe(["stg", "hexplane"])
    assert "Pruning round 1 of 1 by gate-gradient: 50.0% of the Gaussians removed" in text
    assert "stg 40 to " in text and "of the pixels had a saturated gate" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": 1.0}, r"from 0 to below 1, got 1; 0\.55 removes"),
        ({"ratio": -0.1}, r"from 0 to below 1, got -0\.1"),
        ({"ratio": float("nan")}, "got nan"),
        ({"threshold": -1.0}, "importance of at least 0, got -1"),
        ({"ratio": 0.5, "threshold": 1.0}, "got both"),
        ({"ratio": 0.5, "rounds": 0}, "at least 1 round"),
        ({"ratio": 0.5, "max_views": 0}, "at least 1, got 0"),
    ],
)
def test_numbers_that_make_no_pruning(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        PruneConfig(**options).check()
