"""The recipe of E-D3DGS: when things happen, what is rewritten, whole steps of training."""

from dataclasses import replace

import pytest
import torch
from ed3dgs_helpers import build
from tolerances import FORWARD
from training_helpers import drawn, train_step

from moegs_ns.cuda_graphs.graphed import WARMUP_CALLS
from moegs_ns.experts.ed3dgs import recipe as recipe_module
from moegs_ns.experts.ed3dgs.embedding_smoothness import embedding_penalty
from moegs_ns.experts.ed3dgs.error_sampling import ErrorSampler, ErrorSamplingConfig
from moegs_ns.experts.ed3dgs.recipe import ED3DGSRecipeConfig
from moegs_ns.training.densification import DensificationConfig
from moegs_ns.training.losses import photometric_errors, smoothness_penalty, structural_similarity


def eager(**options) -> DensificationConfig:
    """A round after every step that judges what it has seen once."""
    return DensificationConfig(
        refine_start_iter=0, refine_stop_iter=10**6, refine_every=1, min_observations=1, **options
    )


REGULAR = DensificationConfig(
    refine_start_iter=5000, refine_stop_iter=10**6, refine_every=10**4, max_gaussians=90
)
"""A round every ten steps at a thousandth of the recipe, and few Gaussians."""


def states(recipe, steps) -> list[tuple[float, float, int]]:
    found = []
    for step in steps:
        recipe.before_step(step)
        expert = recipe.expert
        found.append((expert.motion_weight, expert.appearance_weight, expert.fine_rows))
    return found


class TestSchedule:
    # 31 frames: 15 rows of the grid, 3 at first. Step s is the (s + 1)-th one.
    EXPECTED = (
        (0, (0.001, 0.0, 3)),
        (499, (0.5, 0.0, 3)),
        (999, (1.0, 0.0, 4)),
        (4999, (1.0, 0.0, 9)),
        (5499, (1.0, 0.5, 9)),
        (5999, (1.0, 1.0, 10)),
        (9989, (1.0, 1.0, 14)),
        (9999, (1.0, 1.0, 15)),
        (79999, (1.0, 1.0, 15)),
    )

    @pytest.mark.parametrize("budget", [1.0, 0.1])
    def test_deformation_and_rows_grow_as_published(self, budget):
        _, recipe, _ = build(budget=budget)
        steps = [round((step + 1) * budget) - 1 for step, _ in self.EXPECTED]
        for step, found, (_, expected) in zip(
            steps, states(recipe, steps), self.EXPECTED, strict=True
        ):
            if step >= 0:
                assert found == pytest.approx(expected, abs=2e-3), step

    def test_other_data_sets_begin_with_all_of_it(self):
        _, recipe, _ = build(
            motion_steps=0, appearance_start=0, appearance_steps=0, time_growth_steps=0
        )
        assert states(recipe, [0]) == [(1.0, 1.0, 15)]

    def test_a_sudden_start_of_appearance(self):
        _, recipe, _ = build(appearance_start=100, appearance_steps=0)
        assert [state[1] for state in states(recipe, [99, 100])] == [0.0, 1.0]

    @pytest.mark.parametrize("budget", [1.0, 0.1])
    def test_growth_and_pruning_go_on_until_the_end(self, budget):
        _, recipe, _ = build(budget=budget)
        seen: dict[str, list[int]] = {"grow": [], "prune": []}
        for name, steps in seen.items():
            setattr(recipe.densifier, name, lambda *_, s=steps: s.append(done) or 0)
        for done in range(1, round(80000 * budget) + 1):
            recipe.after_step(done - 1)
        every = round(100 * budget)
        expected = list(range(51 * every, 800 * every, every))
        assert seen == {"grow": expected, "prune": expected}

    def test_the_structural_term_comes_in_bursts(self):
        _, recipe, _ = build()
        lambdas = [recipe.ssim_lambda(step) for step in range(10100)]
        assert not any(lambdas[:9999])
        assert lambdas[9999:10004] == [1 / 3] * 5 and lambdas[10004] == 0.0
        assert sum(value > 0 for value in lambdas[9999:]) == 11
        _, recipe, _ = build(ssim_lambda_between=0.2)
        assert recipe.ssim_lambda(0) == 0.2

    def test_a_budget_scales_random_frames_but_not_bursts(self):
        _, recipe, _ = build(budget=0.01)
        assert isinstance(recipe.sampler, ErrorSampler)
        assert recipe.sampler.schedule is recipe.schedule
        assert (recipe.schedule.random_until, recipe.schedule.burst_every) == (100, 50)


