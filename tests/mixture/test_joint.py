"""Joint training in parts: where rows come from, and what follows them."""

from dataclasses import replace

import ex4dgs_helpers
import pytest
import recipe_runs
import torch
from nerfstudio.configs.method_configs import all_methods
from training_helpers import cloud, drawn, scene, table

from moegs_ns.experts.stg.expert import STGExpertConfig
from moegs_ns.experts.stg.recipe import STGRecipeConfig
from moegs_ns.gaussians import GaussianParams
from moegs_ns.mixture.joint.parent_tracking import PARENT, take_from_parents, track_parents
from moegs_ns.mixture.joint.recipe import JointRecipe
from moegs_ns.mixture.mixture import Mixture
from moegs_ns.mixture.pruning_schedule import prune
from moegs_ns.mixture.recipe import RouterRecipeConfig
from moegs_ns.mixture.volume_mixture import mixture_of
from moegs_ns.models.joint_model import JointModelConfig, check_trains_jointly
from moegs_ns.routers import PixelRouterConfig, RouterConfig, VolumeAwarePixelRouterConfig
from moegs_ns.scene import InitialPoints
from moegs_ns.training.densification import DensificationConfig
from moegs_ns.training.honest import HonestConfig


def colors(expert) -> torch.Tensor:
    """One colour per row, which densification copies; the expert's own order of rows."""
    sets = [expert.gauss_params, getattr(expert, "key_gauss_params", {})]
    return torch.cat([rows["sh0"].detach()[:, 0, 0].clone() for rows in sets if "sh0" in rows])


def assert_told(before: torch.Tensor, expert, told: list[torch.Tensor]):
    """Every row has the colour of the row that it is said to come from."""
    (sources,) = told
    assert len(sources) == expert.num_gaussians
    known = sources > 0
    torch.testing.assert_close(colors(expert)[known], before[sources[known] - 1])
    assert not torch.isin(colors(expert)[~known], before).any()


class TestSources:
    def build(self):
        grow = STGRecipeConfig(densification=DensificationConfig(min_observations=1))
        expert, recipe, _ = recipe_runs.build("stg", recipe_config=grow)
        expert.gauss_params["sh0"].data[:, 0, 0] = torch.arange(20.0)
        return expert, recipe

    def test_clones_children_and_what_is_left_know_where_they_come_from(self):
        expert, recipe = self.build()
        statistics = recipe.densifier.statistics
        statistics["counts"][:] = 2.0
        statistics["gradients"][5:13] = 1.0
        expert.gauss_params["scales"].data[5:9] = -9.0
        expert.gauss_params["opacities"].data[:3] = -9.0
        before, told = colors(expert), []
        with track_parents(recipe, told.append):
            recipe.densifier.grow()
            recipe.densifier.prune()
        # 4 clones, 4 split into 8, 3 removed.
        assert expert.num_gaussians == 20 + 4 + 4 - 3
        assert_told(before, expert, told)
        assert PARENT not in recipe.densifier.statistics

    def test_new_rows_come_from_nowhere(self):
        expert, recipe = self.build()
        recipe.densifier.reset_statistics()
        before, told = colors(expert), []
        with track_parents(recipe, told.append):
            rows = expert.initial_parameters(
                InitialPoints(torch.rand(3, 3), torch.full((3, 3), 9.0)), expert.scene
            )
            recipe.densifier.append(rows)
            recipe.densifier.reset_statistics()
        assert told[0].tolist() == [*range(1, 21), 0, 0, 0]
        assert_told(before, expert, told)

    def test_nothing_is_told_while_nothing_changes(self):
        expert, recipe = self.build()
        told = []
        with track_parents(recipe, told.append):
            expert.gauss_params["means"].data += 1.0
        assert not told

    def test_rows_that_somebody_else_rewrote_are_unknown(self):
        expert, recipe = self.build()
        told = []
        with track_parents(recipe, told.append):
            expert.gauss_params.select_(torch.arange(20) > 4)
        assert told[0].tolist() == [0] * 15

    def test_conversions_and_both_kinds_of_rows(self):
        """Of Ex4DGS: rows move from the static to the dynamic ones, which come last."""
        expert, recipe, _ = ex4dgs_helpers.build(30, dynamic=8)
        static, dynamic = expert.gauss_params, expert.key_gauss_params
        static["sh0"].data[:, 0, 0] = torch.arange(30.0)
        dynamic["sh0"].data[:, 0, 0] = 100.0 + torch.arange(8.0)
        static["displacements"].data[:] = 0.0
        static["displacements"].data[:15] = 0.3
        recipe.densifier.statistics["best_frames"][:] = 4.0
        recipe.dynamic.statistics["counts"][:] = 30.0
        recipe.dynamic.statistics["gradients"][2:5] = 30.0
        recipe.config.conversion.fraction = 1.0
        before, told = colors(expert), []
        with track_parents(recipe, told.append):
            assert recipe.convert(drawn(expert)) > 0
            recipe.dynamic.grow()
        assert expert.num_gaussians > 38
        assert_told(before, expert, told)
        assert (told[0] > 0).all()


