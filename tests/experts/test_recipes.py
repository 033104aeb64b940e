"""Recipes: when schedules fire, and that parameters and optimisers are rewritten together."""

from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from recipe_runs import FAMILIES, SCENE, build

from moegs_ns.experts.fourdgaussians.expert import HexPlaneExpertConfig
from moegs_ns.experts.fourdgaussians.recipe import HexPlaneRecipeConfig
from moegs_ns.experts.stg.recipe import STGRecipeConfig
from moegs_ns.training.densification import DensificationConfig
from moegs_ns.training.losses import TrainingRender, smoothness_penalty
from moegs_ns.training.optimizers import (
    LogLinearSchedulerConfig,
    is_due,
    multiply_learning_rate,
    scaled_steps,
)


def assert_consistent(expert, optimizers, statistics):
    """Parameters, optimisers, their state and the statistics agree on identity and rows."""
    count = expert.num_gaussians
    for name, parameter in expert.gauss_params.items():
        held = optimizers[name].param_groups[0]["params"]
        assert held[0] is parameter, name
        assert parameter.shape[0] == count, name
        for key, value in optimizers[name].state[parameter].items():
            assert key == "step" or value.shape == parameter.shape, (name, key)
    assert all(len(value) == count for value in statistics.values())


@pytest.mark.parametrize(
    ("step", "expected"), [(500, False), (550, False), (600, True), (1700, True), (1800, False)]
)
def test_something_is_due_in_a_half_open_interval(step, expected):
    assert is_due(step, every=100, start=500, stop=1700) is expected


def test_a_budget_scales_steps_but_never_to_zero():
    assert scaled_steps(30000, 0.2) == 6000
    assert scaled_steps(1, 0.001) == 1


class TestLogLinear:
    def test_the_rate_falls_geometrically_and_then_stays(self):
        schedule = LogLinearSchedulerConfig(final_ratio=0.01, max_steps=100)
        ratios = [schedule.ratio(step) for step in (0, 50, 100, 500)]
        assert ratios == pytest.approx([1.0, 0.1, 0.01, 0.01])
        assert all(type(ratio) is float for ratio in ratios)

    def test_it_starts_anew_with_the_fine_stage(self):
        schedule = LogLinearSchedulerConfig(final_ratio=0.01, max_steps=100, restart_step=30)
        assert schedule.ratio(29) < schedule.ratio(30) == 1.0
        assert schedule.ratio(80) == pytest.approx(0.1)

    def test_a_budget_scales_it_without_changing_the_original(self):
        schedule = LogLinearSchedulerConfig(final_ratio=0.01, max_steps=100, restart_step=30)
        scaled = schedule.scaled(0.1)
        assert (scaled.max_steps, scaled.restart_step) == (10, 3)
        assert (schedule.max_steps, schedule.restart_step) == (100, 30)

    def test_its_state_holds_plain_numbers_only(self, tmp_path):
        parameter = torch.nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.Adam([parameter], lr=1e-3)
        scheduler = LogLinearSchedulerConfig().setup().get_scheduler(optimizer, 1e-3)
        optimizer.step()
        scheduler.step()
        torch.save([optimizer.state_dict(), scheduler.state_dict()], tmp_path / "state")
        torch.load(tmp_path / "state", weights_only=True)

    def test_multiplying_the_rate_reaches_optimiser_and_schedule(self):
        parameter = torch.nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.Adam([parameter], lr=1e-3)
        schedule = LogLinearSchedulerConfig(final_ratio=0.01, max_steps=2)
        scheduler = schedule.setup().get_scheduler(optimizer, 1e-3)
        multiply_learning_rate(optimizer, scheduler, 5.0)
        rates = [optimizer.param_groups[0]["lr"]]
        for _ in range(2):
            optimizer.step()
            scheduler.step()
            rates.append(optimizer.param_groups[0]["lr"])
        assert rates == pytest.approx([5e-3, 5e-4, 5e-5])


