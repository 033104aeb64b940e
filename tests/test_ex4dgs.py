"""Ex4DGS: static and dynamic Gaussians in one expert, and its recipe."""

from dataclasses import replace

import pytest
import torch
from tolerances import FORWARD, assert_images_agree
from toys import make_view

from moegs_ns.experts.ex4dgs import Ex4DGSExpertConfig
from moegs_ns.mixture import finish_image
from moegs_ns.recipes import backtracking
from moegs_ns.recipes.backtracking import UNSEEN, ErrorPruneConfig, TracedErrors
from moegs_ns.recipes.ex4dgs import ConversionConfig, Ex4DGSRecipeConfig, GrowthConfig
from moegs_ns.recipes.training_splat import TrainingSplat
from moegs_ns.samplers import ShuffledSampler
from moegs_ns.scene import FrameTable, InitialPoints, SceneInfo
from moegs_ns.splatting import splat
from moegs_ns.splatting.projection import project
from moegs_ns.splatting.torch_twin import rasterize

FRAMES = 31
STATIC, DYNAMIC = 30, 12


def scene(num_frames: int = FRAMES, **options) -> SceneInfo:
    described = SceneInfo(num_frames, 30.0, (0.0, 0.0, 0.0), 2.0, None)
    return replace(described, **options)


def cloud(count: int, size: float = 1.0) -> InitialPoints:
    """Points in front of the cameras of `make_view`."""
    generator = torch.Generator().manual_seed(0)
    xyz = torch.rand(count, 3, generator=generator) * torch.tensor([2.0, 1.5, 1.0])
    xyz = xyz + torch.tensor([-1.0, -0.7, 3.0])
    return InitialPoints(size * xyz, torch.rand(count, 3, generator=generator))


def table(num_frames: int = FRAMES, cameras: int = 2) -> FrameTable:
    frames = torch.arange(num_frames).repeat(cameras)
    camera_ids = torch.arange(cameras).repeat_interleave(num_frames)
    return FrameTable(camera_ids, frames, frames / max(1, num_frames - 1))


def build(
    static: int = STATIC, dynamic: int = 0, *, budget=1.0, described=None, rate=1e-3, **options
):
    """An expert with its recipe, sampler and optimisers, which have moments for every row."""
    described = described or scene()
    expert_options = options.pop("expert", {})
    config = Ex4DGSExpertConfig(near=0.0, **expert_options)
    expert = config.setup(scene=described, points=cloud(static + dynamic))
    recipe = Ex4DGSRecipeConfig(**options).setup(expert=expert, budget=budget, seed=0)
    recipe.make_sampler(table(described.num_frames))
    optimizers = {
        name: torch.optim.RAdam(parameters, lr=rate)
        for name, parameters in recipe.parameter_groups().items()
    }
    recipe.attach(optimizers)
    if dynamic:
        displacements = expert.gauss_params["displacements"]
        displacements.data[static:] = 0.2 * torch.rand(
            dynamic, 3, generator=torch.Generator().manual_seed(1)
        )
        recipe.densifier.statistics["best_frames"][:] = 4.0
        recipe.config.conversion.share = 1.0
        assert recipe.convert(drawn(expert)) == dynamic
        recipe.config.conversion.share = 0.02
    for parameter in expert.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    for optimizer in optimizers.values():
        optimizer.step()
    return expert, recipe, optimizers


def drawn(expert, frame: int = 5, index: int = 0, **view_options) -> TrainingSplat:
    """One view of the expert at a frame; its target is a ramp of grey."""
    time = frame / max(1, expert.scene.num_frames - 1)
    view = make_view(1, **view_options)
    view = replace(view, times=torch.tensor([time]), frame_ids=torch.tensor([frame]))
    gaussians = expert.at(view.time)
    result = splat(gaussians, view)
    if result.means2d.requires_grad:
        result.means2d.retain_grad()
    image = finish_image(expert, result, view, expert.background)
    target = torch.linspace(0.1, 0.9, view.width)[:, None].expand(image.shape).clone()
    return TrainingSplat(gaussians, result, view, image, target, torch.tensor([index]))


def assert_consistent(expert, recipe, optimizers):
    """Parameters, optimisers, moments and statistics agree on identity and number of rows."""
    kinds = (("", expert.gauss_params), ("dynamic_", expert.key_gauss_params))
    for (prefix, rows), densifier in zip(kinds, recipe.densifiers, strict=True):
        assert densifier.parameters is rows
        for name, parameter in rows.items():
            optimizer = optimizers[prefix + name]
            assert optimizer.param_groups[0]["params"][0] is parameter, prefix + name
            assert set(optimizer.state) <= {parameter}, prefix + name
            assert parameter.shape[0] == rows.num_rows
            for key, value in optimizer.state[parameter].items():
                assert key == "step" or value.shape == parameter.shape, (prefix + name, key)
        assert all(len(value) == rows.num_rows for value in densifier.statistics.values())
    assert expert.key_gauss_params.num_keys == expert.key_gauss_params["quats"].shape[1]


