"""The recipe of Ex4DGS: when things happen, densification of both kinds, whole steps."""

from dataclasses import replace

import pytest
import torch
from ex4dgs_helpers import DYNAMIC, STATIC, assert_consistent, build, moments
from training_helpers import FRAMES, drawn, scene, train_step

from moegs_ns.experts.ex4dgs import error_backtracking as backtracking
from moegs_ns.experts.ex4dgs.dynamic_params import adjust_windows
from moegs_ns.training.losses import TrainingRender
from moegs_ns.training.samplers import ShuffledSampler


def events(recipe, steps: int) -> dict[str, list[int]]:
    """At which finished steps a recipe does what; images of the latest frame at all steps."""
    seen: dict[str, list[int]] = {"grow": [], "densify": [], "convert": [], "adjust": []}
    seen["late"] = []

    def note(name):
        return lambda *_: seen[name].append(step + 1)

    recipe.convert = note("convert")
    recipe._densify = note("densify")
    real_grow = recipe.grow
    recipe.grow = lambda last: (seen["grow"].append(step + 1), real_grow(last))
    expert = recipe.expert
    for step in range(steps):
        recipe._part = replace_frame(recipe.part_for_events, int(expert.duration))
        recipe.after_step(step)
    return seen


def replace_frame(part: TrainingRender, frame: int) -> TrainingRender:
    return replace(part, view=replace(part.view, frame_ids=torch.tensor([frame])))


class TestSchedule:
    def run(self, steps: int, monkeypatch, **options):
        expert, recipe, _ = build(static=4, **options)
        recipe.part_for_events = drawn(expert)
        adjusted = []
        monkeypatch.setattr(
            "moegs_ns.experts.ex4dgs.recipe.adjust_windows",
            lambda _: adjusted.append(recipe.pass_steps),
        )
        return events(recipe, steps) | {"adjust": adjusted}, recipe

    def test_a_clip_of_300_frames_is_revealed_as_published(self, monkeypatch):
        seen, recipe = self.run(14000, monkeypatch, described=scene(300))
        assert seen["grow"] == list(range(800, 12001, 400))
        assert recipe.expert.duration == 299.0
        assert seen["densify"] == list(range(600, 14000, 300))
        grown = set(seen["grow"])
        expected = {step + 1 for step in grown} | {step + 100 for step in grown}
        assert set(seen["convert"]) == expected | {3980, 7960, 11940}

    def test_it_waits_for_late_frames(self, monkeypatch):
        expert, recipe, _ = build(static=4)
        wanted = []
        recipe.convert = lambda part: wanted.append(int(part.view.frame_ids[0]))
        recipe.grow(20)
        recipe.is_armed = True
        for frame in (3, 9, 10, 15):
            recipe._part = replace_frame(drawn(expert), frame)
            recipe.after_step(1000)
        assert wanted == [10]

    def test_a_budget_scales_all_of_it(self, monkeypatch):
        seen, recipe = self.run(1400, monkeypatch, described=scene(300), budget=0.1)
        assert seen["grow"] == list(range(80, 1201, 40))
        assert recipe.expert.duration == 299.0
        assert seen["densify"] == list(range(60, 1400, 30))

    def test_longer_clips_grow_by_more_at_once(self, monkeypatch):
        seen, recipe = self.run(13000, monkeypatch, described=scene(1000))
        assert recipe.expert.duration == 999.0
        assert seen["grow"][-1] <= 12800

    def test_a_clip_that_starts_whole_never_grows(self, monkeypatch):
        seen, recipe = self.run(2000, monkeypatch, described=scene(8))
        assert seen["grow"] == [] and seen["convert"] == []
        assert recipe.expert.duration == 7.0

    def test_densification_and_adjustment_end_in_time(self, monkeypatch):
        _, recipe, _ = build(static=4)
        densified, adjusted = [], []
        recipe._densify = densified.append
        monkeypatch.setattr(
            "moegs_ns.experts.ex4dgs.recipe.adjust_windows", lambda _: adjusted.append(step + 1)
        )
        for step in range(40000):
            if (step + 1) % 300 == 0:
                recipe.after_step(step)
        assert (densified[0], densified[-1]) == (600, 30000)
        assert adjusted == list(range(1200, 27001, 1200))

    def test_errors_prune_late_and_every_fifth_round(self, monkeypatch):
        _, recipe, _ = build(static=4)
        judged = []
        monkeypatch.setattr(
            backtracking,
            "has_large_errors",
            lambda s, _: judged.append(done) or torch.zeros(len(s["counts"])).bool(),
        )
        for done in range(300, 30001, 300):
            recipe._densify(done)
        assert judged[::2] == list(range(21000, 30001, 1500))

    def test_every_finished_pass_prunes_what_hardly_shows(self, monkeypatch):
        _, recipe, _ = build(static=4)
        judged = []
        monkeypatch.setattr(
            backtracking,
            "hardly_shows",
            lambda s, _: judged.append(done) or torch.zeros(len(s["counts"])).bool(),
        )
        for done in range(5900, 6100):
            recipe._count_pass(done)
        # 22 images of 11 frames by two cameras.
        assert judged[::2] == list(range(5899 + 22 * 5, 6100, 22))

    def test_a_pass_has_no_images_that_are_left_out(self):
        _, recipe, _ = build(static=4)
        assert recipe._pass_length() == 22
        recipe.sampler.leave_out(recipe.sampler.table.camera_ids == 1)
        assert recipe._pass_length() == 11

    def test_the_sampler_draws_the_new_frames(self):
        _, recipe, _ = build()
        assert isinstance(recipe.sampler, ShuffledSampler)
        recipe.grow(20)
        frames = {int(recipe.sampler.next(0)) % FRAMES for _ in range(42)}
        assert frames == set(range(21))

    def test_backgrounds_are_random_unless_images_bring_one(self):
        _, recipe, _ = build()
        assert not torch.equal(recipe.background(0), recipe.background(1))
        _, recipe, _ = build(described=scene(background=(0.0, 1.0, 0.0)))
        assert recipe.background(0).tolist() == [0.0, 1.0, 0.0]
        _, recipe, _ = build(random_background=False)
        assert recipe.background(0).tolist() == [1.0, 1.0, 1.0]


