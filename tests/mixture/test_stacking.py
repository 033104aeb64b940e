"""What gates learn from images that no expert was trained on, and the evidence behind it."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from mixture_helpers import mixture, views
from torch import Tensor

from moegs_ns.mixture import stacking
from moegs_ns.mixture.evidence import MIN_ERROR, UNSEEN_ERROR, measure_evidence
from moegs_ns.mixture.mixture import ROUTER_GATES, GateConfig, Mixture
from moegs_ns.mixture.stacking import CANDIDATES, Correction, SampledPixels, stack
from moegs_ns.routers import (
    EVIDENCE,
    VolumeAwarePixelRouter,
    VolumeAwarePixelRouterConfig,
    correction_columns,
)
from moegs_ns.splatting import rasterize

CAMERAS, PIXELS, COLUMNS = 4, 300, 6


def pixels(noise: Tensor, columns: Tensor | None = None) -> SampledPixels:
    """Experts whose errors are random with a standard deviation for each [E], or [E P]."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.rand(CAMERAS * PIXELS, 3, generator=generator)
    noise = noise[:, None].expand(-1, len(targets)) if noise.dim() == 1 else noise
    errors = torch.randn(len(noise), len(targets), 3, generator=generator) * noise[..., None]
    if columns is None:
        columns = torch.randn(len(noise), len(targets), COLUMNS, generator=generator)
    groups = torch.arange(CAMERAS).repeat_interleave(PIXELS)
    return SampledPixels(targets + errors, columns, targets, groups)


def gates(found: Correction, columns: Tensor) -> Tensor:
    return torch.softmax(found.logits(columns.double()), dim=0)


class TestTheFit:
    def test_of_equal_experts_the_plain_average_stays(self):
        """Whatever the columns say by chance must not be learned."""
        given = pixels(torch.tensor([0.1, 0.1, 0.1]))
        found = stack(given, given, 1.0, ROUTER_GATES)
        assert (gates(found.correction, given.columns) - 1 / 3).abs().max() < 0.03

    def test_biases_are_those_of_the_best_constant_weights(self):
        """Of independent errors these are inverse variances: 4 : 1."""
        given = pixels(torch.tensor([0.1, 0.2]))
        found = stack(given, given, 1.0, ROUTER_GATES)
        shares = gates(found.correction, given.columns).mean(1)
        assert abs(float(shares[0]) - 0.8) < 0.02
        assert found.errors[found.form] < 0.9 * found.errors["average"]

    def test_evidence_that_tells_errors_is_used(self, monkeypatch: pytest.MonkeyPatch):
        """The logarithm of an error's variance, with a slope of -1, gives inverse variances; the
        ridge makes it smaller."""
        generator = torch.Generator().manual_seed(1)
        deviations = 10.0 ** (-2.0 * torch.rand(2, CAMERAS * PIXELS, generator=generator))
        columns = torch.randn(2, CAMERAS * PIXELS, COLUMNS, generator=generator)
        columns[..., 2] = deviations.square().log()
        given = pixels(deviations, columns)
        found = stack(given, given, 1.0, ROUTER_GATES)
        assert found.form == "evidence"
        with monkeypatch.context() as patch:
            patch.setattr(stacking, "RIDGE_OF_SLOPES", 1e-3)
            free = stack(given, given, 1.0, ROUTER_GATES).correction
        assert -1.2 < float(free.slopes[2]) < -0.7
        assert 0.6 < float(found.correction.slopes[2] / free.slopes[2]) < 0.95
        assert found.errors["evidence"] < 0.5 * found.errors["average"]

    def test_logits_that_mislead_are_not_followed(self):
        """A router that trusts the expert which fits best and is the worst elsewhere."""
        columns = torch.zeros(2, CAMERAS * PIXELS, COLUMNS)
        columns[0, :, 0] = 5.0
        given = pixels(torch.tensor([0.3, 0.1]), columns)
        found = stack(given, given, 1.0, ROUTER_GATES)
        assert float(gates(found.correction, columns)[0].max()) < 0.2

    def test_each_form_is_judged_on_cameras_that_it_was_not_fitted_on(self):
        """An expert that is right in one camera only must gain nothing by a bias."""
        given = pixels(torch.tensor([0.1, 0.1]))
        images = given.images.clone()
        right = given.groups == 0
        images[0, right] = given.targets[right]
        images[1, right] = given.targets[right] + 0.3
        found = stack(replace(given, images=images), given, 1.0, ROUTER_GATES)
        assert found.errors["evidence"] > found.errors["average"]

    def test_the_order_of_experts_does_not_matter(self):
        given = pixels(torch.tensor([0.1, 0.2, 0.15]))
        order = torch.tensor([2, 0, 1])
        shuffled = replace(given, images=given.images[order], columns=given.columns[order])
        one, other = (stack(each, each, 0.7, ROUTER_GATES) for each in (given, shuffled))
        assert one.form == other.form
        torch.testing.assert_close(
            one.correction.bias[order], other.correction.bias, atol=1e-4, rtol=0
        )

    def test_the_temperature_and_equal_gates_are_part_of_the_fit(self):
        """Half of the gates equal: the rest must trust the good expert all the more."""
        given = pixels(torch.tensor([0.1, 0.2]))
        config = GateConfig(uniform=0.5)
        plain, cold, half = (
            stack(given, given, *how).correction.bias
            for how in ((1.0, ROUTER_GATES), (2.0, ROUTER_GATES), (1.0, config))
        )
        assert 1.5 < float(cold[0] / plain[0]) < 2.1
        assert float(half[0]) > 1.3 * float(plain[0])

    def test_a_few_pixels_are_not_taken_for_certain(self):
        """One expert is right wherever anybody looked; its gate must not become 1."""
        given = pixels(torch.tensor([0.0, 0.2]))
        found = stack(given, given, 1.0, ROUTER_GATES)
        assert 0.9 < float(gates(found.correction, given.columns)[0].mean()) < 0.995

    def test_slopes_come_from_the_copies_and_biases_from_the_experts(self):
        """The first copy is bad everywhere, which its expert is not."""
        generator = torch.Generator().manual_seed(1)
        deviations = 10.0 ** (-2.0 * torch.rand(2, CAMERAS * PIXELS, generator=generator))
        columns = torch.randn(2, CAMERAS * PIXELS, COLUMNS, generator=generator)
        columns[..., 2] = deviations.square().log()
        seen, worse = pixels(deviations, columns), deviations * torch.tensor([[3.0], [1.0]])
        apart = stack(pixels(worse, columns), seen, 1.0, ROUTER_GATES).correction
        alike = stack(pixels(worse, columns), pixels(worse, columns), 1.0, ROUTER_GATES).correction
        assert torch.equal(apart.slopes, alike.slopes)
        assert float(alike.bias[0]) < -0.5 and abs(float(apart.bias[0])) < 0.1

    def test_one_group_is_refused(self):
        given = pixels(torch.tensor([0.1, 0.2]))
        with pytest.raises(ValueError, match="at least two groups, got 1"):
            stack(given.select(given.groups == 0), given, 1.0, ROUTER_GATES)

    def test_of_equals_the_plain_average_is_taken(self):
        assert CANDIDATES[0] == "average"
        given = pixels(torch.tensor([0.1, 0.1]))
        same = replace(given, images=given.images[:1].expand(2, -1, -1))
        found = stack(same, same, 1.0, ROUTER_GATES)
        assert found.form == "average"
        assert not found.correction.bias.any() and not found.correction.slopes.any()