def moments(optimizers, name: str) -> torch.Tensor:
    (state,) = optimizers[name].state.values()
    return state["exp_avg"]


def assert_same_gaussians(one, other):
    for name in ("means", "scales", "opacities", "sh"):
        FORWARD.assert_close(getattr(one, name), getattr(other, name), name)
    same = (one.quats * other.quats).sum(-1).abs()
    torch.testing.assert_close(same, torch.ones(len(one)))


class TestExpert:
    def test_all_start_static_and_at_rest(self):
        expert = Ex4DGSExpertConfig().setup(scene=scene(), points=cloud(7))
        early, late = expert.at(torch.tensor(0.0)), expert.at(torch.tensor(1.0))
        assert (expert.num_static, expert.num_dynamic, expert.num_gaussians) == (7, 0, 7)
        assert_same_gaussians(early, late)
        assert early.dilation == 0.1 and early.compensated is True and early.features is None
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
        assert len(part.gaussians) == int(keep.sum())
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
        recipe.config.conversion.share = 0.4
        return expert, recipe, optimizers

    def test_motion_stays_the_same_at_every_frame(self):
        expert, recipe, optimizers = self.moving(conversion=ConversionConfig(width=1e4))
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
        is_visible = part.splat.radii[0] > 0
        assert scores[chosen].min() > scores[~chosen & is_visible].max()
        assert int(chosen.sum()) == -(-int(is_visible.sum()) * 4 // 10)

    def test_what_rests_or_was_never_seen_stays_static(self):
        expert, recipe, _ = self.moving()
        recipe.config.conversion.share = 1.0
        expert.gauss_params["displacements"].data[:10] = 0.0
        recipe.densifier.statistics["best_frames"][10:20] = UNSEEN
        assert not recipe._fastest(drawn(expert))[:20].any()

    def test_new_rows_have_no_moments_and_old_ones_keep_theirs(self):
        expert, recipe, optimizers = build(dynamic=DYNAMIC)
        expert.gauss_params["displacements"].data[:5] = 0.3
        recipe.densifier.statistics["best_frames"][:] = 3.0
        recipe.config.conversion.share = 0.1
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
        instant = float(expert.in_keys(last_frame))
        assert instant <= expert.keys_needed(last_frame) - 2

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
        expert, recipe, _ = build(growth=GrowthConfig(keep_speed=False))
        expert.gauss_params["displacements"].data.normal_()
        before = expert.at(torch.tensor(10 / 30)).means - expert.gauss_params["means"]
        recipe.grow(20)
        after = expert.at(torch.tensor(10 / 30)).means - expert.gauss_params["means"]
        torch.testing.assert_close(after, 0.5 * before)


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
    expert = recipe.ex4dgs
    for step in range(steps):
        recipe._part = replace_frame(recipe.part_for_events, int(expert.duration))
        recipe.after_step(step)
    return seen


def replace_frame(part: TrainingSplat, frame: int) -> TrainingSplat:
    return replace(part, view=replace(part.view, frame_ids=torch.tensor([frame])))


class TestSchedule:
    def run(self, steps: int, monkeypatch, **options):
        expert, recipe, _ = build(static=4, **options)
        recipe.part_for_events = drawn(expert)
        adjusted = []
        monkeypatch.setattr(
            "moegs_ns.recipes.ex4dgs.adjust_windows", lambda _: adjusted.append(recipe.pass_steps)
        )
        return events(recipe, steps) | {"adjust": adjusted}, recipe

    def test_a_clip_of_300_frames_is_revealed_as_published(self, monkeypatch):
        seen, recipe = self.run(14000, monkeypatch, described=scene(300))
        assert seen["grow"] == list(range(800, 12001, 400))
        assert recipe.ex4dgs.duration == 299.0
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
        assert recipe.ex4dgs.duration == 299.0
        assert seen["densify"] == list(range(60, 1400, 30))

    def test_longer_clips_grow_by_more_at_once(self, monkeypatch):
        seen, recipe = self.run(13000, monkeypatch, described=scene(1000))
        assert recipe.ex4dgs.duration == 999.0
        assert seen["grow"][-1] <= 12800

    def test_a_clip_that_starts_whole_never_grows(self, monkeypatch):
        seen, recipe = self.run(2000, monkeypatch, described=scene(8))
        assert seen["grow"] == [] and seen["convert"] == []
        assert recipe.ex4dgs.duration == 7.0

    def test_densification_and_adjustment_end_in_time(self, monkeypatch):
        _, recipe, _ = build(static=4)
        densified, adjusted = [], []
        recipe._densify = densified.append
        monkeypatch.setattr(
            "moegs_ns.recipes.ex4dgs.adjust_windows", lambda _: adjusted.append(step + 1)
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
        # The unsplit old ones come first; what was added got wide bells near the parents' centres.
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
        from moegs_ns.recipes.dynamic_rows import adjust_windows

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


class TestBacktracking:
    def traced(self, expert, with_similarity=True):
        expert.is_probed = True
        part = drawn(expert)
        expert.is_probed = False
        return part, backtracking.tracing_loss(part, with_similarity)

    def test_sums_equal_those_over_every_pixel_of_every_gaussian(self):
        expert, _, _ = build(static=9, dynamic=4)
        expert.gauss_params["scales"].data.fill_(-2.0)
        part, loss = self.traced(expert)
        loss.backward()
        found = backtracking.traced_errors(part)
        projection = project(
            *(getattr(part.gaussians, name) for name in ("means", "quats", "scales", "opacities")),
            part.view,
        )
        from moegs_ns.splatting.projection import dilate

        projection = dilate(projection, 0.1, True)
        # One channel per Gaussian shows its contributions to all pixels.
        channels = torch.eye(len(part.gaussians))[projection.gaussian_ids]
        size = part.view.width, part.view.height
        ids = torch.zeros_like(projection.gaussian_ids)
        weights, _ = rasterize(projection, channels, ids, 1, *size)
        maps = backtracking.error_maps(part, True)
        for channel, name in enumerate(("weights", "l1", "ssim")):
            expected = (weights * maps[..., channel, None]).sum((0, 1, 2))
            FORWARD.assert_close(getattr(found, name), expected.detach(), name)
        assert found.weights.max() > 1.0

    def test_it_changes_neither_loss_nor_other_gradients(self):
        gradients = []
        for is_traced in (False, True):
            expert, _, _ = build(dynamic=DYNAMIC)
            expert.zero_grad()
            expert.is_probed = is_traced
            part = drawn(expert)
            loss = (part.image - part.target).abs().mean()
            if is_traced:
                silent = backtracking.tracing_loss(part, True)
                assert silent.item() == 0.0
                loss = loss + silent
            loss.backward()
            gradients.append({n: p.grad.clone() for n, p in expert.named_parameters()})
        for name, gradient in gradients[0].items():
            FORWARD.assert_close(gradients[1][name], gradient, name)

    def test_similarity_at_every_pixel_agrees_with_the_loss_away_from_the_border(self, generator):
        from moegs_ns.losses import similarity_map, structural_similarity

        images = torch.rand(2, 2, 30, 26, 3, generator=generator)
        found = similarity_map(*images)
        assert found.shape == (2, 30, 26, 1)
        expected = structural_similarity(*images)
        torch.testing.assert_close(found[:, 5:-5, 5:-5].mean((1, 2, 3)), expected)

    def test_means_minima_and_radii_are_kept(self):
        statistics = backtracking.fresh_statistics(3, torch.device("cpu"))
        views = [
            (7, [2.0, 0.0, 1e-3], [1.0, 0.0, 1e-4], [10, 0, 3]),
            (9, [1.0, 0.0, 1e-3], [0.1, 0.0, 1e-5], [5, 4, 3]),
            (11, [4.0, 0.0, 0.0], [2.0, 0.0, 0.0], [20, 4, 3]),
        ]
        for frame, weights, l1, radii in views:
            errors = TracedErrors(torch.tensor(weights), torch.tensor(l1), torch.tensor(weights))
            backtracking.update_statistics(
                statistics, errors, torch.tensor(radii), torch.tensor(frame), 100
            )
        assert statistics["best_frames"].tolist() == [9.0, UNSEEN, UNSEEN]
        assert statistics["best_errors"][0].item() == pytest.approx(0.1)
        assert statistics["error_views"].tolist() == [3.0, 0.0, 2.0]
        assert statistics["l1_sums"][0].item() == pytest.approx(1.1)
        assert statistics["smallest_radii"].tolist() == pytest.approx([0.05, torch.inf, 0.03])

    def test_what_is_badly_drawn_or_hardly_shows_is_found(self):
        statistics = backtracking.fresh_statistics(5, torch.device("cpu"))
        statistics["error_views"][:] = 2.0
        statistics["l1_sums"] = torch.tensor([0.18, 0.1, 0.1, 0.1, 0.1])
        statistics["ssim_sums"] = torch.tensor([1.8, 1.1, 1.8, 0.0, 1.8])
        config = ErrorPruneConfig(max_share=1.0)
        bad = backtracking.has_large_errors(statistics, config)
        assert bad.tolist() == [True, True, False, False, False]
        worst = backtracking.has_large_errors(statistics, ErrorPruneConfig(max_share=0.2))
        assert worst.tolist() == [True, False, False, False, False]
        statistics["best_frames"] = torch.tensor([1.0, UNSEEN, 2.0, 0.0, 3.0])
        statistics["smallest_radii"] = torch.tensor([4.0, 9.0, 6.0, torch.inf, 5.1]) / 1014
        hardly = backtracking.hardly_shows(statistics, config)
        assert hardly.tolist() == [True, True, False, False, False]


class TestTraining:
    def step(self, expert, recipe, optimizers, step: int) -> float:
        """One step as the model takes it."""
        recipe.before_step(step)
        (index,) = recipe.sampler.next(step)
        part = drawn(expert, int(recipe.sampler.table.frame_ids[index]), int(index))
        losses = recipe.loss_terms(step, [part])
        for optimizer in optimizers.values():
            optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        for optimizer in optimizers.values():
            optimizer.step()
        recipe.after_backward(step, [part])
        recipe.after_step(step)
        return float(losses["photometric"].detach())

    def test_steps_through_all_stages_lower_the_loss(self):
        expert, recipe, optimizers = build(budget=0.01, static=60, rate=0.02)
        expert.gauss_params["displacements"].data.normal_(std=0.05)
        losses = []
        for step in range(120):
            losses.append(self.step(expert, recipe, optimizers, step))
            assert not expert.is_probed
        assert expert.duration == 30.0 and expert.num_dynamic > 0
        assert_consistent(expert, recipe, optimizers)
        assert sum(losses[-20:]) < sum(losses[:20])

    def test_a_resumed_recipe_goes_on_as_if_it_had_not_stopped(self, tmp_path):
        expert, recipe, optimizers = build(budget=0.01, static=60)
        for step in range(30):
            self.step(expert, recipe, optimizers, step)
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
            first = self.step(expert, recipe, optimizers, step)
            assert self.step(other, again, others, step) == pytest.approx(first, abs=1e-5)
        assert other.num_static == expert.num_static and other.num_dynamic == expert.num_dynamic

    def test_a_scene_ten_times_as_large_trains_the_same(self):
        """Positions, displacements and keys learn in scene extents, and so do the penalties."""
        results = []
        for size in (1.0, 10.0):
            described = scene(extent=2.0 * size)
            expert = Ex4DGSExpertConfig(near=0.0).setup(
                scene=described, points=cloud(40, size=size)
            )
            recipe = Ex4DGSRecipeConfig().setup(expert=expert, budget=1.0, seed=0)
            expert.gauss_params["displacements"].data[:] = 0.1 * size
            recipe.densifier.statistics["best_frames"][:] = 2.0
            assert set(recipe.extent_groups) == {"means", "displacements", "dynamic_means"}
            penalties = recipe.regularizers()
            scores = recipe._fastest(self.far_view(expert, size))
            results.append((penalties["displacement"].item(), scores))
        assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
        assert torch.equal(results[0][1], results[1][1])

    def far_view(self, expert, size: float) -> TrainingSplat:
        """A view whose camera has moved with the scene."""
        part = drawn(expert)
        assert torch.equal(part.view.viewmats[0, :3, 3], torch.zeros(3)), size
        return part

    def test_regularisers_start_after_the_first_growth(self):
        expert, recipe, _ = build(dynamic=DYNAMIC)
        recipe.before_step(0)
        part = drawn(expert)
        expert.is_probed = False
        assert set(recipe.loss_terms(499, [part])) == {"photometric"}
        recipe.before_step(500)
        late = recipe.loss_terms(500, [drawn(expert)])
        assert set(late) == {"photometric", "displacement", "key_spread"}

    def test_regularisers_are_finite_at_rest_and_for_one_kind_alone(self):
        expert, recipe, _ = build()
        expert.gauss_params["displacements"].data.zero_()
        losses = recipe.regularizers()
        assert set(losses) == {"displacement"}
        losses["displacement"].backward()
        assert expert.gauss_params["displacements"].grad.isfinite().all()
