"""Responsibilities, importances and pruning against plain formulas."""

from dataclasses import replace

import pytest
import torch
from mixture_helpers import brute_gates, brute_weights, mix, mixture, views
from tolerances import EXACT, FORWARD, GRADIENT

from moegs_ns.cameras import View
from moegs_ns.mixture.importance import CRITERIA, SATURATED, CriterionName, Importance
from moegs_ns.mixture.pruning_schedule import PruneReport, prune
from moegs_ns.mixture.responsibilities import Responsibilities, as_given, responsibilities
from moegs_ns.routers import PixelRouterConfig, VolumeAwarePixelRouterConfig, VolumeRouterConfig
from moegs_ns.splatting import render
from moegs_ns.splatting.rendering import weighted_contributions

COUNTS = (14, 9)


def gate_importance(mixed, some_views) -> Importance:
    return CRITERIA["gate-gradient"].measure(mixed, some_views, as_given, 0)


def enlarged(view: View, factor: int) -> View:
    """The same camera with more pixels a side."""
    scale = view.Ks.new_tensor([factor, factor, 1.0])[:, None]
    width, height = factor * view.width, factor * view.height
    return replace(view, Ks=view.Ks * scale, width=width, height=height)


def pixels_of(view) -> int:
    return view.height * view.width


class TestResponsibilities:
    def test_sums_are_those_over_every_pixel_of_every_view(self):
        """Equations 8, 12, 13 and 14 by brute force."""
        mixed = mixture(*COUNTS)
        found = responsibilities(mixed, views())
        plain = [torch.zeros(count) for count in COUNTS]
        gated = [torch.zeros(count) for count in COUNTS]
        with torch.no_grad():
            for view in views():
                gates = brute_gates(mixed, view)
                for k, part in enumerate(mixed.gaussians(view.time)):
                    weights = brute_weights(part, view)
                    plain[k] += weights.sum((0, 1))
                    gated[k] += (gates[k, ..., None] * weights).sum((0, 1))
        for k in range(2):
            FORWARD.assert_close(found.contributions[k].float(), plain[k])
            FORWARD.assert_close(found.gated[k].float(), gated[k])
            expected = torch.where(plain[k] > 0, gated[k] / plain[k], 0.0)
            FORWARD.assert_close(found.values[k].float(), expected)
            assert plain[k].max() > 1.0 and 0.05 < expected.mean() < 0.95

    def test_equal_experts_have_equal_responsibilities(self):
        mixed = mixture(10, scramble=False)
        equals = mix([mixed.experts[0], mixed.experts[0]], scramble=False)
        found = responsibilities(equals, views())
        seen = found.contributions[0] > 0
        for values in found.values:
            FORWARD.assert_close(values[seen], torch.full_like(values[seen], 0.5))

    def test_they_are_of_where_and_when_experts_see_the_cameras(self):
        """Each expert in its own view, by the clock of the camera."""
        mixed, asked = mixture(*COUNTS), []
        at = mixed.experts[0].at

        def spy(time, camera=None):
            asked.append(camera)
            return at(time, camera)

        mixed.experts[0].at = spy
        given, moved = views(), views()
        for view in moved:
            view.viewmats[:, :3, 3] += 0.15
        pairs = {int(one.camera_ids[0]): other for one, other in zip(given, moved, strict=True)}
        found = responsibilities(mixed, given, lambda view: [view, pairs[int(view.camera_ids[0])]])
        assert [int(camera) for camera in asked] == [int(view.camera_ids[0]) for view in given]
        for k, own in enumerate((given, moved)):
            expected = torch.zeros(COUNTS[k])
            with torch.no_grad():
                for view in own:
                    expected += brute_weights(mixed.gaussians(view.time)[k], view).sum((0, 1))
            FORWARD.assert_close(found.contributions[k].float(), expected)

    def test_what_nobody_sees_has_no_responsibility(self):
        found = Responsibilities([torch.tensor([0.0, 2.0])], [torch.tensor([0.0, 1.0])], 1)
        assert found.values[0].tolist() == [0.0, 0.5]

    def test_ids_say_whose_the_sums_are(self, monkeypatch):
        """An expert that returns some of its rows, in another order."""
        mixed = mixture(*COUNTS)
        expected = responsibilities(mixed, views())
        whole = mixed.experts[0].at
        order = torch.arange(COUNTS[0]).flip(0)
        monkeypatch.setattr(
            mixed.experts[0], "at", lambda time, camera=None: whole(time).select(order)
        )
        found = responsibilities(mixed, views())
        for k in range(2):
            GRADIENT.assert_close(found.gated[k], expected.gated[k])

    def test_pixels_may_be_summed_with_any_map(self, generator):
        mixed, view = mixture(*COUNTS), views()[1]
        parts = mixed.gaussians(view.time)
        maps = torch.randn(2, 1, view.height, view.width, 2, generator=generator)
        found = weighted_contributions(parts, view, maps)
        for k, part in enumerate(parts):
            expected = torch.einsum("hwn,hwd->nd", brute_weights(part, view).detach(), maps[k, 0])
            GRADIENT.assert_close(found[k], expected)

    def test_there_must_be_views_and_gates(self):
        with pytest.raises(ValueError, match="Expected training views"):
            responsibilities(mixture(*COUNTS), [])
        with pytest.raises(ValueError, match="gates per pixel, but the Volume Router"):
            responsibilities(mixture(*COUNTS, router=VolumeRouterConfig()), views())