class TestDensifier:
    def grow(self, gradients, sizes, *, cap=100, family="stg", observations=20):
        expert, recipe, optimizers = build(family, count=len(gradients))
        densifier = recipe.densifier
        densifier.config = DensificationConfig(max_gaussians=cap)
        densifier.statistics["gradients"] = observations * torch.tensor(gradients)
        densifier.statistics["counts"] = torch.full((len(gradients),), float(observations))
        expert.gauss_params["scales"].data[:] = torch.tensor(sizes).log()[:, None]
        rows = []
        densifier.grow(rows.append)
        assert_consistent(expert, optimizers, densifier.statistics)
        return expert, rows

    @pytest.mark.parametrize("family", FAMILIES)
    def test_small_gaussians_are_cloned_and_large_ones_split(self, family):
        expert, rows = self.grow([1.0, 1.0, 0.0], [0.001, 0.5, 0.5], family=family)
        assert expert.num_gaussians == 5
        assert rows == [slice(2, 5)]
        sizes = expert.gauss_params["scales"].exp()[:, 0]
        assert sizes.tolist() == pytest.approx([0.001, 0.5, 0.001, 0.5 / 1.6, 0.5 / 1.6])

    def test_nothing_is_refined_below_the_threshold(self):
        expert, rows = self.grow([1e-4, 1e-4], [0.5, 0.001])
        assert expert.num_gaussians == 2
        assert not rows

    def test_a_gaussian_is_judged_after_enough_views_only(self):
        expert, rows = self.grow([1.0, 1.0], [0.5, 0.001], observations=19)
        assert expert.num_gaussians == 2
        assert not rows

    def test_judged_gaussians_are_observed_anew_and_others_on(self):
        expert, recipe, _ = build("stg", count=3)
        expert.gauss_params["scales"].data[:] = -9.0
        statistics = recipe.densifier.statistics
        statistics["gradients"][:] = torch.tensor([100.0, 0.0, 100.0])
        statistics["counts"][:] = torch.tensor([20.0, 20.0, 5.0])
        recipe.densifier.grow()
        assert recipe.densifier.statistics["counts"].tolist() == [0.0, 0.0, 5.0, 0.0]
        assert recipe.densifier.statistics["gradients"].tolist() == [0.0, 0.0, 100.0, 0.0]

    def test_the_cap_leaves_room_for_the_largest_gradients(self):
        expert, _ = self.grow([1.0, 3.0, 2.0, 4.0], [0.001, 0.002, 0.003, 0.004], cap=6)
        assert expert.num_gaussians == 6
        cloned = expert.gauss_params["scales"].exp()[4:, 0]
        assert sorted(cloned.tolist()) == pytest.approx([0.002, 0.004])

    def test_transparent_gaussians_go_but_never_all(self):
        expert, recipe, optimizers = build("stg", count=4)
        expert.gauss_params["opacities"].data = torch.tensor([-9.0, 1.0, -9.0, 1.0])
        assert recipe.densifier.prune() == 2
        assert_consistent(expert, optimizers, recipe.densifier.statistics)
        expert.gauss_params["opacities"].data[:] = -9.0
        assert recipe.densifier.prune() == 0
        assert expert.num_gaussians == 2

    def test_a_reset_cuts_opacity_and_clears_its_moments_only(self):
        expert, recipe, optimizers = build("stg", count=4)
        expert.gauss_params["opacities"].data = torch.tensor([-9.0, 1.0, 3.0, 0.0])
        recipe.densifier.reset_opacities()
        opacities = expert.gauss_params["opacities"]
        assert opacities.sigmoid().amax().item() == pytest.approx(0.01, rel=1e-4)
        assert optimizers["opacities"].state[opacities]["exp_avg"].abs().sum() == 0
        means = expert.gauss_params["means"]
        assert optimizers["means"].state[means]["exp_avg"].abs().sum() > 0


def events(recipe, steps: int) -> dict[str, list[int]]:
    """At which finished steps a recipe grows, prunes and resets."""
    seen: dict[str, list[int]] = {"grow": [], "prune": [], "reset": []}
    for name, method in (("grow", "grow"), ("prune", "prune"), ("reset", "reset_opacities")):
        setattr(recipe.densifier, method, lambda *_, n=name: seen[n].append(step + 1) or 0)
    for step in range(steps):
        recipe.after_step(step)
    return seen


class TestSTGRecipe:
    def test_events_of_the_full_recipe(self):
        _, recipe, _ = build("stg")
        seen = events(recipe, 12000)
        assert seen["grow"] == list(range(600, 1701, 100))
        assert seen["prune"] == list(range(1800, 7001, 100))
        assert seen["reset"] == [3000, 6000]

    def test_a_budget_scales_all_of_it(self):
        _, recipe, _ = build("stg", budget=0.1)
        seen = events(recipe, 1200)
        assert seen["grow"] == list(range(60, 171, 10))
        assert (seen["prune"][0], seen["prune"][-1]) == (180, 700)
        assert seen["reset"] == [300, 600]

    def test_new_gaussians_get_a_centre_anywhere_in_the_clip(self):
        expert, recipe, _ = build("stg", count=200)
        centers = expert.gauss_params["time_centers"]
        before = centers.detach().clone()
        recipe.redraw_time_centers(slice(100, 200))
        assert torch.equal(centers[:100], before[:100])
        drawn = centers[100:].detach()
        assert 0.0 <= float(drawn.min()) < 0.1 and 0.9 < float(drawn.max()) <= 1.0

    def test_colours_gain_a_degree_every_thousand_steps(self):
        expert, recipe, _ = build("stg")
        degrees = []
        for step in (0, 999, 1000, 2000, 3000, 9000):
            recipe.before_step(step)
            degrees.append(expert.active_sh_degree)
        assert degrees == [0, 0, 1, 2, 3, 3]