class TestLosses:
    def terms(self, step: int, **options):
        _, recipe, _ = build(**options)
        recipe.before_step(step)
        part = drawn(recipe.expert)
        return recipe.loss_terms(step, [part]), part, recipe

    def test_l1_has_the_same_weight_in_and_between_bursts(self):
        between, part, _ = self.terms(100)
        l1 = (part.image - part.target).abs().mean()
        FORWARD.assert_close(between["photometric"], l1)
        burst, part, _ = self.terms(9999)
        l1 = photometric_errors(part.image, part.target, 0.0).loss
        ssim = structural_similarity(part.image, part.target).mean()
        FORWARD.assert_close(burst["photometric"], l1 + 0.5 * (1.0 - ssim))

    def test_opacities_are_averaged_after_the_sigmoid(self):
        losses, _, recipe = self.terms(0)
        opacities = recipe.expert.gauss_params["opacities"].sigmoid()
        FORWARD.assert_close(losses["opacity"], 1e-4 * opacities.mean())

    def test_terms_that_are_off_are_not_there(self):
        losses, _, _ = self.terms(0, weight_embedding=0.0, weight_opacity=0.0)
        assert set(losses) == {"photometric"}

    def test_smooth_time_is_the_second_difference_of_the_rows(self):
        losses, _, recipe = self.terms(0, weight_time_smoothness=1e-4)
        grid = recipe.expert.time_grid.values
        second = grid[2:] - 2.0 * grid[1:-1] + grid[:-2]
        FORWARD.assert_close(losses["time_smoothness"], 1e-4 * second.square().mean())
        torch.testing.assert_close(smoothness_penalty(grid), second.square().mean())


class TestNeighbours:
    def count_searches(self, monkeypatch) -> list[int]:
        searches: list[int] = []
        real = recipe_module.find_neighbours

        def noting(means, *options):
            searches.append(len(means))
            return real(means, *options)

        monkeypatch.setattr(recipe_module, "find_neighbours", noting)
        return searches

    def test_they_are_searched_when_the_set_changes_only(self, monkeypatch):
        searches = self.count_searches(monkeypatch)
        expert, recipe, optimizers = build(budget=0.001, densification=eager())
        recipe.config.densification.grow_grad2d = torch.inf
        for step in range(4):
            train_step(expert, recipe, optimizers, step)
        assert searches == [30]
        expert.gauss_params["opacities"].data[7] = -9.0
        for step in range(4, 7):
            train_step(expert, recipe, optimizers, step)
        assert searches == [30, 29]
        recipe.config.densification.grow_grad2d = 0.0
        for step in range(7, 9):
            train_step(expert, recipe, optimizers, step)
        assert searches[2] > 29

    def test_as_many_gaussians_as_before_may_be_others(self, monkeypatch):
        """The release looks at their number; one may have come for one that went."""
        searches = self.count_searches(monkeypatch)
        expert, recipe, optimizers = build(budget=0.001, densification=eager())
        recipe.config.densification.grow_grad2d = torch.inf
        train_step(expert, recipe, optimizers, 0)
        recipe.config.densification.grow_grad2d = 1.0
        expert.gauss_params["scales"].data[:] = -9.0
        recipe.densifier.statistics["gradients"][3] = 10.0
        recipe.densifier.statistics["counts"][3] = 1.0
        expert.gauss_params["opacities"].data[7] = -9.0
        recipe.after_step(1)
        assert expert.num_gaussians == 30
        recipe.current_neighbours()
        assert searches == [30, 30]

    @pytest.mark.parametrize("stored", ["now", "as lists", "not"])
    def test_they_come_back_with_a_run_or_are_found_anew(self, monkeypatch, stored):
        searches = self.count_searches(monkeypatch)
        _, recipe, _ = build(budget=0.001)
        before = recipe.current_neighbours()
        state = recipe.get_extra_state()
        if stored == "as lists":
            state["neighbours"] = {"rows": before.rows, "others": before.others, "total": 600}
        elif stored == "not":
            state["neighbours"] = None
        recipe.set_extra_state(state)
        after = recipe.current_neighbours()
        assert torch.equal(after.rows, before.rows) and torch.equal(after.others, before.others)
        assert len(searches) == (1 if stored == "now" else 2)


