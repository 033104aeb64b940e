"""The full and lite models of Spacetime Gaussians, and where their recipe adds and removes."""

from typing import Literal
from unittest.mock import Mock

import pytest
import torch
from tiny import TinyRuns, train_tiny
from toys import make_view

from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.experts.stg.expert import STGExpertConfig
from moegs_ns.experts.stg.guided_sampling import (
    GuidedSampling,
    GuidedSamplingConfig,
    bad_pixels,
    points_along_rays,
)
from moegs_ns.experts.stg.recipe import STGRecipeConfig
from moegs_ns.runs.checkpoint import open_run
from moegs_ns.scene import FrameTable, InitialPoints, SceneInfo
from moegs_ns.splatting import project, rasterize
from moegs_ns.training.losses import TrainingRender
from moegs_ns.training.samplers import SameTimeSampler

SCENE = SceneInfo(num_frames=11, fps=30.0, center=(0.0, 0.0, 0.0), extent=2.0, background=None)
GUIDED = GuidedSamplingConfig(start=0)
UNUSED = Mock(spec=TrainingRender)
"""Where a rendered view goes that is not looked at."""


def build(color: Literal["sh", "lite", "full"] = "full", count: int = 24, **options):
    torch.manual_seed(0)
    cloud = InitialPoints(
        torch.rand(count, 3) + torch.tensor([0.0, 0.0, 3.0]), torch.rand(count, 3)
    )
    expert = STGExpertConfig(color=color, near=0.0).setup(scene=SCENE, points=cloud)
    recipe = STGRecipeConfig(**options).setup(expert=expert, budget=1.0, seed=0)
    optimizers = {
        name: torch.optim.Adam(parameters, lr=1e-3)
        for name, parameters in recipe.parameter_groups().items()
    }
    recipe.attach(optimizers)
    for parameter in expert.parameters():
        parameter.grad = torch.rand_like(parameter)
    for optimizer in optimizers.values():
        optimizer.step()
    return expert, recipe, optimizers


def drawn(expert, target: torch.Tensor | None = None, **view_options) -> TrainingRender:
    """One view of the expert; its target is black where none is given."""
    view = make_view(1, **view_options)
    result = rasterize([project(expert.at(view.time), view)], view).only()
    image = expert.finish(result, view, expert.background)
    target = torch.zeros_like(image) if target is None else target
    return TrainingRender(result, view, image, target, torch.zeros(1, dtype=torch.long))


class TestColors:
    def test_the_decoder_has_ninety_weights(self):
        expert, recipe, _ = build("full")
        assert sum(p.numel() for p in expert.color.parameters()) == 90
        assert "decoder" in recipe.parameter_groups()
        assert "decoder" not in build("sh")[1].parameter_groups()

    def test_features_at_the_own_centre_do_not_depend_on_the_time_features(self):
        expert, _, _ = build("full")
        raw = expert.gauss_params
        raw["time_features"].data.normal_()
        features = expert.at(raw["time_centers"][0].detach() / expert.duration).features
        assert features.shape == (24, 9)
        torch.testing.assert_close(features[0, 6:], torch.zeros(3))
        torch.testing.assert_close(features[:, :3], raw["base_rgb"])
        assert features[1:, 6:].abs().min() > 0

    @pytest.mark.parametrize("head", ["sigmoid", "clamp", "linear"])
    def test_a_zero_decoder_leaves_the_base_colour_to_the_head(self, head):
        expert = STGExpertConfig(color="full", head=head).setup(scene=SCENE)
        for parameter in expert.color.parameters():
            parameter.data.zero_()
        features, rays = 3 * torch.randn(5, 9), torch.randn(2, 5, 3)
        shaded = expert.shade(torch.zeros(5, 3), features, rays[0], rays[1])
        heads = {"sigmoid": torch.sigmoid, "clamp": lambda x: x.clamp(0, 1), "linear": lambda x: x}
        torch.testing.assert_close(shaded, heads[head](features[:, :3]))

    def test_the_decoder_does_not_know_the_scale_of_the_scene(self):
        expert = STGExpertConfig(color="full", head="linear").setup(scene=SCENE)
        grown = SceneInfo(11, 30.0, (0.0, 0.0, 0.0), 20.0, None)
        other = STGExpertConfig(color="full", head="linear").setup(scene=grown)
        other.color.load_state_dict(expert.color.state_dict())
        features, origins = torch.randn(5, 9), torch.randn(5, 3)
        directions = torch.nn.functional.normalize(torch.randn(5, 3), dim=-1)
        nothing = torch.zeros(5, 3)
        torch.testing.assert_close(
            expert.shade(nothing, features, origins, directions),
            other.shade(nothing, features, 10 * origins, directions),
        )

    def test_the_lite_model_shows_its_colour_unbounded(self):
        expert, _, _ = build("lite")
        expert.gauss_params["base_rgb"].data += 2.0
        assert drawn(expert).image.amax() > 1.0

    @pytest.mark.parametrize("color", ["lite", "full"])
    def test_every_colour_parameter_learns_from_an_image(self, color):
        expert, recipe, _ = build(color)
        expert.zero_grad()
        drawn(expert).image.square().sum().backward()
        colours = {"base_rgb", "view_features", "time_features"} & set(expert.gauss_params.keys())
        for parameter in [expert.gauss_params[name] for name in colours]:
            assert parameter.grad.abs().sum() > 0
        assert "sh0" not in recipe.parameter_groups()


