"""How FreeTimeGS is trained: relocation at a fixed number, the 4-D regularisation, true motion."""

import math

import pytest
import torch
from toys import make_view
from training_helpers import cloud, drawn, scene, table, train_step

from moegs_ns.experts.freetime.expert import FreeTimeExpert, FreeTimeExpertConfig
from moegs_ns.experts.freetime.lives import LifeName
from moegs_ns.experts.freetime.recipe import (
    FreeTimeRecipe,
    FreeTimeRecipeConfig,
    RelocationConfig,
)
from moegs_ns.mixture.joint.parent_tracking import track_parents
from moegs_ns.scene import InitialPoints
from moegs_ns.splatting import render

FPS, FRAMES = 30.0, 31


def build(
    count: int = 24,
    budget: float = 1.0,
    life: LifeName = "bell",
    points: InitialPoints | None = None,
    rate: float = 1e-3,
    **options,
):
    """An expert with one life per point, its recipe and optimisers."""
    torch.manual_seed(0)
    config = FreeTimeExpertConfig(life=life, lives_per_point=1, sh_degree=0, near=0.0)
    expert: FreeTimeExpert = config.setup(scene=scene(FRAMES), points=points or cloud(count))
    recipe: FreeTimeRecipe = FreeTimeRecipeConfig(**options).setup(
        expert=expert, budget=budget, seed=0
    )
    groups = recipe.parameter_groups()
    optimizers: dict[str, torch.optim.Optimizer] = {
        name: torch.optim.Adam(group, lr=rate, eps=1e-15) for name, group in groups.items()
    }
    recipe.attach(optimizers)
    recipe.make_sampler(table(FRAMES))
    return expert, recipe, optimizers


def relocations(recipe: FreeTimeRecipe, steps: int) -> list[int]:
    """After which finished steps Gaussians are moved."""
    seen: list[int] = []
    recipe.relocate_dead = lambda: seen.append(step + 1) or 0
    for step in range(steps):
        recipe.after_step(step)
    return seen


class TestSchedule:
    def test_gaussians_are_moved_every_hundred_steps_between_500_and_25000(self):
        _, recipe, _ = build()
        assert relocations(recipe, 30000) == list(range(600, 25000, 100))

    def test_a_budget_scales_it(self):
        _, recipe, _ = build(budget=0.1)
        assert relocations(recipe, 3000) == list(range(60, 2500, 10))

    def test_opacities_are_never_reset(self):
        _, recipe, _ = build()
        assert not recipe.resets_opacities

    def test_the_regularisation_is_there_from_the_first_to_the_last_step(self):
        expert, recipe, _ = build()
        for step in (0, 29999):
            assert recipe.loss_terms(step, [drawn(expert)])["visible_opacity"] > 0


class TestTerms:
    def test_what_is_visible_is_weighed_and_its_visibility_does_not_learn(self):
        expert, recipe, _ = build()
        part = drawn(expert, frame=12)
        term = recipe.loss_terms(0, [part])["visible_opacity"]
        rows = expert.gauss_params
        opacities, visibility = rows["opacities"].sigmoid(), expert.visibility(torch.tensor(0.4))
        torch.testing.assert_close(term, 0.01 * (opacities * visibility).mean())
        term.backward()
        slope = 0.01 / 24 * visibility * opacities * (1 - opacities)
        assert rows["opacities"].grad is not None
        torch.testing.assert_close(rows["opacities"].grad, slope.detach())
        assert rows["durations"].grad is None and rows["time_centers"].grad is None

    def test_sizes_count_in_extents_if_asked_for(self):
        expert, recipe, _ = build()
        assert "scale" not in recipe.loss_terms(0, [drawn(expert)])
        expert, recipe, _ = build(weight_scale=0.01)
        size = expert.gauss_params["scales"].exp().mean() / 2.0
        torch.testing.assert_close(recipe.loss_terms(0, [drawn(expert)])["scale"], 0.01 * size)

    @pytest.mark.parametrize(("life", "has_gates"), [("bell", False), ("gated", True)])
    def test_shut_gates_cost_where_there_are_any(self, life: LifeName, has_gates: bool):
        expert, recipe, _ = build(life=life)
        losses = recipe.loss_terms(0, [drawn(expert)])
        assert ("gate" in losses) == has_gates
        if has_gates:
            gates = torch.sigmoid(20 * expert.gauss_params["gate_logits"])
            torch.testing.assert_close(losses["gate"], 1e-3 * (1 - gates).mean())


