"""Options, states and small parts of pruning, distillation, stacking and the router's recipe, on
values that are worked out by hand: what a mutation of a line must not pass (`make mutation`)."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from mixture_helpers import SCENE, mixture, views
from toys import make_gaussians, make_view
from training_helpers import table

from moegs_ns.mixture.distill import Distillation, DistillationConfig, TeacherTargets
from moegs_ns.mixture.fuse import fused_parts
from moegs_ns.mixture.importance import CRITERIA, NO_PIXEL_GATES, NO_WEIGHTS, Criterion
from moegs_ns.mixture.pruning_schedule import (
    PruneConfig,
    check_request,
    check_rounds,
)
from moegs_ns.mixture.recipe import RouterRecipeConfig
from moegs_ns.mixture.stacking import SampledPixels
from moegs_ns.mixture.volume_mixture import cull_near, mixture_of
from moegs_ns.routers import (
    PixelRouterConfig,
    VolumeAwarePixelRouterConfig,
    VolumeRouterConfig,
)
from moegs_ns.training.losses import mean_absolute_error, smoothness_penalty

RUN = Path("run/config.yml")


class TestPruning:
    def test_a_trained_mixture_is_opened_where_something_is_pruned(self):
        check_request(PruneConfig(ratio=0.5), RUN, has_experts=False)
        check_request(PruneConfig(threshold=0.0), RUN, has_experts=False)
        check_request(PruneConfig(), None, has_experts=True)

    @pytest.mark.parametrize(
        ("config", "run", "has_experts", "sentence"),
        [
            (
                PruneConfig(ratio=0.5), RUN, True,
                "Expected experts to mix (--experts) or a trained mixture to prune (--router), "
                "got both; name one of them.",
            ),
            (
                PruneConfig(ratio=0.5), None, True,
                "Pruning expects a trained mixture, got none; add --router RUN/config.yml, the "
                "run of a mixture of these experts, instead of --experts.",
            ),
            (
                PruneConfig(), RUN, False,
                "With --router a trained mixture is pruned, which expects --prune-ratio (a "
                "fraction of the Gaussians, such as 0.55) or --prune-threshold, got neither.",
            ),
            (
                PruneConfig(ratio=0.5, threshold=1.0), RUN, False,
                "Pruning expects --prune-ratio or --prune-threshold, got both; name one of them.",
            ),
            (
                PruneConfig(ratio=1.0), RUN, False,
                "--prune-ratio expects the fraction of Gaussians to remove, from 0 to below 1, got "
                "1; 0.55 removes 55 %.",
            ),
            (
                PruneConfig(threshold=-0.5), RUN, False,
                "--prune-threshold expects an importance of at least 0, got -0.5.",
            ),
            (
                PruneConfig(ratio=0.5, rounds=0), RUN, False,
                "Pruning expects at least 1 round (--prune-rounds) and at least 1 step between "
                "rounds (--pipeline.model.prune.every), got 0 and 1000.",
            ),
            (
                PruneConfig(ratio=0.5, every=0), RUN, False,
                "Pruning expects at least 1 round (--prune-rounds) and at least 1 step between "
                "rounds (--pipeline.model.prune.every), got 1 and 0.",
            ),
            (
                PruneConfig(ratio=0.5, max_views=0), RUN, False,
                "--pipeline.model.prune.max-views expects a number of training images of at least "
                "1, got 0.",
            ),
        ],
    )  # fmt: skip
    def test_other_requests_end_in_a_sentence(self, config, run, has_experts, sentence: str):
        with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
            check_request(config, run, has_experts=has_experts)

    def test_the_smallest_values_are_taken(self):
        for config in (PruneConfig(ratio=0.0), PruneConfig(threshold=0.0)):
            config.check()
        PruneConfig(ratio=0.999, rounds=1, every=1, max_views=1).check()

    def test_the_last_round_takes_place_within_the_training(self):
        config = PruneConfig(ratio=0.5, rounds=4, every=1000)
        check_rounds(config, 3001, 1.0)
        check_rounds(config, 301, 0.1)
        check_rounds(PruneConfig(rounds=4), 1, 1.0)
        for steps, budget, last in ((3000, 1.0, "3,000"), (300, 0.1, "300")):
            sentence = (
                f"Pruning in 4 rounds, the last before step {last}, expects a training that gets "
                f"there, but this one has {steps:,} steps; lower --prune-rounds or "
                "--pipeline.model.prune.every, or raise --max-num-iterations."
            )
            with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
                check_rounds(config, steps, budget)

    def test_a_table_says_what_was_removed(self):
        assert PruneConfig().summary() == [] and not PruneConfig().is_asked
        assert PruneConfig(ratio=0.55).summary() == ["pruned 55% by gated-contribution"]
        assert PruneConfig(threshold=0.25, criterion="opacity").summary() == [
            "pruned below 0.25 by opacity"
        ]
        assert PruneConfig(threshold=0.0).is_asked and PruneConfig(ratio=0.0).is_asked

    def test_criteria_need_what_a_router_may_lack(self):
        gates, weights = (
            Criterion(lambda *_: None, needs_gates=True),  # pyright: ignore[reportArgumentType]
            Criterion(lambda *_: None, needs_gates=False, needs_weights=True),  # pyright: ignore[reportArgumentType]
        )
        with pytest.raises(ValueError, match=re.escape(NO_PIXEL_GATES)):
            gates.check(VolumeRouterConfig())
        with pytest.raises(ValueError, match=re.escape(NO_WEIGHTS)):
            weights.check(PixelRouterConfig())
        gates.check(PixelRouterConfig())
        weights.check(VolumeRouterConfig())
        for criterion in CRITERIA.values():
            criterion.check(VolumeAwarePixelRouterConfig())


class TestDistillation:
    @pytest.mark.parametrize(("name", "value"), [("lam", -0.1), ("lam", 1.1), ("final_lam", 2.0)])
    def test_fractions_that_are_none_are_refused(self, name: str, value: float):
        option, changed = name.replace("_", "-"), dict[str, Any]({name: value})
        sentence = (
            f"Expected a fraction of the ground truth between 0 and 1, got {value:g}; change "
            f"--pipeline.model.distillation.{option}."
        )
        with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
            DistillationConfig(**changed).check()

    def test_all_fractions_are_taken(self):
        for value in (0.0, 0.5, 1.0):
            DistillationConfig(lam=value, final_lam=value).check()
        DistillationConfig().check()

    def test_a_table_says_how_a_student_was_taught(self):
        assert DistillationConfig().summary() == []
        config = DistillationConfig(teacher=RUN, lam=0.25)
        assert config.summary() == ["gate-weighted teacher, lambda 0.25"]
        config = DistillationConfig(teacher=RUN, final_lam=1.0, normalize=True)
        config.weighting = "unweighted"
        assert config.summary() == ["unweighted, normalized teacher, lambda 0.5 to 1"]

    def taught(self) -> Distillation:
        return Distillation(DistillationConfig(), lambda _: TeacherTargets(torch.zeros(())), 1.0)

    def test_what_was_seen_goes_on_after_a_resume(self):
        before, after = self.taught(), self.taught()
        before._images, before._sums = 4, torch.tensor([0.04, 1.0])
        after.load_state(before.state())
        assert after._images == 4 and after._sums.tolist() == pytest.approx([0.04, 1.0])
        report = after.report()["distillation"]
        assert report["images"] == 4 and report["teacher_psnr"] == pytest.approx(20.0, abs=1e-4)
        assert report == {
            "teacher": "None", "gate": None, "weighting": "gate-weighted", "images": 4,
            "teacher_psnr": pytest.approx(20.0, abs=1e-4), "mean_gate": None,
        }  # fmt: skip
        after.config.gate = "stg"
        assert after.report()["distillation"]["mean_gate"] == 0.25
        assert self.taught().report()["distillation"]["teacher_psnr"] is None
        # A checkpoint from before there was a teacher changes nothing.
        after.load_state({})
        assert after._images == 4 and after._sums.tolist() == pytest.approx([0.04, 1.0])


class TestTheRecipe:
    def test_its_state_is_that_of_its_sampler(self):
        first = RouterRecipeConfig().setup(seed=3)
        assert first.get_extra_state() == {"sampler": {}}
        first.set_extra_state({"sampler": {"cursor": 1}})
        sampler = first.make_sampler(table())
        drawn = [sampler.next(step) for step in range(5)]
        state = first.get_extra_state()
        expected = [sampler.next(step) for step in range(5, 9)]
        again = RouterRecipeConfig().setup(seed=4)
        other = again.make_sampler(table())
        again.set_extra_state({"sampler": {}})
        again.set_extra_state(state)
        assert [row.tolist() for row in expected] == [
            other.next(step).tolist() for step in range(5, 9)
        ]
        assert len(drawn) == 5

    def test_images_come_in_shuffled_passes_one_at_a_time(self):
        sampler: Any = RouterRecipeConfig().setup(seed=3).make_sampler(table(4, 2))
        seen = [sampler.next(step) for step in range(8)]
        assert {len(rows) for rows in seen} == {1}
        assert sorted(int(rows) for rows in seen) == list(range(8))

    def test_the_loss_is_that_of_the_image_and_of_the_change_of_the_gates(self):
        """A weight of 2 times the mean change of 0.25 and 0.75, whatever its sign."""
        recipe = RouterRecipeConfig(weight_gate_change=2.0, ssim_lambda=0.0).setup(seed=0)
        image, target = torch.full((16, 16, 3), 0.7), torch.full((16, 16, 3), 0.4)
        here = torch.full((2, 16, 16, 1), 0.5)
        there = here + torch.tensor([-0.25, 0.75])[:, None, None, None]
        for gates in ((), (here,)):
            losses = recipe.loss_terms(image, target, gates)
            assert losses.keys() == {"photometric"}
            assert float(losses["photometric"]) == pytest.approx(0.3)
        losses = recipe.loss_terms(image, target, (here, there))
        assert float(losses["gate_change"]) == pytest.approx(1.0)
        assert float(losses["photometric"]) == pytest.approx(0.3)


class TestParts:
    def test_pixels_of_parts_follow_each_other(self):
        def part(count: int, value: float) -> SampledPixels:
            return SampledPixels(
                torch.full((2, count, 3), value), torch.full((2, count, 4), 10 * value),
                torch.full((count, 3), 100 * value), torch.full((count,), int(value)),
            )  # fmt: skip

        both = SampledPixels.cat([part(2, 1.0), part(3, 2.0)])
        values = torch.tensor([1.0, 1.0, 2.0, 2.0, 2.0])
        torch.testing.assert_close(both.images, values[None, :, None].expand(2, 5, 3))
        torch.testing.assert_close(both.columns, 10 * values[None, :, None].expand(2, 5, 4))
        torch.testing.assert_close(both.targets, 100 * values[:, None].expand(5, 3))
        assert both.groups.tolist() == [1, 1, 2, 2, 2]
        some = both.select(both.groups == 2)
        assert some.images.shape == (2, 3, 3) and some.columns.shape == (2, 3, 4)
        assert some.targets.unique().tolist() == [200.0] and some.groups.tolist() == [2, 2, 2]

    def test_what_lies_on_the_near_plane_or_before_it_is_not_drawn(self):
        made = make_gaussians(torch.Generator().manual_seed(0), 3)
        means = torch.tensor([[0.0, 0.0, 0.5], [0.0, 0.0, 0.25], [0.0, 0.0, 0.75]])
        kept = cull_near(replace(made, means=means), make_view(), 0.5)
        assert kept.means.tolist() == [[0.0, 0.0, 0.75]]

    def test_one_set_is_laid_over_the_mean_of_backgrounds_that_are_named(self):
        built = mixture(3, 2)
        router = VolumeRouterConfig().setup(scene=SCENE, counts=[3, 2])
        volume, view = mixture_of(built.experts, router, 1.0), views()[0]
        black = volume.render(view, backgrounds=[torch.zeros(3)] * 2)
        grey = volume.render(view, backgrounds=[torch.zeros(3), torch.ones(3)])
        through = (0.5 * (1.0 - black.accumulation)).expand(-1, -1, 3)
        torch.testing.assert_close(grey.rgb - black.rgb, through, atol=1e-5, rtol=1e-4)
        assert float(through.max()) > 0.1

    def test_responsibilities_of_another_number_of_experts_are_refused(self):
        values = [torch.ones(3), torch.ones(2), torch.ones(1)]
        for count in (1, 3):
            with pytest.raises(ValueError, match=r"zip\(\)"):
                fused_parts(mixture(3, 2), values[:count], torch.tensor(0.5))

    def test_smoothness_is_the_mean_square_of_second_differences(self):
        """0, 1, 4, 9 has second differences of 2; a line and two rows have none."""
        squares = torch.arange(4.0).square()[:, None]
        assert float(smoothness_penalty(squares)) == pytest.approx(4.0)
        assert float(smoothness_penalty(squares[:3])) == pytest.approx(4.0)
        assert float(smoothness_penalty(squares[:2])) == 0.0
        assert smoothness_penalty(squares[:2]).shape == ()
        assert float(smoothness_penalty(torch.arange(4.0)[:, None])) == 0.0
        two = torch.cat([squares, 3 * squares], dim=1)
        assert float(smoothness_penalty(two[None])) == pytest.approx((4 + 36) / 2)
        steps = torch.tensor([0.0, 1.0, 1.0, 5.0, 5.0])[:, None]
        assert float(smoothness_penalty(steps)) == pytest.approx((1 + 16 + 16) / 3)

    def test_absolute_errors_are_means_over_what_counts(self):
        pred, target = torch.zeros(2, 2, 3), torch.zeros(2, 2, 3)
        pred[0, 0], target[1, 1] = 0.3, 0.9
        assert float(mean_absolute_error(pred, target, None)) == pytest.approx(0.3)
        mask = torch.tensor([[True, True], [False, False]])[..., None]
        assert float(mean_absolute_error(pred, target, mask)) == pytest.approx(0.15)
        one = torch.tensor([[True, False], [False, False]])[..., None]
        assert float(mean_absolute_error(pred, target, one)) == pytest.approx(0.3)
        assert float(mean_absolute_error(pred, target, mask & False)) == 0.0
