"""How a tracked expert is trained: growth of both kinds, neighbours, terms of rigid motion."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from toys import make_view
from tracked_helpers import DYNAMIC, STATIC, around, build, middle, seeded
from training_helpers import cloud, drawn, scene, train_step

from moegs_ns.experts.tracked.recipe import TrackedRecipeConfig
from moegs_ns.experts.tracked.rigidity import motion_errors
from moegs_ns.mixture.joint.parent_tracking import track_parents
from moegs_ns.scene import InitialPoints
from moegs_ns.splatting import render
from moegs_ns.training.densification import DensificationConfig

TERMS = {"rigidity", "rotation", "isometry"}


def assert_consistent(expert, recipe, optimizers) -> None:
    """Parameters, optimisers, moments and statistics agree on identity and number of rows."""
    kinds = (("", expert.gauss_params), ("dynamic_", expert.key_gauss_params))
    for (prefix, rows), densifier in zip(kinds, recipe.densifiers, strict=True):
        for name, parameter in rows.items():
            optimizer = optimizers[prefix + name]
            assert optimizer.param_groups[0]["params"] == [parameter], prefix + name
            (state,) = optimizer.state.values()
            assert state["exp_avg"].shape == parameter.shape, prefix + name
            assert parameter.shape[0] == rows.num_rows
        assert all(len(value) == rows.num_rows for value in densifier.statistics.values())


def refine(recipe, static: tuple[int, ...], dynamic: tuple[int, ...]) -> None:
    """A round of densification that refines these rows of either kind."""
    for densifier, rows in zip(recipe.densifiers, (static, dynamic), strict=True):
        densifier.statistics["counts"][:] = 100.0
        densifier.statistics["gradients"][list(rows)] = 1.0
    recipe.after_step(599)


class TestGrowth:
    def test_rounds_come_every_hundred_steps_between_500_and_15000(self):
        _, recipe, _ = build()
        seen: list[int] = []
        recipe.grow_and_prune = lambda on_new=None: seen.append(step + 1)
        for step in range(30000):
            recipe.after_step(step)
        assert seen == list(range(600, 15001, 100))
        assert not recipe.resets_opacities

    @pytest.mark.parametrize("size", [0.001, 0.3])
    def test_tracks_follow_clones_and_children(self, size: float):
        """Small ones are cloned, large ones split, at all keys."""
        expert, recipe, optimizers = build()
        expert.key_gauss_params["scales"].data.fill_(math.log(size))
        before = expert.key_gauss_params["means"].detach().clone()
        refine(recipe, (2,), (3, 5))
        assert (expert.num_static, expert.num_dynamic) == (STATIC + 1, DYNAMIC + 2)
        assert_consistent(expert, recipe, optimizers)
        after = expert.key_gauss_params["means"].detach()
        added = after[DYNAMIC:] if size < 0.1 else after[DYNAMIC - 2 :]
        parents = before[[3, 5]] if size < 0.1 else before[[3, 5, 3, 5]]
        offsets = added - parents
        assert (offsets.norm(dim=-1) < 4.5 * size).all()
        # Nobody turns, so the offset of a child is the same at all keys.
        torch.testing.assert_close(offsets, offsets[:, :1].expand_as(offsets), atol=1e-4, rtol=0)

    def test_both_kinds_are_under_one_cap(self):
        densification = DensificationConfig(max_gaussians=STATIC + DYNAMIC + 1)
        expert, recipe, _ = build(densification=densification)
        refine(recipe, (0, 1), (0, 1))
        assert expert.num_gaussians == STATIC + DYNAMIC + 1

    def test_the_transparent_of_both_kinds_go(self):
        expert, recipe, optimizers = build()
        expert.gauss_params["opacities"].data[:4] = -9.0
        expert.key_gauss_params["opacities"].data[:3] = -9.0
        recipe.after_step(599)
        assert (expert.num_static, expert.num_dynamic) == (STATIC - 4, DYNAMIC - 3)
        assert_consistent(expert, recipe, optimizers)

    def test_an_expert_never_loses_all_its_gaussians(self):
        for points, left in ((cloud(6), 6), (seeded(), STATIC)):
            expert, recipe, _ = build(points)
            expert.key_gauss_params["opacities"].data.fill_(-9.0)
            recipe.after_step(599)
            assert expert.num_gaussians == left

    def test_router_weights_follow_clones(self):
        expert, recipe, _ = build()
        expert.key_gauss_params["scales"].data.fill_(-7.0)
        changes: list[torch.Tensor] = []
        with track_parents(recipe, changes.append):
            refine(recipe, (), (4,))
        (parents,) = changes
        expected = [*range(1, STATIC + DYNAMIC + 1), STATIC + 5]
        assert parents.tolist() == expected and expert.num_gaussians == len(expected)


class TestNeighbours:
    def test_they_stay_while_the_set_does_and_follow_a_densification(self):
        expert, recipe, _ = build()
        first = recipe.current_neighbours()
        assert first.others.shape == (DYNAMIC, DYNAMIC - 1)
        expert.key_gauss_params["means"].data.normal_()
        recipe.after_step(599)
        assert recipe.current_neighbours() is first
        refine(recipe, (), (3,))
        second = recipe.current_neighbours()
        assert second is not first and len(second.others) == expert.num_dynamic > DYNAMIC

    def test_growth_of_static_gaussians_alone_changes_none(self):
        expert, recipe, _ = build()
        first = recipe.current_neighbours()
        refine(recipe, (3,), ())
        assert expert.num_static > STATIC and recipe.current_neighbours() is first

    def test_they_come_back_with_the_state(self, tmp_path):
        expert, recipe, _ = build()
        first = recipe.current_neighbours()
        torch.rand(3, generator=recipe.generator)
        torch.save(recipe.get_extra_state(), tmp_path / "state")
        other_expert, other, _ = build()
        other_expert.key_gauss_params["means"].data.normal_()
        other.set_extra_state(torch.load(tmp_path / "state", weights_only=True))
        for name, value in vars(first).items():
            assert torch.equal(getattr(other.current_neighbours(), name), value), name
        other_expert.load_state_dict(expert.state_dict())
        time = torch.tensor(0.3)
        expected, found = recipe.motion_terms(time), other.motion_terms(time)
        assert {name: float(value) for name, value in found.items()} == {
            name: float(value) for name, value in expected.items()
        }


class TestTerms:
    def test_they_are_those_of_the_next_frame_and_another_time(self):
        expert, recipe, _ = build(weight_rigidity=2.0, weight_rotation=3.0, weight_isometry=5.0)
        for name in ("means", "quats"):
            keys = expert.key_gauss_params[name]
            keys.data += 0.1 * torch.randn(keys.shape, generator=torch.Generator().manual_seed(2))
        for frame, near in ((10, 11), (30, 29)):
            random = torch.Generator().manual_seed(0)
            random.set_state(recipe.generator.get_state())
            losses = recipe.loss_terms(0, [drawn(expert, frame=frame)])
            frames = (frame, near, 30.0 * float(torch.rand((), generator=random)))
            now, soon, other = (expert.dynamic_poses(torch.tensor(float(f))) for f in frames)
            errors = motion_errors(now, soon, other, recipe.current_neighbours())
            for name, weight in (("rigidity", 2.0), ("rotation", 3.0), ("isometry", 5.0)):
                expected = weight * getattr(errors, name)
                torch.testing.assert_close(losses[name], expected, rtol=1e-3, atol=1e-6)

    def test_a_straight_flight_costs_nothing(self):
        expert, recipe, _ = build()
        expert.load_state_dict(expert.config.setup(scene=scene(), points=seeded()).state_dict())
        losses = recipe.motion_terms(torch.tensor(0.5))
        assert set(losses) == TERMS
        assert all(float(value) == pytest.approx(0.0, abs=1e-4) for value in losses.values())

    def test_they_pull_at_keys_and_not_at_clocks(self):
        expert, recipe, _ = build()
        expert.key_gauss_params["means"].data.normal_()
        part = drawn(expert)
        times = part.view.times.clone().requires_grad_()
        part = replace(part, view=replace(part.view, times=times))
        losses = recipe.loss_terms(0, [part])
        torch.stack([losses[name] for name in TERMS]).sum().backward()
        gradient = expert.key_gauss_params["means"].grad
        assert gradient is not None and float(gradient.abs().sum()) > 0 and times.grad is None

    def test_terms_of_weight_0_are_not_computed(self):
        expert, recipe, _ = build(weight_rotation=0.0)
        assert set(recipe.loss_terms(0, [drawn(expert)])) & TERMS == {"rigidity", "isometry"}
        off: dict[str, Any] = {f"weight_{name}": 0.0 for name in TERMS}
        expert, recipe, _ = build(**off)
        assert not set(recipe.loss_terms(0, [drawn(expert)])) & TERMS
        assert recipe.neighbours is None

    @pytest.mark.parametrize("alone", ["one frame", "one Gaussian"])
    def test_nothing_is_compared_where_nothing_can_move_apart(self, alone: str):
        points = cloud(1) if alone == "one Gaussian" else cloud(8)
        described = scene(1 if alone == "one frame" else 31)
        expert, recipe, optimizers = build(points, described=described)
        assert recipe.motion_terms(torch.tensor(0.0)) == {}
        assert math.isfinite(train_step(expert, recipe, optimizers, 0))

    @pytest.mark.parametrize("option", ["num_neighbours", "weight_rigidity", "weight_isometry"])
    def test_impossible_options_are_refused(self, option: str):
        options: dict[str, Any] = {option: -1}
        with pytest.raises(ValueError, match="num-neighbours of at least 1, and a weight-rigid"):
            TrackedRecipeConfig(**options).setup(expert=build()[0], budget=1.0, seed=0)


def test_training_keeps_everything_consistent_and_lowers_the_error():
    expert, recipe, optimizers = build(budget=0.004, rate=2e-2)
    losses = [train_step(expert, recipe, optimizers, step) for step in range(60)]
    assert_consistent(expert, recipe, optimizers)
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    assert expert.num_gaussians != STATIC + DYNAMIC


def test_a_ball_that_slows_down_is_followed():
    """From its velocity in the first frame, which is twice as high as in the others."""
    points = seeded((0,), static=0)
    expert, recipe, optimizers = build(points, key_interval=5)
    raw = expert.key_gauss_params
    raw["scales"].data.fill_(math.log(0.08))
    raw["opacities"].data.fill_(3.0)
    truth = {f: middle(f / 2) + around() for f in range(0, 31, 5)}
    view = make_view(2)
    shown = expert.at(torch.tensor(0.0))
    targets = {
        frame: render(replace(shown, means=xyz), view).rgb.detach() for frame, xyz in truth.items()
    }
    trained = [optimizers["dynamic_means"]]
    trained[0].param_groups[0]["lr"] = 2e-2
    for step in range(210):
        frame = (5 * step) % 35
        time = torch.tensor(frame / 30.0)
        image = render(expert.at(time), view).rgb
        terms = recipe.motion_terms(time)
        loss = (image - targets[frame]).abs().mean() + 0.1 * torch.stack([*terms.values()]).sum()
        trained[0].zero_grad()
        loss.backward()
        trained[0].step()
    for frame in (0, 10, 20):
        at = expert.dynamic_poses(torch.tensor(float(frame))).means.detach().mean(0)
        torch.testing.assert_close(at, middle(frame / 2), atol=0.08, rtol=0.0)


def test_points_of_no_kind_make_an_empty_expert():
    expert, recipe, _ = build(InitialPoints(torch.zeros(0, 3), torch.zeros(0, 3)))
    assert expert.num_gaussians == 0 and recipe.motion_terms(torch.tensor(0.2)) == {}
