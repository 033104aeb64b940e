"""Options that every recipe has: opacities that fall, dropout, cameras of one time, penalties."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from ex4dgs_helpers import build as build_ex4dgs
from recipe_runs import FAMILIES, SCENE
from recipe_runs import build as build_family
from training_helpers import cloud, drawn, table, train_step

from moegs_ns.experts.recipe import Recipe
from moegs_ns.splatting import project, rasterize
from moegs_ns.training.densification import DensificationConfig, LifeThresholdConfig
from moegs_ns.training.dropout import DropoutConfig, keep_some
from moegs_ns.training.opacity_decay import OpacityDecayConfig, decay_opacities
from moegs_ns.training.samplers import SameTimeSampler

LIVELY = DensificationConfig(
    refine_start_iter=2, refine_stop_iter=20, refine_every=3, min_observations=1, grow_grad2d=1e-5,
    counted="by-visibility", life_threshold=LifeThresholdConfig(share=0.75),
)  # fmt: skip
EVERYTHING: dict[str, Any] = {
    "densification": LIVELY,
    "opacity_decay": OpacityDecayConfig(factor=0.9, start=2),
    "dropout": DropoutConfig(fraction=0.5, steps=10),
    "weight_scale": 0.01,
    "weight_opacity": 0.01,
}


def build(family: str, **options):
    """An expert in view of the cameras, with its recipe and sampler."""
    torch.manual_seed(0)
    expert_config, default = FAMILIES[family]
    expert = replace(expert_config, near=0.0).setup(scene=SCENE, points=cloud(30))
    recipe = replace(default, **options).setup(expert=expert, budget=1.0, seed=0)
    recipe.make_sampler(table(SCENE.num_frames))
    optimizers = {
        name: torch.optim.Adam(parameters, lr=1e-3)
        for name, parameters in recipe.parameter_groups().items()
    }
    recipe.attach(optimizers)
    return expert, recipe, optimizers


class TestOpacityDecay:
    def test_opacities_of_what_is_seen_are_multiplied_whatever_they_are(self):
        logits = torch.tensor([-50.0, -2.0, 0.0, 3.0, 3.0, 40.0])
        is_seen = torch.tensor([True, True, True, True, False, True])
        before = logits.double().sigmoid()
        decay_opacities(logits, is_seen, 0.998)
        expected = torch.where(is_seen, 0.998 * before, before)
        torch.testing.assert_close(logits.double().sigmoid(), expected, rtol=1e-5, atol=0.0)
        assert bool(logits.isfinite().all())

    def test_it_begins_after_its_step_and_goes_by_the_budget(self):
        config = replace(FAMILIES["stg"][1], opacity_decay=OpacityDecayConfig(0.5, start=100))
        expert, recipe, _ = build_family("stg", budget=0.1, recipe_config=config)
        expert.gauss_params["time_log_scales"].data[:] = 9.0
        expert.gauss_params["means"].data = cloud(20).xyz
        expert.near = 0.0
        part = drawn(expert)
        is_seen = recipe.is_seen([part])
        assert bool(is_seen.any()) and torch.equal(is_seen, (part.render.radii > 0).any(0))
        opacities = expert.gauss_params["opacities"]
        before = opacities.detach().sigmoid()
        recipe.after_backward(9, [part])
        assert torch.equal(opacities.detach().sigmoid(), before)
        recipe.after_backward(10, [part])
        expected = torch.where(is_seen, 0.5 * before, before)
        torch.testing.assert_close(opacities.detach().sigmoid(), expected)

    def test_what_time_hides_stays_as_it_is(self):
        options = {"opacity_decay": OpacityDecayConfig(0.5, start=1)}
        expert, recipe, _ = build("stg", **options)
        expert.gauss_params["time_log_scales"].data[:] = -6.0
        expert.gauss_params["time_centers"].data[:] = 1.0
        expert.gauss_params["time_centers"].data[::2] = 0.5
        is_seen = recipe.is_seen([drawn(expert, frame=5)])
        assert bool(is_seen[::2].any()) and not bool(is_seen[1::2].any())

    def test_both_kinds_of_keyframe_experts_fall(self):
        expert, recipe, _ = build_ex4dgs(dynamic=12, opacity_decay=OpacityDecayConfig(0.5, start=1))
        part = drawn(expert, to_rasterize=recipe.to_rasterize)
        raws = (expert.gauss_params["opacities"], expert.key_gauss_params["opacities"])
        before = torch.cat(raws).detach().sigmoid()
        recipe.after_backward(1, [part])
        is_seen, after = recipe.is_seen([part]), torch.cat(raws).detach().sigmoid()
        assert all(bool(is_seen[kind].any()) for kind in recipe.kinds)
        torch.testing.assert_close(after, torch.where(is_seen, 0.5 * before, before))

    @pytest.mark.parametrize("family", ["stg", "4dgaussians"])
    def test_it_comes_in_place_of_resets(self, family: str):
        resets = {}
        for factor in (1.0, 0.998):
            _, recipe, _ = build(family, opacity_decay=OpacityDecayConfig(factor))
            seen = resets[factor] = []
            recipe.densifier.reset_opacities = lambda seen=seen: seen.append(1)
            recipe.densifier.grow = lambda *_: None
            assert recipe.resets_opacities == (factor == 1.0)
            for step in range(2990, 3010):
                recipe.after_step(step)
        assert resets[1.0] and not resets[0.998]

    @pytest.mark.parametrize("factor", [0.0, 1.5])
    def test_a_factor_that_is_none_of_decay_is_refused(self, factor: float):
        with pytest.raises(ValueError, match=r"decay\.factor expects a number above 0 and at most"):
            build("stg", opacity_decay=OpacityDecayConfig(factor))


class TestDropout:
    def test_what_is_left_out_is_culled_and_the_rest_more_opaque(self):
        expert, _, _ = build("4dgaussians")
        part = drawn(expert)
        projected = part.render.projected
        is_kept = torch.arange(30) % 3 > 0
        dropped = keep_some(projected, is_kept, 0.25)
        before, after = projected.projection, dropped.projection
        own = is_kept[before.gaussian_ids]
        assert bool((after.radii[~own] == 0).all()) and bool((after.extents[~own] == 0).all())
        assert torch.equal(after.radii[own], before.radii[own])
        torch.testing.assert_close(after.opacities[own], before.opacities[own] / 0.75)
        image = rasterize([dropped], part.view).only().rgb
        gaussians = expert.at(part.view.times[0]).select(is_kept)
        gaussians = replace(gaussians, opacities=gaussians.opacities / 0.75)
        expected = rasterize([project(gaussians, part.view)], part.view).only().rgb
        torch.testing.assert_close(image, expected)
        assert float((image - part.render.rgb).detach().abs().amax()) > 1e-3

    def test_nothing_becomes_more_opaque_than_opaque(self):
        expert, _, _ = build("4dgaussians")
        expert.gauss_params["opacities"].data[:] = 9.0
        dropped = keep_some(drawn(expert).render.projected, torch.ones(30, dtype=torch.bool), 0.5)
        assert float(dropped.projection.opacities.detach().amax()) == 1.0

    def test_the_share_rises_from_nothing_and_then_stays(self):
        _, recipe, _ = build("4dgaussians", dropout=DropoutConfig(fraction=0.4, steps=100))
        shares = []
        for step in (0, 50, 100, 500):
            recipe.before_step(step)
            shares.append(recipe.dropped_share)
        assert shares == pytest.approx([0.0, 0.2, 0.4, 0.4])

    def test_in_the_end_as_many_as_it_says_are_left_out_of_training_alone(self):
        expert, recipe, _ = build("stg", dropout=DropoutConfig(fraction=0.5, steps=1))
        recipe.before_step(9)
        seen = [
            drawn(expert, to_rasterize=recipe.to_rasterize).render.radii[0] > 0 for _ in range(40)
        ]
        everything = drawn(expert).render.radii[0] > 0
        share = torch.stack(seen).float().mean(0)[everything]
        assert float(share.mean()) == pytest.approx(0.5, abs=0.05)
        assert float(share.amin()) > 0.1 and float(share.amax()) < 0.9

    def test_what_is_left_out_does_not_count_as_seen(self):
        expert, recipe, _ = build("stg", dropout=DropoutConfig(fraction=0.5, steps=1))
        recipe.before_step(9)
        part = drawn(expert, to_rasterize=recipe.to_rasterize)
        (part.image - part.target).abs().mean().backward()
        recipe.after_backward(9, [part])
        expected = (part.render.radii[0] > 0).float()
        assert torch.equal(recipe.densifier.statistics["counts"], expected)
        assert 0.0 < float(expected.mean()) < 0.9

    def test_a_fraction_of_all_is_refused(self):
        with pytest.raises(ValueError, match=r"share of at least 0 and below 1, got 1\.0"):
            build("stg", dropout=DropoutConfig(1.0))


class TestCamerasOfOneTime:
    @pytest.mark.parametrize("family", FAMILIES)
    def test_any_family_draws_so_many_cameras_of_one_frame(self, family: str):
        _, recipe, _ = build(family, cameras_per_time=2)
        assert isinstance(recipe.sampler, SameTimeSampler)
        assert recipe.views_per_step(0) == 2
        images = table(SCENE.num_frames)
        for step in range(5):
            rows = recipe.sampler.next(step)
            assert len(images.frame_ids[rows].unique()) == 1
            assert len(images.camera_ids[rows].unique()) == 2

    def test_frames_that_are_not_revealed_yet_stay_hidden(self):
        _, recipe, _ = build_ex4dgs(cameras_per_time=2)
        assert recipe.sampler is not None and recipe.sampler.views == 2
        frames = table().frame_ids
        drawn_frames = {int(frames[recipe.sampler.next(step)[0]]) for step in range(60)}
        assert max(drawn_frames) <= recipe.expert.duration < 30
        recipe.pass_steps = 0
        length = int(recipe.sampler.may_draw.sum()) / 2
        for step in range(int(length) - 1):
            recipe.after_step(step)
        assert recipe.pass_steps == length - 1
        recipe.after_step(int(length) - 1)
        assert recipe.pass_steps == 0


class TestPenalties:
    def test_they_are_the_means_over_both_kinds(self):
        expert, recipe, _ = build_ex4dgs(dynamic=12, weight_opacity=0.5, weight_scale=0.25)
        raws = (expert.gauss_params, expert.key_gauss_params)
        opacities = torch.cat([raw["opacities"] for raw in raws]).sigmoid()
        scales = torch.cat([raw["scales"] for raw in raws]).exp()
        found = recipe.regularizers()
        torch.testing.assert_close(found["opacity"], 0.5 * opacities.mean())
        torch.testing.assert_close(found["scale"], 0.25 * scales.mean() / 2.0)

    @pytest.mark.parametrize("family", FAMILIES)
    def test_every_family_has_both(self, family: str):
        expert, recipe, _ = build(family, weight_opacity=0.5, weight_scale=0.25)
        found, raw = recipe.regularizers(), expert.gauss_params
        torch.testing.assert_close(found["opacity"], 0.5 * raw["opacities"].sigmoid().mean())
        torch.testing.assert_close(found["scale"], 0.25 * raw["scales"].exp().mean() / 2.0)


def state_of(expert, recipe: Recipe) -> dict[str, Any]:
    statistics = {f"statistics.{n}": v for n, v in recipe.densifier.statistics.items()}
    return copy.deepcopy({**expert.state_dict(), **statistics})


@pytest.mark.parametrize("family", FAMILIES)
def test_off_they_draw_no_numbers_and_change_nothing(family: str):
    expert, recipe, _ = build(family)
    recipe.before_step(5000)
    before = recipe.generator.get_state()
    part = drawn(expert)
    assert recipe.to_rasterize(part.render.projected) is part.render.projected
    opacities = expert.gauss_params["opacities"].detach().clone()
    recipe.after_backward(5000, [part])
    assert torch.equal(opacities, expert.gauss_params["opacities"])
    assert torch.equal(recipe.generator.get_state(), before)
    assert not isinstance(recipe.sampler, SameTimeSampler) or family == "stg"
    assert "scale" not in recipe.regularizers()


@pytest.mark.parametrize("family", ["stg", "freetime"])
def test_with_all_options_on_a_resumed_training_is_bit_by_bit_the_same(family: str):
    options = EVERYTHING
    if family == "freetime":
        own = replace(FAMILIES[family][1].densification, counted="by-visibility", refine_every=3)
        options = EVERYTHING | {"densification": replace(own, refine_start_iter=2)}
    first, recipe, optimizers = build(family, **options)
    if family == "freetime":
        # Some are dead from the start, so that relocation draws.
        first.gauss_params["opacities"].data[:4] = -9.0
    for step in range(5):
        recipe_step(first, recipe, optimizers, step)
    second, resumed, again = build(family, **options)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for name, optimizer in again.items():
        stored = copy.deepcopy(optimizers[name].state_dict())
        optimizer.load_state_dict(stored)
    resumed.set_extra_state(copy.deepcopy(recipe.get_extra_state()))
    for step in range(5, 11):
        recipe_step(first, recipe, optimizers, step)
        recipe_step(second, resumed, again, step)
    assert family == "freetime" or first.num_gaussians > 30
    one, other = state_of(first, recipe), state_of(second, resumed)
    for name, value in one.items():
        assert not isinstance(value, torch.Tensor) or torch.equal(value, other[name]), name


def recipe_step(expert, recipe, optimizers, step: int) -> None:
    """A step of one image, whatever the recipe's own number is."""
    recipe.sampler.views = 1
    train_step(expert, recipe, optimizers, step)