class TestHexPlaneRecipe:
    def test_deformation_and_fresh_optimisers_come_with_the_fine_stage(self):
        expert, recipe, optimizers = build("4dgaussians")
        recipe.before_step(2999)
        assert not expert.is_deforming and optimizers["means"].state
        recipe.before_step(3000)
        assert expert.is_deforming and not optimizers["means"].state
        for parameter in expert.parameters():
            parameter.grad = torch.rand_like(parameter)
        optimizers["means"].step()
        recipe.before_step(3001)
        assert optimizers["means"].state

    def test_both_stages_grow_on_their_own_clock(self):
        _, recipe, _ = build("4dgaussians")
        seen = events(recipe, 17000)
        coarse = list(range(600, 3001, 100))
        fine = [3000 + step for step in range(600, 10001, 100)]
        assert seen["grow"] == coarse + fine
        assert seen["prune"] == []
        assert seen["reset"] == [3000, 6000, 9000, 12000]

    def test_small_scenes_are_never_pruned_and_large_ones_are(self):
        config = HexPlaneRecipeConfig(prune_above=10)
        _, recipe, _ = build("4dgaussians", recipe_config=config)
        assert events(recipe, 700)["prune"] == [600, 700]

    def test_resets_of_opacity_can_be_switched_off(self):
        config = HexPlaneRecipeConfig(reset_every=None)
        _, recipe, _ = build("4dgaussians", recipe_config=config)
        assert events(recipe, 17000)["reset"] == []

    def test_roughness_is_the_second_difference_along_time(self):
        line = torch.linspace(0, 1, 7)[None, None, :, None].expand(3, 2, 7, 5)
        assert float(smoothness_penalty(line)) == pytest.approx(0.0, abs=1e-12)
        kink = torch.zeros(3, 1, 5, 1)
        kink[:, 0, 2] = 1.0
        assert float(smoothness_penalty(kink)) == pytest.approx((1 + 4 + 1) / 3)

    def test_the_regulariser_is_the_weighted_sum_of_its_parts(self):
        expert, recipe, _ = build("4dgaussians")
        expected = 0.0
        for level in expert.planes.levels:
            expected += sum(2e-4 * plane.diff(n=2, dim=1).square().mean() for plane in level.space)
            expected += sum(1e-3 * plane.diff(n=2, dim=1).square().mean() for plane in level.time)
            expected += sum(1e-4 * (1 - plane).abs().mean() for plane in level.time)
        torch.testing.assert_close(recipe.plane_regularizer(), expected)


@pytest.mark.parametrize("config", [STGRecipeConfig, HexPlaneRecipeConfig])
def test_what_resets_leave_must_not_be_pruned(config):
    family = "stg" if config is STGRecipeConfig else "4dgaussians"
    never: dict[str, Any] = (
        {"reset_stop": 0} if config is STGRecipeConfig else {"reset_every": None}
    )
    greedy = replace(config().densification, prune_opa=0.01)
    with pytest.raises(ValueError, match=r"prune-opa expects less than 0\.01.*got 0\.01: "):
        build(family, recipe_config=config(densification=greedy))
    build(family, recipe_config=config(densification=greedy, **never))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_resumed_recipe_draws_the_same_numbers(family):
    _, recipe, _ = build(family)
    recipe.densifier.statistics["gradients"] += 3.0
    state = recipe.get_extra_state()
    _, other, _ = build(family)
    torch.rand(5, generator=other.generator)
    other.set_extra_state(state)
    first, second = (torch.rand(4, generator=r.generator) for r in (recipe, other))
    assert torch.equal(first, second)
    assert torch.equal(other.densifier.statistics["gradients"], torch.full((20,), 3.0))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_extra_state_is_tensors_and_plain_types(family, tmp_path):
    _, recipe, _ = build(family)
    torch.save(recipe.get_extra_state(), tmp_path / "state")
    torch.load(tmp_path / "state", weights_only=True)


def test_recipes_add_no_parameters_of_their_own():
    for family in FAMILIES:
        _, recipe, _ = build(family)
        assert not list(recipe.parameters())
        assert cast(Any, TrainingRender).__dataclass_params__.frozen


def test_a_random_background_is_new_at_every_step_but_for_transparent_images():
    config = HexPlaneRecipeConfig(random_background=True)
    _, recipe, _ = build("4dgaussians", recipe_config=config)
    first, second = recipe.background(0), recipe.background(1)
    assert not torch.equal(first, second)
    assert all(bool(((color >= 0) & (color <= 1)).all()) for color in (first, second))
    scene = replace(SCENE, background=(1.0, 1.0, 1.0))
    expert = HexPlaneExpertConfig(space_resolution=8).setup(scene=scene)
    transparent = config.setup(expert=expert, budget=1.0, seed=0)
    assert transparent.background(0).tolist() == [1.0, 1.0, 1.0]