class TestRelocation:
    def dying(self, dead: int, life: LifeName = "bell"):
        expert, recipe, optimizers = build(life=life)
        expert.gauss_params["opacities"].data[:dead] = math.log(0.004 / 0.996)
        return expert, recipe, optimizers

    @pytest.mark.parametrize("life", ["bell", "gated", "flat-top"])
    def test_the_dead_live_where_others_do_and_the_number_stays(self, life: LifeName):
        expert, recipe, optimizers = self.dying(6, life)
        living = expert.gauss_params["means"].detach()[6:].clone()
        assert recipe.relocate_dead() == 6
        assert expert.num_gaussians == 24
        rows = expert.gauss_params
        distances = torch.cdist(rows["means"].detach()[:6], living)
        assert (distances.amin(1) == 0).all()
        assert (expert.highest_opacities() > 0.005).all()
        for name, parameter in rows.items():
            assert optimizers[name].param_groups[0]["params"] == [parameter]
        assert recipe.relocate_dead() == 0

    def test_the_clip_looks_as_before(self):
        """Also away from the own times of what is shared."""
        expert, recipe, _ = self.dying(6)
        expert.gauss_params["opacities"].data[6:] = 2.5
        expert.gauss_params["durations"].data.fill_(math.log(0.2))

        def clip() -> torch.Tensor:
            times = torch.linspace(0, 1, 7)
            return torch.stack([render(expert.at(t), make_view(2)).rgb for t in times]).detach()

        before = clip()
        recipe.relocate_dead()
        assert (clip() - before).abs().mean() < 0.08 * before.mean()

    def test_what_no_frame_shows_is_dead_however_opaque(self):
        """A life between two frames, or outside of the clip, would be kept for nothing."""
        expert, recipe, _ = build()
        rows = expert.gauss_params
        rows["time_centers"].data[:2] = torch.tensor([10.5 / FPS, 9.0])
        rows["durations"].data[:2] = math.log(0.002)
        assert recipe.relocate_dead() == 2

    def test_nothing_happens_if_all_or_none_are_dead(self):
        for dead in (0, 24):
            expert, recipe, _ = self.dying(dead)
            before = {name: value.clone() for name, value in expert.gauss_params.items()}
            recipe.relocate_dead()
            for name, value in expert.gauss_params.items():
                assert torch.equal(value, before[name]), name

    def test_they_go_where_gradients_are_large(self):
        expert, recipe, _ = self.dying(12)
        recipe.densifier.statistics["gradients"][20] = 1e6
        recipe.densifier.statistics["counts"][:] = 1.0
        recipe.relocate_dead()
        place = expert.gauss_params["means"][20]
        count = int((expert.gauss_params["means"][:12] == place).all(1).sum())
        assert count >= 4
        assert (recipe.densifier.statistics["gradients"] == 0).all()

    def test_the_number_stays_through_a_training(self):
        expert, recipe, optimizers = build(budget=0.004)
        moved = []
        relocate_dead = recipe.relocate_dead
        recipe.relocate_dead = lambda: moved.append(relocate_dead()) or 0
        for step in range(40):
            if step == 20:
                expert.gauss_params["opacities"].data[:5] = -9.0
            train_step(expert, recipe, optimizers, step)
            assert expert.num_gaussians == 24
        assert sum(moved) >= 5

    def test_there_are_no_more_gaussians_than_asked_for(self):
        expert, recipe, _ = build(densification=RelocationConfig(max_gaussians=10))
        assert expert.num_gaussians == 10
        assert len(recipe.densifier.statistics["counts"]) == 10
        assert all(len(value) == 10 for value in expert.gauss_params.values())


