"""What the tests of E-D3DGS share: a small expert with its recipe and optimisers."""

from typing import Any

import torch
from training_helpers import cloud, scene, table

from moegs_ns.experts.ed3dgs.expert import ED3DGSExpert, ED3DGSExpertConfig
from moegs_ns.experts.ed3dgs.recipe import ED3DGSRecipeConfig
from moegs_ns.scene import SceneInfo


def build_expert(count: int = 12, described: SceneInfo | None = None, **options) -> ED3DGSExpert:
    """An expert with small networks, whose embeddings of Gaussians and cameras all differ."""
    torch.manual_seed(0)
    small: dict[str, Any] = {"time_size": 24, "embedding_size": 6, "width": 16} | options
    config = ED3DGSExpertConfig(near=0.0, **small)
    expert = config.setup(scene=described or scene(), points=cloud(count))
    expert.gauss_params["embeddings"].data.normal_()
    expert.time_offsets.data.normal_(std=0.01)
    expert.time_grid.values.data.normal_()
    expert.active_sh_degree = 3
    return expert


def build(
    count: int = 30, *, budget: float = 1.0, rate: float = 1e-3, size: float = 1.0, **options
):
    """An expert as it is before training, with its recipe, sampler and optimisers."""
    torch.manual_seed(0)
    described = scene(extent=2.0 * size)
    config = ED3DGSExpertConfig(near=0.0, time_size=24, embedding_size=6, width=16)
    expert = config.setup(scene=described, points=cloud(count, size))
    recipe = ED3DGSRecipeConfig(**options).setup(expert=expert, budget=budget, seed=0)
    recipe.make_sampler(table(described.num_frames))
    optimizers = {
        name: torch.optim.Adam(
            parameters,
            lr=rate * (described.extent if name in recipe.extent_groups else 1.0),
            eps=1e-15,
        )
        for name, parameters in recipe.parameter_groups().items()
    }
    recipe.attach(optimizers)
    return expert, recipe, optimizers