class TestGateImportance:
    @pytest.mark.parametrize("temperature", [1.0, 0.3])
    def test_it_is_the_norm_of_the_gradient_of_the_own_gate(self, temperature: float):
        """Equation 10 by automatic differentiation of brute-force compositing."""
        mixed = mixture(*COUNTS, temperature=temperature)
        found = gate_importance(mixed, views())
        for k, rows in enumerate(mixed.router.gaussian_weights):
            expected = torch.zeros(COUNTS[k])
            for view in views():
                weights = [rows[name] for name in ("w", "w_dir", "w_time")]
                total = brute_gates(mixed, view)[k].sum()
                gradients = torch.autograd.grad(total, weights)
                expected += torch.stack(gradients).square().sum(0).sqrt() / 3
            GRADIENT.assert_close(found.values[k].float() * pixels_of(views()[0]), expected)
            assert expected.max() > 0.05

    def test_a_network_that_looks_at_neighbours_is_followed(self):
        """The gradient of Φ 3x3 against finite differences of one weight."""
        mixed = mixture(*COUNTS, router=VolumeAwarePixelRouterConfig(kernel_size=3)).double()
        view = views()[1]
        for name in ("viewmats", "Ks", "times"):
            object.__setattr__(view, name, getattr(view, name).double())
        row = int(gate_importance(mixed, [view]).values[0].argmax())
        slopes = []
        for weight in ("w", "w_dir", "w_time"):
            sums = []
            for step in (-1e-5, 1e-5):
                mixed.router.gaussian_weights[0][weight].data[row] += step
                sums.append(mixed.render(view).gates[0].sum())
                mixed.router.gaussian_weights[0][weight].data[row] -= step
            slopes.append((sums[1] - sums[0]) / 2e-5)
        expected = torch.stack(slopes).norm()
        found = gate_importance(mixed, [view]).values[0][row] * pixels_of(view)
        GRADIENT.assert_close(found.detach(), expected.detach())

    def test_it_vanishes_where_gates_are_saturated_and_says_how_much_is(self):
        soft = gate_importance(mixture(*COUNTS), views())
        hard = gate_importance(mixture(*COUNTS, temperature=1e-4), views())
        assert soft.saturated_fraction is not None and hard.saturated_fraction is not None
        # Empty pixels have equal gates at any temperature.
        assert soft.saturated_fraction < 0.1 and hard.saturated_fraction > 0.3
        vanished = [(torch.cat(each.values) == 0).double().mean() for each in (soft, hard)]
        assert vanished[0] < 0.1 and vanished[1] > 0.3
        gates = torch.stack([mixture(*COUNTS).render(view).gates for view in views()])
        expected = (gates.amax(1) > SATURATED).double().mean()
        assert soft.saturated_fraction == pytest.approx(float(expected))

    def test_one_expert_has_no_gate_to_move(self):
        assert float(gate_importance(mixture(8), views()).values[0].abs().max()) == 0.0

    def test_the_pixel_router_has_no_weights_per_gaussian(self):
        with pytest.raises(ValueError, match="choose gated-contribution"):
            gate_importance(mixture(*COUNTS, router=PixelRouterConfig()), views())


