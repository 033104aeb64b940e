"""What the tests of Ex4DGS share: a small expert with its recipe, and one drawn image."""

import torch
from tolerances import FORWARD
from training_helpers import cloud, drawn, scene, table

from moegs_ns.experts.ex4dgs.expert import Ex4DGSExpertConfig
from moegs_ns.experts.ex4dgs.recipe import Ex4DGSRecipeConfig
from moegs_ns.scene import SceneInfo

STATIC, DYNAMIC = 30, 12


def build(
    static: int = STATIC,
    dynamic: int = 0,
    *,
    budget: float = 1.0,
    described: SceneInfo | None = None,
    rate: float = 1e-3,
    size: float = 1.0,
    **options,
):
    """An expert with its recipe, sampler and optimisers, which have moments for every row."""
    described = described or scene(extent=2.0 * size)
    expert_options = options.pop("expert", {})
    config = Ex4DGSExpertConfig(near=0.0, **expert_options)
    expert = config.setup(scene=described, points=cloud(static + dynamic, size))
    recipe = Ex4DGSRecipeConfig(**options).setup(expert=expert, budget=budget, seed=0)
    recipe.make_sampler(table(described.num_frames))
    optimizers = {
        name: torch.optim.RAdam(
            parameters, lr=rate * (described.extent if name in recipe.extent_groups else 1.0)
        )
        for name, parameters in recipe.parameter_groups().items()
    }
    recipe.attach(optimizers)
    if dynamic:
        displacements = expert.gauss_params["displacements"]
        displacements.data[static:] = 0.2 * torch.rand(
            dynamic, 3, generator=torch.Generator().manual_seed(1)
        )
        recipe.densifier.statistics["best_frames"][:] = 4.0
        recipe.config.conversion.fraction = 1.0
        assert recipe.convert(drawn(expert)) == dynamic
        recipe.config.conversion.fraction = 0.02
    for parameter in expert.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    for optimizer in optimizers.values():
        optimizer.step()
    return expert, recipe, optimizers


def assert_consistent(expert, recipe, optimizers):
    """Parameters, optimisers, moments and statistics agree on identity and number of rows."""
    kinds = (("", expert.gauss_params), ("dynamic_", expert.key_gauss_params))
    for (prefix, rows), densifier in zip(kinds, recipe.densifiers, strict=True):
        assert densifier.parameters is rows
        for name, parameter in rows.items():
            optimizer = optimizers[prefix + name]
            assert optimizer.param_groups[0]["params"][0] is parameter, prefix + name
            assert set(optimizer.state) <= {parameter}, prefix + name
            assert parameter.shape[0] == rows.num_rows
            for key, value in optimizer.state[parameter].items():
                assert key == "step" or value.shape == parameter.shape, (prefix + name, key)
        assert all(len(value) == rows.num_rows for value in densifier.statistics.values())
    assert expert.key_gauss_params.num_keys == expert.key_gauss_params["quats"].shape[1]


def moments(optimizers, name: str) -> torch.Tensor:
    (state,) = optimizers[name].state.values()
    return state["exp_avg"]


def assert_same_gaussians(one, other):
    for name in ("means", "scales", "opacities", "sh"):
        FORWARD.assert_close(getattr(one, name), getattr(other, name), name)
    same = (one.quats * other.quats).sum(-1).abs()
    torch.testing.assert_close(same, torch.ones(len(one)))