def test_weights_of_a_router_follow_what_is_moved():
    """In joint training, which notices changes of the set by new parameters."""
    expert, recipe, _ = TestRelocation().dying(6)
    changes: list[torch.Tensor] = []
    with track_parents(recipe, changes.append):
        recipe.relocate_dead()
    (parents,) = changes
    assert parents[6:].tolist() == list(range(7, 25))
    means = expert.gauss_params["means"]
    assert torch.equal(means[:6], means[parents[:6] - 1]) and int(parents[:6].min()) > 6


def ball(frame: int, speed: float, view) -> torch.Tensor:
    """A red ball on its way through the images, `speed` in world units per second."""
    x = -0.5 + speed * frame / FPS
    red = FreeTimeExpertConfig(lives_per_point=1, sh_degree=0, near=0.0).setup(
        scene=scene(FRAMES),
        points=InitialPoints(torch.tensor([[x, 0.1, 4.0]]), torch.tensor([[0.9, 0.1, 0.1]])),
    )
    red.gauss_params["scales"].data.fill_(math.log(0.25))
    red.gauss_params["opacities"].data.fill_(4.0)
    red.gauss_params["durations"].data.fill_(9.0)
    return render(red.at(torch.tensor(0.0)), view).rgb.detach()


def test_a_moving_ball_is_learned_with_its_true_velocity():
    """From its place in the middle frame, at rest, with images of a quarter of a second."""
    speed, frames = 1.2, range(11, 20)
    middle = torch.tensor([[-0.5 + speed * 15 / FPS, 0.1, 4.0]])
    points = InitialPoints(middle, torch.tensor([[0.9, 0.1, 0.1]]))
    expert, _, optimizers = build(points=points)
    rows = expert.gauss_params
    rows["time_centers"].data.fill_(15 / FPS)
    rows["durations"].data.fill_(math.log(0.5))
    rows["scales"].data.fill_(math.log(0.25))
    rows["opacities"].data.fill_(4.0)
    trained = {"velocities": 3e-2, "means": 2e-3, "opacities": 1e-2, "durations": 1e-2}
    for name, rate in trained.items():
        optimizers[name].param_groups[0]["lr"] = rate
    view = make_view(2)
    targets = {frame: ball(frame, speed, view) for frame in frames}
    for step in range(150):
        frame = frames[step * 4 % len(frames)]
        image = render(expert.at(torch.tensor(frame / (FRAMES - 1))), view).rgb
        loss = (image - targets[frame]).square().mean()
        for name in trained:
            optimizers[name].zero_grad()
        loss.backward()
        for name in trained:
            optimizers[name].step()
    velocity = rows["velocities"].detach()[0]
    torch.testing.assert_close(velocity, torch.tensor([speed, 0.0, 0.0]), atol=0.12, rtol=0.0)


def test_a_resumed_recipe_moves_the_same_gaussians(tmp_path):
    def moved(recipe: FreeTimeRecipe) -> torch.Tensor:
        recipe.expert.gauss_params["opacities"].data[:8] = -9.0
        recipe.relocate_dead()
        return recipe.expert.gauss_params["means"].detach()

    _, recipe, _ = build()
    torch.rand(3, generator=recipe.generator)
    torch.save(recipe.get_extra_state(), tmp_path / "state")
    expected = moved(recipe)
    _, other, _ = build()
    other.set_extra_state(torch.load(tmp_path / "state", weights_only=True))
    assert torch.equal(moved(other), expected)
    _, third, _ = build()
    assert not torch.equal(moved(third), expected)