class TestCriteria:
    def test_each_is_what_it_says(self):
        mixed = mixture(*COUNTS)
        measured = {
            name: criterion.measure(mixed, iter(views()), as_given, 0)
            for name, criterion in CRITERIA.items()
        }
        sums = responsibilities(mixed, views())
        gate, pixels = gate_importance(mixed, views()), sum(map(pixels_of, views()))
        largest = torch.stack([mixed.experts[1].at(view.time).opacities for view in views()])
        EXACT.assert_close(measured["gate-gradient"].values[1], gate.values[1])
        EXACT.assert_close(measured["gated-contribution"].values[1], sums.gated[1] / pixels)
        EXACT.assert_close(measured["contribution"].values[1], sums.contributions[1] / pixels)
        FORWARD.assert_close(measured["opacity"].values[1].float(), largest.amax(0))
        chance = torch.cat(measured["random"].values)
        assert len(set(chance.tolist())) == sum(COUNTS)
        assert all(len(each.values[k]) == COUNTS[k] for each in measured.values() for k in (0, 1))
        orders = {tuple(torch.cat(each.values).argsort().tolist()) for each in measured.values()}
        assert len(orders) == len(CRITERIA), "two criteria say the same"

    @pytest.mark.parametrize("name", CRITERIA)
    def test_a_threshold_means_the_same_for_any_resolution_and_number_of_views(self, name):
        """Twice as many pixels a side, and every view twice."""
        mixed = mixture(*COUNTS, router=VolumeAwarePixelRouterConfig(kernel_size=1))
        measure = CRITERIA[name].measure
        # Large enough that smoothing by a third of a pixel hardly counts.
        some = [enlarged(view, 8) for view in views()]
        once, twice, large = (
            torch.cat(measure(mixed, each, as_given, 0).values)
            for each in (some, [*some, *some], [enlarged(view, 2) for view in some])
        )
        EXACT.assert_close(twice, once)
        assert float((large - once).abs().sum() / once.sum()) < 0.05

    def test_measuring_leaves_no_gradients(self):
        mixed = mixture(*COUNTS)
        for criterion in CRITERIA.values():
            criterion.measure(mixed, views(), as_given, 0)
        assert all(parameter.grad is None for parameter in mixed.parameters())

    @pytest.mark.parametrize("name", ["contribution", "gated-contribution"])
    def test_what_is_drawn_by_nobody_costs_nothing(self, name: CriterionName):
        """Removing all Gaussians without a contribution leaves every image as it was."""
        mixed = mixture(*COUNTS)
        mixed.experts[0].gauss_params["opacities"].data[3] = -100.0
        mixed.experts[1].gauss_params["means"].data[5, 2] = -9.0
        importance = CRITERIA[name].measure(mixed, views(), as_given, 0)
        keep = importance.at_least(1e-12)
        assert PruneReport.of(importance, keep).after == (COUNTS[0] - 1, COUNTS[1] - 1)
        pruned = prune(mixed, keep)
        for view in views():
            FORWARD.assert_close(pruned.render(view).rgb.detach(), mixed.render(view).rgb.detach())


class TestChoices:
    IMPORTANCE = Importance([torch.tensor([0.1, 5.0, 3.0, 0.2]), torch.tensor([4.0, 0.3])])

    def test_the_best_of_all(self):
        keep = self.IMPORTANCE.best(3)
        assert [mask.tolist() for mask in keep] == [[False, True, True, False], [True, False]]

    def test_the_best_of_each(self):
        keep = self.IMPORTANCE.best_per_expert([2, 1])
        assert [mask.tolist() for mask in keep] == [[False, True, True, False], [True, False]]

    def test_a_threshold_keeps_what_reaches_it(self):
        keep = self.IMPORTANCE.at_least(0.3)
        assert [mask.tolist() for mask in keep] == [[False, True, True, False], [True, True]]

    def test_of_equals_the_first_stay(self):
        keep = Importance([torch.zeros(3), torch.zeros(2)]).best(4)
        assert [mask.tolist() for mask in keep] == [[True, True, True], [True, False]]

    def test_the_report_counts(self):
        report = PruneReport.of(self.IMPORTANCE, self.IMPORTANCE.best(3))
        assert (report.before, report.after) == ((4, 2), (2, 1))
        assert report.removed_fraction == pytest.approx(0.5)
        assert report.saturated_fraction is None