class TestDensification:
    def test_both_kinds_are_cloned_split_and_stay_consistent(self):
        expert, recipe, optimizers = build(dynamic=DYNAMIC)
        for densifier in recipe.densifiers:
            densifier.statistics["gradients"][:] = 1.0
            densifier.statistics["counts"][:] = 30.0
            densifier.parameters["scales"].data[:] = -6.0
            densifier.parameters["scales"].data[:3] = -1.0
        recipe._densify(300)
        assert expert.num_static == 2 * STATIC and expert.num_dynamic == 2 * DYNAMIC
        assert_consistent(expert, recipe, optimizers)
        rows = expert.key_gauss_params
        # The unsplit old ones come first; new ones got wide windows near the parents' centres.
        old = DYNAMIC - 3
        assert (rows["opacity_log_widths"][old:] == 2.0).all()
        assert not (rows["opacity_log_widths"][:old] == 2.0).any()
        assert rows["opacity_centers"].min() >= expert.in_keys(0.0)
        assert rows["opacity_centers"].max() <= expert.in_keys(10.0)
        assert not moments(optimizers, "dynamic_means")[old:].any()

    def test_children_of_a_dynamic_gaussian_turn_with_it(self):
        expert, recipe, _ = build(dynamic=DYNAMIC)
        rows = expert.key_gauss_params
        turned = torch.tensor([0.5**0.5, 0.0, 0.0, 0.5**0.5])  # a quarter about z
        rows["quats"].data[:, 0] = torch.tensor([1.0, 0.0, 0.0, 0.0])
        rows["quats"].data[:, 1] = turned
        parents = rows["means"].data.clone()
        recipe.dynamic.split(torch.ones(DYNAMIC, dtype=torch.bool))
        offsets = rows["means"].data - parents.repeat(2, 1, 1)
        x, y, z = offsets[:, 0].unbind(-1)
        torch.testing.assert_close(offsets[:, 1], torch.stack([-y, x, z], -1), atol=1e-5, rtol=0)
        assert rows["scales"].shape[0] == 2 * DYNAMIC

    def test_the_cap_counts_both_kinds(self):
        expert, recipe, _ = build(dynamic=DYNAMIC)
        for densifier in recipe.densifiers:
            densifier.config.max_gaussians = STATIC + DYNAMIC + 5
            densifier.statistics["gradients"][:] = 1.0
            densifier.statistics["counts"][:] = 30.0
        recipe._densify(300)
        assert expert.num_gaussians == STATIC + DYNAMIC + 5

    def test_all_dynamic_gaussians_may_go(self):
        expert, recipe, optimizers = build(dynamic=DYNAMIC)
        expert.key_gauss_params["opacities"].data.fill_(-9.0)
        recipe._densify(300)
        assert (expert.num_static, expert.num_dynamic) == (STATIC, 0)
        assert_consistent(expert, recipe, optimizers)

    def test_adjusting_widens_what_fades_at_the_ends(self):
        expert, recipe, _ = build(dynamic=3)
        recipe.grow(30)
        rows, start, end = expert.key_gauss_params, expert.in_keys(0.0), expert.in_keys(30.0)
        rows["opacity_centers"].data = torch.tensor(
            [[start + 0.1, end - 0.7], [start + 0.6, end - 0.1], [start + 0.6, end - 0.7]]
        )
        rows["opacity_log_widths"].data = torch.tensor([[1.5, 0.1], [0.7, 0.7], [-1.0, 3.0]])
        adjust_windows(expert)
        expected = torch.tensor([[3.0, 0.5], [0.7, 2.0], [0.5, 3.0]])
        torch.testing.assert_close(rows["opacity_log_widths"].data, expected)
        centers = rows["opacity_centers"].detach()
        assert centers.min().item() == pytest.approx(start + 0.2)
        assert centers.max().item() == pytest.approx(end - 0.2)


