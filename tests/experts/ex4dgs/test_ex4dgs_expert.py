"""Ex4DGS: static and dynamic Gaussians in one expert, how one becomes the other, and growth."""

import pytest
import torch
from ex4dgs_helpers import DYNAMIC, STATIC, assert_consistent, assert_same_gaussians, build, moments
from tolerances import assert_images_agree
from training_helpers import FRAMES, cloud, drawn, scene

from moegs_ns.experts.ex4dgs.error_backtracking import UNSEEN
from moegs_ns.experts.ex4dgs.expert import Ex4DGSExpertConfig


class TestExpert:
    def test_all_start_static_and_at_rest(self):
        expert = Ex4DGSExpertConfig().setup(scene=scene(), points=cloud(7))
        early, late = expert.at(torch.tensor(0.0)), expert.at(torch.tensor(1.0))
        assert (expert.num_static, expert.num_dynamic, expert.num_gaussians) == (7, 0, 7)
        assert_same_gaussians(early, late)
        assert early.eps2d == 0.1 and early.antialiased is True and early.features is None
        assert expert.background.tolist() == [1.0, 1.0, 1.0]

    def test_static_gaussians_drift_in_a_line(self):
        expert = Ex4DGSExpertConfig().setup(scene=scene(), points=cloud(7))
        expert.gauss_params["displacements"].data.normal_()
        moved = expert.at(torch.tensor(0.25)).means - expert.gauss_params["means"]
        torch.testing.assert_close(moved, 0.25 * expert.gauss_params["displacements"])

    def test_rows_are_static_first(self):
        expert, _, _ = build(dynamic=DYNAMIC)
        assert (expert.num_static, expert.num_dynamic) == (STATIC, DYNAMIC)
        gaussians = expert.at(torch.tensor(0.1))
        assert len(gaussians) == expert.num_gaussians == STATIC + DYNAMIC
        torch.testing.assert_close(
            gaussians.scales[STATIC:], expert.key_gauss_params["scales"].exp()
        )

    @pytest.mark.parametrize("as_mask", [True, False])
    def test_select_keeps_rows_of_both_kinds(self, as_mask):
        expert, _, _ = build(dynamic=DYNAMIC)
        keep = torch.arange(expert.num_gaussians) % 4 == 0
        fewer = expert.select(keep if as_mask else torch.nonzero(keep)[:, 0])
        assert (fewer.num_static, fewer.num_dynamic) == (8, 3)
        assert (expert.num_static, expert.num_dynamic) == (STATIC, DYNAMIC)
        time = torch.tensor(0.2)
        assert_same_gaussians(fewer.at(time), expert.at(time).select(keep))

    @pytest.mark.parametrize("which", ["static", "dynamic", "none"])
    def test_one_kind_alone_or_none_works(self, which):
        expert, _, _ = build(dynamic=DYNAMIC)
        rows = torch.arange(expert.num_gaussians)
        keep = {"static": rows < STATIC, "dynamic": rows >= STATIC, "none": rows < 0}[which]
        part = drawn(expert.select(keep))
        assert part.render.projected.count == int(keep.sum())
        assert part.image.isfinite().all()

    @pytest.mark.parametrize("num_frames", [1, 2])
    def test_clips_of_one_and_two_frames_work(self, num_frames):
        described = scene(num_frames)
        expert, recipe, _ = build(described=described)
        part = drawn(expert, frame=num_frames - 1)
        assert part.image.isfinite().all() and expert.duration == 1.0
        recipe.after_backward(0, [])
        for step in range(1000):
            recipe.after_step(step)
        assert expert.duration == 1.0

    def test_loading_adopts_rows_keys_and_frames_in_place(self):
        expert, recipe, _ = build(dynamic=DYNAMIC)
        recipe.grow(20)
        other, _, _ = build(static=3)
        assert other.key_gauss_params.num_keys < expert.key_gauss_params.num_keys
        identities = {name: id(value) for name, value in other.named_parameters()}
        other.load_state_dict(expert.state_dict())
        assert {name: id(value) for name, value in other.named_parameters()} == identities
        assert other.duration == 20.0
        assert_same_gaussians(other.at(torch.tensor(0.4)), expert.at(torch.tensor(0.4)))

    def test_it_changes_continuously_also_at_keys(self):
        expert, recipe, _ = build(dynamic=DYNAMIC)
        recipe.grow(30)
        expert.key_gauss_params["means"].data.normal_()
        for frame in (8.0, 18.0, 13.5):
            now, soon = (expert.at(torch.tensor((frame + d) / 30)) for d in (-1e-4, 1e-4))
            assert (now.means - soon.means).abs().max() < 1e-3
            assert (now.opacities - soon.opacities).abs().max() < 1e-3

    def test_every_parameter_receives_a_gradient(self):
        expert, _, _ = build(dynamic=DYNAMIC)
        expert.zero_grad()
        expert.active_sh_degree = 3
        rows = expert.key_gauss_params
        rows["quats"].data.normal_()
        rows["opacity_log_widths"].data.fill_(0.0)
        total = torch.zeros(())
        for frame in (0.0, 10.0):
            gaussians = expert.at(torch.tensor(frame / 30))
            values = (gaussians.means, gaussians.quats[:, :2], gaussians.scales)
            total = total + sum(value.square().sum() for value in (*values, gaussians.sh))
            total = total + gaussians.opacities.square().sum()
        total.backward()
        for name, parameter in expert.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name

    def test_other_frame_rates_keep_the_seconds_between_keys(self):
        for fps, interval in ((30.0, 10), (12.0, 4), (0.0, 10), (60.0, 20)):
            expert = Ex4DGSExpertConfig().setup(scene=scene(fps=fps))
            assert expert.interval == interval

    @pytest.mark.parametrize("options", [{"key_interval": 0}, {"time_padding": -1}])
    def test_impossible_keys_are_refused(self, options):
        with pytest.raises(ValueError, match="key-interval of at least 1 frame"):
            Ex4DGSExpertConfig(**options).setup(scene=scene())