class TestRows:
    def test_parameters_moments_and_statistics_stay_together(self):
        expert, recipe, optimizers = build(budget=0.001, densification=eager())
        expert.gauss_params["embeddings"].data.normal_()
        for step in range(6):
            train_step(expert, recipe, optimizers, step)
        count = expert.num_gaussians
        assert count > 30
        for name, parameter in expert.gauss_params.items():
            assert optimizers[name].param_groups[0]["params"][0] is parameter
            assert parameter.shape[0] == count
            for key, value in optimizers[name].state[parameter].items():
                assert key == "step" or value.shape == parameter.shape, (name, key)
        assert all(len(value) == count for value in recipe.densifier.statistics.values())

    @pytest.mark.parametrize("log_scale", [-9.0, 0.0])
    def test_clones_and_children_inherit_the_embedding(self, log_scale):
        expert, recipe, _ = build(count=3)
        embeddings = torch.randn(3, 6)
        expert.gauss_params["embeddings"].data = embeddings.clone()
        expert.gauss_params["scales"].data[:] = log_scale
        recipe.densifier.statistics["gradients"][1] = 100.0
        recipe.densifier.statistics["counts"][1] = 20.0
        recipe.densifier.grow()
        assert expert.num_gaussians == 4
        found = expert.gauss_params["embeddings"].detach()
        expected = embeddings[[0, 1, 2, 1]] if log_scale < 0 else embeddings[[0, 2, 1, 1]]
        assert torch.equal(found, expected)

    def test_the_cap_is_kept(self):
        settings = eager(grow_grad2d=0.0, max_gaussians=40)
        expert, recipe, optimizers = build(budget=0.001, densification=settings)
        for step in range(8):
            train_step(expert, recipe, optimizers, step)
        assert expert.num_gaussians == 40


class TestTraining:
    def test_steps_through_all_stages_lower_the_loss(self):
        expert, recipe, optimizers = build(count=60, budget=0.001, rate=0.01, densification=REGULAR)
        losses = [train_step(expert, recipe, optimizers, step) for step in range(80)]
        assert expert.appearance_weight == 1.0 and expert.fine_rows == 15
        assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
        early, late = expert.at(torch.tensor(0.1)), expert.at(torch.tensor(0.9))
        assert not torch.equal(early.means, late.means)

    def test_a_resumed_recipe_goes_on_as_if_it_had_not_stopped(self, tmp_path):
        options = {"budget": 0.001, "densification": REGULAR}
        expert, recipe, optimizers = build(count=40, **options)
        for step in range(25):
            train_step(expert, recipe, optimizers, step)
        saved = (
            expert.state_dict(), recipe.get_extra_state(),
            {name: optimizer.state_dict() for name, optimizer in optimizers.items()},
        )  # fmt: skip
        torch.save(saved, tmp_path / "state")
        other, again, others = build(count=3, **options)
        state, extra, moments = torch.load(tmp_path / "state", weights_only=True)
        other.load_state_dict(state)
        again.set_extra_state(extra)
        for name, optimizer in others.items():
            optimizer.load_state_dict(moments[name])
        for step in range(25, 42):
            first = train_step(expert, recipe, optimizers, step)
            assert train_step(other, again, others, step) == pytest.approx(first, rel=1e-5)
        assert other.num_gaussians == expert.num_gaussians

    def test_a_scene_ten_times_as_large_trains_the_same(self):
        """But for rounding: a scene 1e-7 larger already differs by 1 % after 25 steps."""
        results = []
        for size in (1.0, 10.0):
            expert, recipe, optimizers = build(
                count=60, rate=2e-3, size=size, budget=0.001, densification=REGULAR
            )
            raw = expert.gauss_params
            # Near neighbours that differ.
            raw["means"].data[30:] = raw["means"].data[:30] + 0.004 * size
            raw["embeddings"].data.normal_(std=0.1)
            losses = [train_step(expert, recipe, optimizers, step) for step in range(25)]
            terms = recipe.loss_terms(0, [drawn(expert)])
            results.append((losses, float(terms["embedding"].detach()), expert.num_gaussians))
        assert results[0][0][:5] == pytest.approx(results[1][0][:5], rel=1e-5)
        assert results[0][0] == pytest.approx(results[1][0], rel=2e-2)
        assert results[0][0][-1] < 0.9 * results[0][0][0]
        assert results[0][1] == pytest.approx(results[1][1], rel=0.02)
        assert results[0][1] > 1e-4 and results[0][2] == results[1][2]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_graphed_terms_are_those_of_the_set_as_it_is(device):
    """While Gaussians move, after the set has changed, and with the pairs of a checkpoint."""
    expert, recipe, _ = build(budget=0.001)
    expert.to(device)
    rows = expert.gauss_params
    rows["embeddings"].data.normal_()
    was_recorded = []
    for step in range(4 * WARMUP_CALLS):
        if step == 2 * WARMUP_CALLS:
            rows.select_(torch.arange(25, device=device))
            recipe._forget_neighbours()
        if step == 3 * WARMUP_CALLS + 2:
            was_recorded.append(recipe._graphed_terms.graph is not None)
            state = recipe.get_extra_state()
            state["neighbours"] |= {"roots": 2.0 * state["neighbours"]["roots"]}
            recipe.set_extra_state(state)
        found = with_gradients(recipe.regularizers(), rows)
        expected = with_gradients(plain_terms(recipe), rows)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value)
        rows["embeddings"].data.add_(0.1 * torch.randn_like(rows["embeddings"]))
    was_recorded.append(recipe._graphed_terms.graph is not None)
    assert was_recorded == [device == "cuda", False]