class TestTraining:
    def test_steps_through_all_stages_lower_the_loss(self):
        expert, recipe, optimizers = build(budget=0.01, static=60, rate=0.02)
        expert.gauss_params["displacements"].data.normal_(std=0.05)
        losses = []
        for step in range(120):
            losses.append(train_step(expert, recipe, optimizers, step))
        assert expert.duration == 30.0 and expert.num_dynamic > 0
        assert_consistent(expert, recipe, optimizers)
        assert sum(losses[-20:]) < sum(losses[:20])

    def test_a_resumed_recipe_goes_on_as_if_it_had_not_stopped(self, tmp_path):
        expert, recipe, optimizers = build(budget=0.01, static=60)
        for step in range(30):
            train_step(expert, recipe, optimizers, step)
        saved = (
            expert.state_dict(), recipe.get_extra_state(),
            {name: optimizer.state_dict() for name, optimizer in optimizers.items()},
        )  # fmt: skip
        torch.save(saved, tmp_path / "state")
        other, again, others = build(budget=0.01, static=3)
        state, extra, moments_of = torch.load(tmp_path / "state", weights_only=True)
        other.load_state_dict(state)
        again.set_extra_state(extra)
        for name, optimizer in others.items():
            optimizer.load_state_dict(moments_of[name])
        for step in range(30, 40):
            first = train_step(expert, recipe, optimizers, step)
            assert train_step(other, again, others, step) == pytest.approx(first, abs=1e-5)
        assert other.num_static == expert.num_static and other.num_dynamic == expert.num_dynamic

    def test_a_scene_ten_times_as_large_trains_the_same(self):
        """Positions, displacements and keys learn in scene extents, and so do the penalties."""
        results = []
        for size in (1.0, 10.0):
            expert, recipe, optimizers = build(budget=0.01, static=60, rate=2e-3, size=size)
            expert.gauss_params["displacements"].data[:] = 0.1 * size
            losses = [train_step(expert, recipe, optimizers, step) for step in range(40)]
            penalties = sum(value.item() for value in recipe.motion_regularizers().values())
            results.append((losses, penalties, expert.num_static, expert.num_dynamic))
        assert results[0][0] == pytest.approx(results[1][0], rel=5e-3)
        assert results[0][1] == pytest.approx(results[1][1], rel=1e-2)
        assert results[0][2:] == results[1][2:] and results[0][3] > 0

    def test_regularisers_start_after_the_first_growth(self):
        expert, recipe, _ = build(dynamic=DYNAMIC)
        recipe.before_step(0)
        part = drawn(expert, to_rasterize=recipe.to_rasterize)
        assert set(recipe.loss_terms(499, [part])) == {"photometric"}
        recipe.before_step(500)
        late = recipe.loss_terms(500, [drawn(expert, to_rasterize=recipe.to_rasterize)])
        assert set(late) == {"photometric", "displacement", "key_spread"}

    def test_regularisers_are_finite_at_rest_and_for_one_kind_alone(self):
        expert, recipe, _ = build()
        expert.gauss_params["displacements"].data.zero_()
        losses = recipe.motion_regularizers()
        assert set(losses) == {"displacement"}
        losses["displacement"].backward()
        assert expert.gauss_params["displacements"].grad.isfinite().all()