class TestConversion:
    def moving(self, **options):
        expert, recipe, optimizers = build(**options)
        displacements = expert.gauss_params["displacements"]
        displacements.data.normal_(std=0.1, generator=torch.Generator().manual_seed(3))
        recipe.densifier.statistics["best_frames"][:] = 5.0
        recipe.config.conversion.fraction = 0.4
        return expert, recipe, optimizers

    def test_motion_stays_the_same_at_every_frame(self):
        expert, recipe, optimizers = self.moving(as_released=True)
        before = {frame: expert.at(torch.tensor(frame / 30)) for frame in (0, 3, 7, 10)}
        part = drawn(expert)
        is_moved = recipe._fastest(part)
        count = recipe.convert(part)
        assert 0 < count == int(is_moved.sum()) < STATIC
        order = torch.cat([torch.nonzero(~is_moved)[:, 0], torch.nonzero(is_moved)[:, 0]])
        for frame, old in before.items():
            assert_same_gaussians(expert.at(torch.tensor(frame / 30)), old.select(order))
        assert_images_agree(drawn(expert).image, part.image)
        assert_consistent(expert, recipe, optimizers)

    def test_they_are_opaque_half_way_around_their_best_frame(self):
        expert, recipe, _ = self.moving()
        recipe.convert(drawn(expert))
        rows, start = expert.key_gauss_params, expert.in_keys(0.0)
        expected = torch.tensor([2.5, 7.5]) / 10 + start
        torch.testing.assert_close(rows["opacity_centers"][0], expected)
        torch.testing.assert_close(rows["opacity_log_widths"].exp()[0], torch.tensor([0.7, 0.7]))

    def test_the_fastest_for_their_distance_go_first(self):
        expert, recipe, _ = self.moving()
        part = drawn(expert)
        chosen = recipe._fastest(part)
        lengths = expert.gauss_params["displacements"].norm(dim=-1)
        away = expert.gauss_params["means"].norm(dim=-1)
        scores = lengths / away**2
        is_visible = part.render.radii[0] > 0
        assert scores[chosen].min() > scores[~chosen & is_visible].max()
        assert int(chosen.sum()) == -(-int(is_visible.sum()) * 4 // 10)

    def test_what_rests_or_was_never_seen_stays_static(self):
        expert, recipe, _ = self.moving()
        recipe.config.conversion.fraction = 1.0
        expert.gauss_params["displacements"].data[:10] = 0.0
        recipe.densifier.statistics["best_frames"][10:20] = UNSEEN
        assert not recipe._fastest(drawn(expert))[:20].any()

    def test_new_rows_have_no_moments_and_old_ones_keep_theirs(self):
        expert, recipe, optimizers = build(dynamic=DYNAMIC)
        expert.gauss_params["displacements"].data[:5] = 0.3
        recipe.densifier.statistics["best_frames"][:] = 3.0
        recipe.config.conversion.fraction = 0.1
        count = recipe.convert(drawn(expert))
        assert count > 0 and expert.num_dynamic == DYNAMIC + count
        assert_consistent(expert, recipe, optimizers)
        means = moments(optimizers, "dynamic_means")
        assert not means[DYNAMIC:].any() and means[:DYNAMIC].all()
        assert moments(optimizers, "means").all()

    def test_statistics_follow_their_gaussians(self):
        expert, recipe, _ = self.moving()
        recipe.densifier.statistics["best_errors"] = torch.arange(float(STATIC))
        is_moved = recipe._fastest(drawn(expert))
        recipe.convert(drawn(expert))
        old = torch.arange(float(STATIC))
        assert torch.equal(recipe.dynamic.statistics["best_errors"], old[is_moved])
        assert torch.equal(recipe.densifier.statistics["best_errors"], old[~is_moved])


class TestGrowth:
    def test_it_begins_with_eleven_frames_and_their_keys(self):
        expert, recipe, _ = build()
        assert expert.duration == 10.0
        assert expert.key_gauss_params.num_keys == expert.keys_needed(10) == 5
        drawn_frames = {int(recipe.sampler.next(0)) % FRAMES for _ in range(200)}
        assert drawn_frames == set(range(11))

    def test_trajectories_stay_the_same_where_they_were(self):
        expert, recipe, optimizers = build(dynamic=DYNAMIC)
        rows = expert.key_gauss_params
        rows["means"].data.normal_()
        rows["quats"].data.normal_()
        rows["opacity_centers"].data[:] = expert.in_keys(torch.tensor([2.0, 4.0]))
        expert.gauss_params["displacements"].data.normal_()
        before = {frame: expert.at(torch.tensor(frame / 30)) for frame in (0, 4, 10)}
        recipe.grow(20)
        assert_consistent(expert, recipe, optimizers)
        assert rows.num_keys == expert.keys_needed(20) == 6
        for frame, old in before.items():
            assert_same_gaussians(expert.at(torch.tensor(frame / 30)), old)
        names = ("means", "quats", "opacity_centers", "opacity_log_widths")
        assert not any(moments(optimizers, f"dynamic_{name}").any() for name in names)
        assert moments(optimizers, "dynamic_scales").all()

    @pytest.mark.parametrize("last_frame", [10, 11, 17, 18, 29, 30])
    def test_there_are_always_enough_keys(self, last_frame):
        expert = Ex4DGSExpertConfig().setup(scene=scene())
        time = expert.in_keys(float(last_frame))
        assert time <= expert.keys_needed(last_frame) - 2

    def test_steady_motion_goes_on(self):
        expert, recipe, _ = build(dynamic=DYNAMIC)
        rows = expert.key_gauss_params
        speed = torch.tensor([0.1, -0.2, 0.3])
        rows["means"].data = rows["means"].data[:, :1] + torch.arange(5)[:, None] * speed
        recipe.grow(30)
        moved = expert.at(torch.tensor(1.0)).means - expert.at(torch.tensor(0.0)).means
        torch.testing.assert_close(moved[STATIC:], (3 * speed).repeat(DYNAMIC, 1))

    def test_what_was_visible_at_the_end_fades_softly(self):
        expert, recipe, _ = build(dynamic=DYNAMIC)
        rows = expert.key_gauss_params
        rows["opacity_centers"].data[:] = expert.in_keys(torch.tensor([1.0, 9.0]))
        rows["opacity_log_widths"].data[:] = 3.0
        rows["opacity_centers"].data[0] = expert.in_keys(torch.tensor([1.0, 3.0]))
        recipe.grow(20)
        log_widths = rows["opacity_log_widths"]
        assert log_widths[0].tolist() == [3.0, 3.0]
        assert log_widths[1].tolist() == [3.0, 1.0]

    def test_the_released_drift_slows_down(self):
        expert, recipe, _ = build(as_released=True)
        expert.gauss_params["displacements"].data.normal_()
        before = expert.at(torch.tensor(10 / 30)).means - expert.gauss_params["means"]
        recipe.grow(20)
        after = expert.at(torch.tensor(10 / 30)).means - expert.gauss_params["means"]
        torch.testing.assert_close(after, 0.5 * before)