class TestPrune:
    def test_an_all_true_mask_changes_nothing(self):
        mixed = mixture(*COUNTS)
        same = prune(mixed, [torch.ones(count, dtype=torch.bool) for count in COUNTS])
        before, after = mixed.state_dict(), same.state_dict()
        assert before.keys() == after.keys()
        for name, value in before.items():
            assert (
                value == after[name] if isinstance(value, dict) else torch.equal(value, after[name])
            )
        for view in views():
            EXACT.assert_close(same.render(view).rgb.detach(), mixed.render(view).rgb.detach())

    def test_rows_are_gone_and_the_others_keep_order_and_identity(self):
        mixed = mixture(*COUNTS)
        keep = [torch.arange(count) % 3 != 1 for count in COUNTS]
        pruned = prune(mixed, keep)
        for k in range(2):
            for part in ("gauss_params", "weights"):
                old, new = (
                    m.experts[k].gauss_params
                    if part == "gauss_params"
                    else m.router.gaussian_weights[k]
                    for m in (mixed, pruned)
                )
                for name, value in new.items():
                    EXACT.assert_close(value.data, old[name].data[keep[k]], name)
                    assert value.untyped_storage().nbytes() == value.numel() * 4, "rows linger"
        assert pruned.num_gaussians == sum(int(k.sum()) for k in keep)
        assert mixed.num_gaussians == sum(COUNTS), "the given mixture was changed"
        assert not any(p.requires_grad for e in pruned.experts for p in e.parameters())

    def test_it_renders_as_if_the_others_were_transparent(self):
        mixed, view = mixture(*COUNTS), views()[1]
        keep = [torch.arange(count) % 2 == 0 for count in COUNTS]
        pruned = prune(mixed, keep)
        for k in range(2):
            mixed.experts[k].gauss_params["opacities"].data[~keep[k]] = -100.0
        FORWARD.assert_close(pruned.render(view).rgb.detach(), mixed.render(view).rgb.detach())

    def test_an_expert_is_never_emptied(self):
        keep = [torch.zeros(COUNTS[0], dtype=torch.bool), torch.ones(COUNTS[1], dtype=torch.bool)]
        with pytest.raises(ValueError, match=r"nothing would be left of expert 1, STGExpert"):
            prune(mixture(*COUNTS), keep)

    @pytest.mark.parametrize("router", [PixelRouterConfig(), VolumeRouterConfig()])
    def test_other_routers_are_pruned_alike(self, router):
        mixed, view = mixture(*COUNTS, router=router), views()[1]
        pruned = prune(mixed, [torch.arange(count) % 2 == 0 for count in COUNTS])
        assert type(pruned) is type(mixed) and pruned.render(view).rgb.isfinite().all()
        assert pruned.num_gaussians == 7 + 5

    def test_experts_with_two_kinds_of_rows(self):
        """Ex4DGS: static rows first, then dynamic ones; the router's rows go with them."""
        from ex4dgs_helpers import build

        both, _, _ = build(static=9, dynamic=6)
        mixed, view = mix([both, mixture(8).experts[0]]), views()[1]
        keep = [torch.arange(both.num_gaussians) % 3 == 0, torch.ones(8, dtype=torch.bool)]
        pruned = prune(mixed, keep)
        few = pruned.experts[0]
        assert (few.num_static, few.num_dynamic) == (3, 2)
        expected = both.at(view.time).select(keep[0])
        EXACT.assert_close(few.at(view.time).means.detach(), expected.means.detach())
        EXACT.assert_close(
            pruned.router.gaussian_weights[0]["w"].data,
            mixed.router.gaussian_weights[0]["w"][keep[0]].data,
        )
        own = render(expected, view, near=both.near).rgb
        FORWARD.assert_close(render(few.at(view.time), view, near=few.near).rgb, own)