class TestFollowing:
    def test_weights_and_moments_follow(self):
        rows = GaussianParams({"w": torch.tensor([1.0, 2.0, 3.0])})
        optimizer = torch.optim.RAdam([rows["w"]], lr=0.0)
        rows["w"].grad = torch.tensor([1.0, 2.0, 3.0])
        optimizer.step()
        before = next(iter(optimizer.state.values()))["exp_avg"].clone()
        take_from_parents(rows, [optimizer], torch.tensor([3, 0, 1, 1]), {"w": 0.9})
        assert rows["w"].tolist() == pytest.approx([3.0, 0.9, 1.0, 1.0])
        assert optimizer.param_groups[0]["params"] == [rows["w"]]
        ((parameter, state),) = optimizer.state.items()
        assert parameter is rows["w"] and float(state["step"]) == 1.0
        expected = torch.stack([before[2], torch.zeros(()), before[0], before[0]])
        torch.testing.assert_close(state["exp_avg"], expected)

    def test_from_nothing_and_to_nothing(self):
        rows = GaussianParams({"w": torch.zeros(0)})
        take_from_parents(rows, [], torch.tensor([0, 0]), {"w": 0.9})
        assert rows["w"].tolist() == pytest.approx([0.9, 0.9])
        take_from_parents(rows, [], torch.tensor([], dtype=torch.long), {"w": 0.9})
        assert len(rows["w"]) == 0


def joint(count: int, router: RouterConfig) -> tuple[Mixture, JointRecipe, dict]:
    """Experts of one family that are trained together, with their optimisers."""
    described = scene()
    experts = [
        STGExpertConfig(near=0.0).setup(scene=described, points=cloud(20 + k)) for k in range(count)
    ]
    counts = [expert.num_gaussians for expert in experts]
    mixture = mixture_of(experts, router.setup(scene=described, counts=counts), 1.0)
    mixture.thaw()
    recipes = {
        f"stg_{k}": STGRecipeConfig().setup(expert=expert, budget=1.0, seed=k)
        for k, expert in enumerate(experts)
    }
    recipe = JointRecipe(RouterRecipeConfig().setup(seed=0), recipes, mixture)
    optimizers = {
        name: torch.optim.Adam(parameters, lr=1e-3)
        for name, parameters in recipe.parameter_groups().items()
    }
    recipe.attach(optimizers, {})
    recipe.make_sampler(table())
    return mixture, recipe, optimizers


def test_only_thawed_experts_are_trained():
    mixture, _, _ = joint(2, VolumeAwarePixelRouterConfig())
    assert all(p.requires_grad for p in mixture.parameters())
    assert all(expert.training for expert in mixture.train().experts)
    keep = [torch.ones(expert.num_gaussians, dtype=torch.bool) for expert in mixture.experts]
    pruned = prune(mixture, keep)
    assert not any(p.requires_grad for p in pruned.expert_modules.parameters())
    assert not any(expert.training for expert in pruned.train().experts)


class TestJointRecipe:
    @pytest.mark.parametrize("router", [VolumeAwarePixelRouterConfig(), PixelRouterConfig()])
    @pytest.mark.parametrize("count", [1, 3])
    def test_weights_have_the_rows_of_their_experts(self, router: RouterConfig, count: int):
        mixture, recipe, _ = joint(count, router)
        expert, own = mixture.experts[0], recipe.experts["stg_0"]
        if isinstance(router, VolumeAwarePixelRouterConfig):
            mixture.router.gaussian_weights[0]["w"].data = torch.arange(20.0)
        own.densifier.statistics["counts"][:] = 30.0
        own.densifier.statistics["gradients"][7] = 30.0
        recipe.before_step(599)
        parts = [drawn(each) for each in mixture.experts]
        recipe.after_step(599, parts)
        assert expert.num_gaussians == 21
        for rows in mixture.router.gaussian_weights[0].values():
            assert len(rows) == 21
        if isinstance(router, VolumeAwarePixelRouterConfig):
            assert mixture.router.gaussian_weights[0]["w"].tolist().count(7.0) == 2

    def test_images_of_experts_are_compared_with_nothing(self):
        mixture, recipe, _ = joint(2, VolumeAwarePixelRouterConfig())
        parts = [drawn(each) for each in mixture.experts]
        image = parts[0].target[0] + 0.1
        losses = recipe.loss_terms(0, parts, image)
        assert set(losses) == {"photometric", "regularizers_stg_0", "regularizers_stg_1"}
        assert float(losses["regularizers_stg_0"]) == 0.0 < float(losses["photometric"])

    def test_rates_are_scaled_by_the_extent_once(self):
        _, recipe, optimizers = joint(2, VolumeAwarePixelRouterConfig())
        for _ in range(2):
            recipe.attach(optimizers, {})
        rates = {name: group.param_groups[0]["lr"] for name, group in optimizers.items()}
        assert rates["stg_1.means"] == pytest.approx(2e-3)
        assert rates["stg_1.quats"] == rates["router_weights"] == pytest.approx(1e-3)

    def test_spacetime_gaussians_are_guided_whoever_chooses_the_images(self):
        config = STGRecipeConfig()
        config.guided_sampling.start = 0
        expert, recipe, _ = recipe_runs.build("stg", recipe_config=config)
        recipe.share_images(table())
        assert recipe.sampler is None and recipe.guided is not None
        recipe.after_backward(0, [drawn(expert)])

    def test_the_clip_of_ex4dgs_is_drawn_from_the_first_step_on(self):
        expert, recipe, _ = ex4dgs_helpers.build()
        assert expert.duration == 10.0
        recipe.sampler = None
        recipe.share_images(table())
        assert expert.duration == 30.0
        recipe.after_step(recipe.config.growth.after + 299)
        assert recipe.is_armed and expert.duration == 30.0


def test_what_only_a_training_of_its_own_gives_is_refused():
    model = all_methods["moegs-stg"].pipeline.model
    check_trains_jointly("stg", model)
    with pytest.raises(ValueError, match="stg asks for corrections of cameras; switch that off"):
        check_trains_jointly("stg", replace(model, color_correction=True))
    with pytest.raises(ValueError, match="stg asks for honest cameras; switch that off"):
        check_trains_jointly("stg", replace(model, honest=HonestConfig(cameras="auto")))


def test_nothing_of_pruning_is_offered():
    """A finished run is pruned by moegs-router."""
    assert not JointModelConfig().prune.is_asked