def with_gradients(terms, rows) -> dict[str, torch.Tensor]:
    """Values of the terms, and gradients of their sum."""
    for parameter in rows.values():
        parameter.grad = None
    sum(terms.values(), torch.zeros(())).backward()
    values = {name: term.detach().clone() for name, term in terms.items()}
    return values | {n: rows[n].grad.clone() for n in ("embeddings", "opacities")}


def plain_terms(recipe) -> dict[str, torch.Tensor]:
    """What a step is to pay for the set of Gaussians."""
    rows = recipe.expert.gauss_params
    return {
        "opacity": 1e-4 * rows["opacities"].sigmoid().mean(),
        "embedding": embedding_penalty(rows["embeddings"], recipe.current_neighbours()),
    }


@pytest.mark.gpu
def test_no_step_waits_for_the_gpu():
    """Neither the deformation nor the losses, but for SSIM and searches for neighbours."""
    expert, recipe, _ = build()
    recipe.before_step(6000)
    cpu = drawn(expert)
    expert.cuda()
    recipe.current_neighbours()
    part = replace(cpu, image=cpu.image.detach().cuda(), target=cpu.target.cuda())
    time, camera = torch.tensor(0.3).cuda(), torch.tensor(1)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        gaussians = expert.at(time, camera)
        losses = recipe.loss_terms(6000, [part])
        (gaussians.means.sum() + losses["embedding"]).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    recipe.sampler.next(6001)
    recipe.sampler.next(6002)
    error = (cpu.image - cpu.target).abs().mean()
    torch.testing.assert_close(recipe.sampler._errors[0], error.detach())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ssim_lambda": 1.0}, r"at least 0 and below 1.*got 1\.0 and 0\.0"),
        ({"sampling": ErrorSamplingConfig(burst_steps=51)}, "between 0 and.*got 51 and 50"),
        ({"sampling": ErrorSamplingConfig(burst_every=0, burst_steps=0)}, "got 0 and 0"),
    ],
)
def test_options_that_no_step_could_follow_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_the_defaults_are_the_published_numbers():
    config = ED3DGSRecipeConfig()
    grow = config.densification
    assert (grow.refine_start_iter, grow.refine_every, grow.grow_grad2d, grow.prune_opa) == (
        5000, 100, 3e-4, 0.005,
    )  # fmt: skip
    assert (config.weight_embedding, config.num_neighbours, config.weight_opacity) == (1, 20, 1e-4)