def own_images(built: Mixture, expert: int):
    """What one of the experts shows, as ground truth."""
    return [(view, built.render(view).images[expert]) for view in views()]


class TestEvidence:
    def test_an_expert_that_explains_the_images_has_no_error(self):
        built = mixture(40, 30)
        first, second = measure_evidence(built, own_images(built, 0))
        is_seen = first["unseen"] == 0
        assert bool(is_seen.any())
        assert float(first["error"][is_seen].max()) < torch.tensor(2 * MIN_ERROR).log()
        assert float(second["error"].median()) > torch.tensor(100 * MIN_ERROR).log()

    def test_it_counts_cameras_by_what_they_see(self):
        """Three views of one camera are one; a set that no view shows is unseen."""
        built = mixture(40)
        built.experts[0].gauss_params["means"].data[:7] += 1000.0
        images = own_images(built, 0)
        (own,) = measure_evidence(built, images)
        assert bool((own["unseen"][:7] == 1).all())
        assert bool((own["coverage"][:7] == 0).all())
        torch.testing.assert_close(
            own["error"][:7], torch.full((7,), UNSEEN_ERROR + MIN_ERROR).log()
        )
        cameras = own["coverage"].exp() - 1
        assert float(cameras.max()) > 1.5 and float(cameras.max()) < len(images) + 0.01
        for view, _ in images:
            view.camera_ids.fill_(0)
        (same,) = measure_evidence(built, images)
        torch.testing.assert_close(
            same["coverage"][same["unseen"] == 0],
            torch.full_like(same["coverage"][same["unseen"] == 0], 2.0).log(),
        )

    def test_errors_are_means_over_the_pixels_that_a_gaussian_shows(self):
        """Against a constant error every Gaussian has that error, whatever its size."""
        built = mixture(40)
        images = [(view, image + 0.1) for view, image in own_images(built, 0)]
        (own,) = measure_evidence(built, images)
        seen = own["error"][own["unseen"] == 0]
        torch.testing.assert_close(
            seen, torch.full_like(seen, 0.01 + MIN_ERROR).log(), atol=1e-3, rtol=0
        )

    def test_it_looks_from_where_experts_believe_cameras_to_be_at_recorded_colours(self):
        built = mixture(40)
        moved = views()
        for view in moved:
            view.viewmats[:, :3, 3] += 0.2
        images = [
            (view, built.render(there).images[0] * 0.5)
            for view, there in zip(views(), moved, strict=True)
        ]
        there = {int(view.camera_ids[0]): view for view in moved}
        (own,) = measure_evidence(
            built,
            images,
            own_views=lambda view: [there[int(view.camera_ids[0])]],
            recorded=lambda images, view: 0.5 * images,
        )
        assert float(own["error"][own["unseen"] == 0].max()) < torch.tensor(2 * MIN_ERROR).log()

    def test_no_images_are_refused(self):
        with pytest.raises(ValueError, match="training views"):
            measure_evidence(mixture(5), [])