class TestBadPixels:
    def test_three_of_four_pixels_of_a_bad_region_away_from_the_border(self):
        target = torch.full((160, 160, 3), 0.5)
        image = target.clone()
        image[48:80, 64:112] = 1.0
        image[:16] = 1.0  # at the border
        found = bad_pixels(image, target, GuidedSamplingConfig(error_quantile=0.7))
        assert found.sum() == 0.75 * 32 * 48
        assert found[48:80, 64:112].sum() == found.sum()

    def test_exposure_is_no_error(self):
        target = torch.rand(64, 64, 3, generator=torch.Generator().manual_seed(0)) + 0.5
        assert not bad_pixels(target, target, GUIDED).any()

    def test_sizes_need_not_be_multiples_of_a_tile(self):
        image, target = torch.rand(37, 53, 3), torch.rand(37, 53, 3)
        assert bad_pixels(image, target, GUIDED).shape == (37, 53)


class TestGuidedSampling:
    def test_new_points_lie_on_the_rays_at_multiples_of_the_largest_depth(self):
        expert, _, _ = build("sh", count=400)
        expert.gauss_params["scales"].data.fill_(-1.0)
        expert.gauss_params["opacities"].data.fill_(5.0)
        target = torch.zeros(1, 64, 96, 3)
        target[:, 16:48, 32:64] = torch.rand(1, 32, 32, 3)
        part = drawn(expert, target, width=96, height=64, shift=3.0)
        config = GuidedSamplingConfig(depth_factors=(0.5, 2.0), jitter=0.0, tile_fraction=0.3)
        xyz, rgb = points_along_rays(part, config, torch.Generator())
        is_sampled = bad_pixels(part.image[0].detach(), target[0], config)
        assert len(xyz) == 2 * int(is_sampled.sum()) > 0
        viewmat, K = part.view.viewmats[0], part.view.Ks[0]
        seen = xyz @ viewmat[:3, :3].T + viewmat[:3, 3]
        pixels = (seen @ K.T)[:, :2] / seen[:, 2:]
        rows, columns = torch.nonzero(is_sampled, as_tuple=True)
        expected = torch.stack([columns, rows], dim=1).repeat(2, 1) + 0.5
        torch.testing.assert_close(pixels, expected, atol=1e-2, rtol=0.0)
        farthest = float(part.render.depth[part.render.alpha > 0.5].amax())
        half = len(xyz) // 2
        torch.testing.assert_close(seen[:half, 2], torch.full((half,), 0.5 * farthest))
        torch.testing.assert_close(seen[half:, 2], torch.full((half,), 2.0 * farthest))
        torch.testing.assert_close(rgb[:half], target[0][is_sampled])

    def test_the_two_worst_cameras_are_sampled_once_each(self, monkeypatch):
        similarity = {0: 0.5, 1: 0.95, 2: 0.7, 3: 0.8}
        current = {"camera": 0}
        monkeypatch.setattr(
            "moegs_ns.experts.stg.guided_sampling.last_ssim",
            lambda part: similarity[current["camera"]],
        )
        guided, events = GuidedSampling(GUIDED, 4), []
        for step in range(0, 400, 10):
            current["camera"] = camera = (step // 10) % 4
            if guided.is_wanted(step, 100, camera, UNUSED):
                events.append((camera, step))
        assert [camera for camera, _ in events] == [0, 2]
        assert all(step > 100 for _, step in events)
        assert events[1][1] - events[0][1] > 100

    def test_a_single_bad_camera_is_left_alone(self, monkeypatch):
        values = iter([0.5, 0.95, 0.95])
        monkeypatch.setattr(
            "moegs_ns.experts.stg.guided_sampling.last_ssim", lambda part: next(values)
        )
        guided = GuidedSampling(GUIDED, 3)
        assert not any(guided.is_wanted(500 + i, 100, i % 3, UNUSED) for i in range(12))

    def test_new_gaussians_join_parameters_optimisers_and_statistics(self):
        expert, recipe, optimizers = build("full", count=400)
        expert.gauss_params["opacities"].data.fill_(5.0)
        expert.gauss_params["scales"].data.fill_(-1.0)
        recipe.densifier.config.max_gaussians = 420
        target = torch.rand(1, 64, 96, 3, generator=torch.Generator().manual_seed(0))
        options = GuidedSamplingConfig(start=0, tile_fraction=0.3)
        recipe.config.guided_sampling = options
        added = recipe.add_along_rays(drawn(expert, target, width=96, height=64))
        assert added == 20
        assert expert.num_gaussians == 420
        for name, parameter in expert.gauss_params.items():
            assert optimizers[name].param_groups[0]["params"] == [parameter]
            moments = optimizers[name].state[parameter]["exp_avg"]
            assert moments.shape == parameter.shape
            assert not moments[400:].any() and moments[:400].any()
        assert all(len(value) == 420 for value in recipe.densifier.statistics.values())
        assert not expert.gauss_params["view_features"][400:].any()
        centers = expert.gauss_params["time_centers"][400:]
        assert centers.unique().numel() == 20

    def test_its_state_survives_a_checkpoint(self, tmp_path):
        table = FrameTable(torch.arange(4), torch.zeros(4, dtype=torch.long), torch.zeros(4))
        _, recipe, _ = build("sh", guided_sampling=GUIDED)
        assert isinstance(recipe.make_sampler(table), SameTimeSampler)
        recipe.guided.state.first_ssim, recipe.guided.state.chosen = {3: 0.5}, [3]
        torch.save(recipe.get_extra_state(), tmp_path / "state")
        _, other, _ = build("sh", guided_sampling=GUIDED)
        other.make_sampler(table)
        other.set_extra_state(torch.load(tmp_path / "state", weights_only=True))
        assert other.guided.state == recipe.guided.state


class TestPlaces:
    def test_what_left_the_box_is_removed_once_at_the_given_step(self):
        expert, recipe, _ = build("sh", box_prune_step=10)
        expert.gauss_params["means"].data[0] += 100.0
        recipe.after_step(8)
        assert expert.num_gaussians == 24
        recipe.after_step(9)
        assert expert.num_gaussians < 24
        assert expert.gauss_params["means"].max() < 50.0

    def test_what_lies_too_low_goes_at_the_start_and_later(self):
        expert, recipe, _ = build("sh", lowest_z=3.5)
        recipe.after_step(0)
        assert expert.gauss_params["means"][:, 2].min() >= 3.5
        expert.gauss_params["means"].data[0, 2] = 1.0
        recipe.after_step(998)
        assert expert.gauss_params["means"][:, 2].min() == 1.0
        recipe.after_step(999)
        assert expert.gauss_params["means"][:, 2].min() >= 3.5


@pytest.mark.parametrize("color", ["lite", "full"])
def test_the_published_models_train_and_open_again(tiny_runs: TinyRuns, tmp_path, color: str):
    options = [
        "--pipeline.model.expert.color", color, "--budget", "0.002",
        "--pipeline.model.recipe.guided-sampling.start", "0",
    ]  # fmt: skip
    config = train_tiny("moegs-stg", tiny_runs.scene, tmp_path, *options)
    pipeline = load_pipeline(open_run(config))
    assert pipeline.get_average_eval_image_metrics()["psnr"] > 10.0
    mixture = train_tiny(
        "moegs-router", tiny_runs.scene, tmp_path, "--experts", str(config), tiny_runs.experts[1],
        "--budget", "0.002",
    )  # fmt: skip
    assert load_pipeline(open_run(mixture)).get_average_eval_image_metrics()["psnr"] > 10.0
