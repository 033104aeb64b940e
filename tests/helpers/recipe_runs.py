"""Experts with their recipes and optimisers."""

import torch

from moegs_ns.experts.ed3dgs.expert import ED3DGSExpertConfig
from moegs_ns.experts.ed3dgs.recipe import ED3DGSRecipeConfig
from moegs_ns.experts.fourdgaussians.expert import HexPlaneExpertConfig
from moegs_ns.experts.fourdgaussians.recipe import HexPlaneRecipeConfig
from moegs_ns.experts.freetime.expert import FreeTimeExpertConfig
from moegs_ns.experts.freetime.recipe import FreeTimeRecipeConfig
from moegs_ns.experts.stg.expert import STGExpertConfig
from moegs_ns.experts.stg.recipe import STGRecipeConfig
from moegs_ns.scene import InitialPoints, SceneInfo

SCENE = SceneInfo(num_frames=11, fps=30.0, center=(0.0, 0.0, 0.0), extent=2.0, background=None)
FAMILIES = {
    "stg": (STGExpertConfig(), STGRecipeConfig()),
    "4dgaussians": (HexPlaneExpertConfig(space_resolution=8), HexPlaneRecipeConfig()),
    "ed3dgs": (ED3DGSExpertConfig(), ED3DGSRecipeConfig()),
    "freetime": (FreeTimeExpertConfig(lives_per_point=1), FreeTimeRecipeConfig()),
}


def build(family: str, budget: float = 1.0, count: int = 20, recipe_config=None):
    """An expert with its recipe and optimisers that have taken one step."""
    torch.manual_seed(0)
    expert_config, default = FAMILIES[family]
    points = InitialPoints(torch.rand(count, 3), torch.rand(count, 3))
    expert = expert_config.setup(scene=SCENE, points=points)
    recipe = (recipe_config or default).setup(expert=expert, budget=budget, seed=0)
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
