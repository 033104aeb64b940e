"""Growth that sees short lives: which views count, and thresholds by the length of lives."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from recipe_runs import FAMILIES, build
from toys import make_gaussians, make_view

from moegs_ns.experts.ex4dgs.expert import opacity_window, window_lengths
from moegs_ns.splatting import RenderOutput, render
from moegs_ns.training.densification import (
    COUNTED,
    Counted,
    DensificationConfig,
    LifeThresholdConfig,
    screen_gradients,
)

VISIBILITY = torch.tensor([1.0, 0.5, 0.04])


def rendered(opacities: list[float], num_cameras: int = 1) -> RenderOutput:
    """Gaussians in view with these opacities, after a backward pass."""
    generator = torch.Generator().manual_seed(0)
    gaussians = make_gaussians(generator, len(opacities), degree=0)
    gaussians = replace(
        gaussians,
        means=torch.tensor([[0.1 * k, 0.0, 3.0] for k in range(len(opacities))]).requires_grad_(),
        opacities=torch.tensor(opacities),
    )
    output = render(gaussians, make_view(num_cameras))
    output.retain_screen_gradients()
    (output.rgb * torch.rand(output.rgb.shape, generator=generator)).sum().backward()
    return output


def sums(output: RenderOutput, counted: Counted) -> tuple[torch.Tensor, torch.Tensor]:
    found = screen_gradients(output, 1, DensificationConfig(counted=counted), VISIBILITY)
    assert found is not None
    return found


def test_views_that_contain_a_gaussian_count_whether_it_is_drawn_or_not():
    output = rendered([0.8, 0.5, 0.001], num_cameras=2)
    assert sums(output, "contained")[1].tolist() == [2.0, 2.0, 2.0]
    assert sums(output, "drawn")[1].tolist() == [2.0, 2.0, 0.0]


def test_by_visibility_both_sums_are_weighted_and_hardly_visible_ones_are_ignored():
    output = rendered([0.8, 0.4, 0.03])
    plain, weighted = sums(output, "contained"), sums(output, "by-visibility")
    assert bool((plain[0] > 0).all())
    expected = torch.tensor([1.0, 0.5, 0.0])
    for before, after in zip(plain, weighted, strict=True):
        torch.testing.assert_close(after, before * expected)


def test_an_invisible_moment_does_not_pull_the_mean_down():
    """Alive in one of four views: the mean gradient is that of the view that draws it."""
    alive, gone = rendered([0.8, 0.5, 0.5]), rendered([0.0, 0.5, 0.5])
    means = {}
    for counted in COUNTED:
        totals, counts = torch.zeros(3), torch.zeros(3)
        for output, visible in ((alive, 1.0), (gone, 0.0), (gone, 0.0), (gone, 0.0)):
            visibility = torch.tensor([visible, 1.0, 1.0])
            found = screen_gradients(output, 1, DensificationConfig(counted=counted), visibility)
            assert found is not None
            totals, counts = totals + found[0], counts + found[1]
        means[counted] = float(totals[0] / counts[0])
    assert means["drawn"] == means["by-visibility"] == pytest.approx(4.0 * means["contained"])


class TestLifeThreshold:
    def test_it_rises_from_its_share_to_one_with_the_life(self):
        factors = LifeThresholdConfig(share=0.75).factors(torch.tensor([0.0, 0.5, 1.0]))
        assert factors.tolist() == pytest.approx([0.75, 0.75 + 0.25 * 0.5**0.8, 1.0])

    @pytest.mark.parametrize("share", [0.0, 1.25])
    def test_a_share_that_is_none_is_refused(self, share: float):
        densification = DensificationConfig(life_threshold=LifeThresholdConfig(share=share))
        with pytest.raises(ValueError, match=r"life-threshold\.share expects a number above 0"):
            build("stg", recipe_config=replace(FAMILIES["stg"][1], densification=densification))

    def test_a_short_life_is_refined_where_a_long_one_is_not(self):
        """Gradients of 0.8 thresholds, and of 1.2 with room for one more only."""
        for gradient, cap, expected in ((0.8, 99, 3), (1.2, 3, 3), (1.2, 99, 4)):
            expert, recipe, _ = build("stg", count=2)
            rows = expert.gauss_params
            rows["scales"].data[:] = -9.0
            rows["time_log_scales"].data = torch.tensor([0.0, -6.0])
            rows["means"].data[1] = 7.0
            densifier = recipe.densifier
            densifier.config = DensificationConfig(
                max_gaussians=cap, life_threshold=LifeThresholdConfig(share=0.75)
            )
            densifier.statistics["gradients"][:] = 20.0 * gradient * 2e-4
            densifier.statistics["counts"][:] = 20.0
            densifier.grow()
            assert expert.num_gaussians == expected
            assert expert.gauss_params["means"][-1, 0] == 7.0

    def test_both_kinds_of_keyframe_experts_go_by_their_own_lives(self):
        from ex4dgs_helpers import build as build_ex4dgs

        expert, recipe, _ = build_ex4dgs(dynamic=3)
        spans = expert.life_spans()
        found = [densifier.life_spans() for densifier in recipe.densifiers]
        assert torch.equal(torch.cat(found), spans)
        assert [len(each) for each in found] == [expert.num_static, 3]
        assert bool((found[0] == 1.0).all())


@pytest.mark.parametrize("family", ["stg", "freetime"])
def test_lives_are_the_integral_of_what_is_visible(family: str):
    expert, _, _ = build(family, count=3)
    names = {"stg": ("time_log_scales", 0.0), "freetime": ("durations", 0.5)}
    name, shift = names[family]
    clip = 1.0 if family == "stg" else float(expert.clip_seconds)
    expert.gauss_params[name].data = torch.tensor([0.01, 0.05, 9.0]).mul(clip).log() + shift
    expert.gauss_params["time_centers"].data[:] = 0.5 * clip
    times = torch.linspace(0.0, 1.0, 2001)
    area = torch.stack([expert.visibility(time) for time in times]).mean(0)
    torch.testing.assert_close(expert.life_spans(), area, atol=2e-3, rtol=0.0)


def test_the_length_of_a_window_is_its_integral():
    centers, widths = torch.tensor([[4.0, 6.0], [7.0, 5.0]]), torch.tensor([[-1.0, 0.0]] * 2)
    times = torch.linspace(-10.0, 20.0, 3001)
    area = torch.stack([opacity_window(time, centers, widths, 0.2) for time in times]).sum(0) * 1e-2
    torch.testing.assert_close(window_lengths(centers, widths, 0.2), area, atol=3e-3, rtol=0.0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "options",
    [{"counted": "by-visibility"}, {"life_threshold": LifeThresholdConfig(share=0.5)}],
    ids=["counted", "threshold"],
)
def test_who_has_no_lives_is_told_so(family: str, options: dict[str, Any]):
    _, default = FAMILIES[family]
    config = replace(default, densification=replace(default.densification, **options))
    if family in ("stg", "freetime"):
        build(family, recipe_config=config)
        return
    with pytest.raises(ValueError, match=r"counted by-visibility and .* opacity depends on time"):
        build(family, recipe_config=config)