def stacked(*counts: int) -> Mixture:
    router = VolumeAwarePixelRouterConfig(stacked=True)
    return mixture(*counts, router=router, temperature=1.0).eval()


def correct(built: Mixture, bias: Tensor, slopes: Tensor) -> None:
    router = built.router
    assert isinstance(router, VolumeAwarePixelRouter) and router.correction is not None
    router.correction.set_(measure_evidence(built, own_images(built, 0)), bias, slopes)


SLOPES = torch.tensor([0.7, -0.4, 0.3, -0.2, 0.5, 0.1])


class TestTheCorrection:
    def test_it_changes_nothing_before_it_is_fitted(self):
        plain, later = mixture(20, 30, temperature=1.0), stacked(20, 30)
        later.router.load_state_dict(
            later.router.state_dict() | plain.router.state_dict(), strict=True
        )
        for view in views():
            assert torch.equal(plain.render(view).gates, later.render(view).gates)

    def test_training_goes_on_without_it(self):
        plain, later = mixture(20, 30, temperature=1.0), stacked(20, 30)
        later.router.load_state_dict(later.router.state_dict() | plain.router.state_dict())
        correct(later, torch.tensor([0.9, -0.9]), SLOPES)
        view = views()[0]
        assert not torch.equal(plain.render(view).gates, later.render(view).gates)
        assert torch.equal(plain.render(view).gates, later.train().render(view).gates)

    def test_logits_are_a_linear_function_of_what_is_seen(self):
        built = stacked(20, 30)
        view, bias = views()[1], torch.tensor([0.3, -0.3])
        logits = built.logits(built.render(view).rendered.features[:, 0], view)
        correct(built, bias, SLOPES)
        router = built.router
        assert isinstance(router, VolumeAwarePixelRouter) and router.correction is not None
        projected = built.project(view)
        features = [
            router.correction.gaussian_features(k, one.ids) for k, one in enumerate(projected)
        ]
        columns = correction_columns(logits, rasterize(projected, view, features).features[:, 0])
        expected = Correction(bias, SLOPES).logits(columns.flatten(1, 2)).softmax(0)
        torch.testing.assert_close(
            built.render(view).gates.flatten(1), expected, atol=1e-5, rtol=1e-4
        )

    def test_gates_sum_to_one_and_one_expert_is_itself(self):
        for counts in ((20, 30), (25,)):
            built = stacked(*counts)
            correct(built, torch.linspace(-0.5, 0.5, len(counts)), SLOPES)
            for view in views():
                render = built.render(view)
                torch.testing.assert_close(render.gates.sum(0), torch.ones_like(render.gates[0]))
                if len(counts) == 1:
                    torch.testing.assert_close(render.rgb, render.images[0])

    def test_rows_follow_their_gaussians(self):
        """Unseen Gaussians may go, and nothing of the image changes; a permuted row would."""
        built = stacked(30, 30)
        for expert in built.experts:
            expert.gauss_params["means"].data[:9] += 1000.0
        correct(built, torch.tensor([0.2, -0.2]), SLOPES)
        keep = [torch.arange(30) >= 9] * 2
        experts = [one.select(mask) for one, mask in zip(built.experts, keep, strict=True)]
        smaller = Mixture(experts, built.router.select(keep), built.temperature).eval()
        for view in views():
            torch.testing.assert_close(smaller.render(view).gates, built.render(view).gates)
        permuted: Any = deepcopy(built.router)
        for evidence in permuted.correction.evidence:
            evidence.select_(torch.arange(30).roll(3))
        other = Mixture(built.experts, permuted, built.temperature).eval()
        view = views()[1]
        assert (
            float((other.render(view).gates - built.render(view).gates).detach().abs().max()) > 0.01
        )

    def test_it_is_stored_with_the_router(self):
        built, other = stacked(20, 30), stacked(7, 8)
        correct(built, torch.tensor([0.2, -0.2]), SLOPES)
        state = {k: v for k, v in built.router.state_dict().items() if "correction" in k}
        assert {name.split(".")[-1] for name in state} == {"bias", "slopes", *EVIDENCE}
        other.router.load_state_dict(built.router.state_dict())
        again = Mixture(built.experts, other.router, built.temperature).eval()
        for view in views():
            assert torch.equal(again.render(view).gates, built.render(view).gates)
