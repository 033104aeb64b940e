"""The preview of pruning keeps what pruning would keep."""

import torch
from mixture_helpers import brute_weights, views
from tiny_models import expert_model, mixture_model

from moegs_ns.engine.viewer.pruning import PruningPreview, contributions
from moegs_ns.mixture.importance import CRITERIA
from moegs_ns.mixture.responsibilities import as_given


def test_a_mixture_keeps_the_gaussians_that_pruning_by_gated_contribution_keeps():
    model = mixture_model()
    preview = PruningPreview(model, lambda: iter(views(3)))
    measured = CRITERIA["gated-contribution"].measure(model.mixture, views(3), as_given, 0)
    for ratio in (0.3, 0.55, 0.99):
        kept = preview.keep(ratio)
        assert kept is not None
        for mask, expected in zip(kept, measured.best(round((1 - ratio) * 70)), strict=True):
            assert torch.equal(mask, expected)
    assert preview.keep(0.0) is None


def test_an_expert_is_measured_by_its_part_of_the_images():
    expert = expert_model().expert
    expected = torch.zeros(40, dtype=torch.double)
    for view in views(3):
        part = expert.at(view.time)
        ids = torch.arange(40) if part.ids is None else part.ids
        expected[ids] += brute_weights(part, view).sum((0, 1)).double()
    torch.testing.assert_close(
        contributions(expert, iter(views(3))), expected, rtol=1e-4, atol=1e-4
    )


def test_gaussians_are_measured_once_until_their_number_changes():
    model, calls = mixture_model(), []

    def counted():
        calls.append(1)
        return iter(views(1))

    preview = PruningPreview(model, counted)
    preview.keep(0.5)
    preview.keep(0.7)
    assert len(calls) == 1
    model.mixture.experts[0].gauss_params.select_(torch.arange(30))
    model.mixture.router.weights[0].select_(torch.arange(30))
    kept = preview.keep(0.5)
    assert kept is not None and len(kept[0]) == 30 and len(calls) == 2
