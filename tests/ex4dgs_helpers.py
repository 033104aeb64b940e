"""What the tests of Ex4DGS share: a small expert with its recipe, and one drawn image."""

from dataclasses import replace

import torch
from tolerances import FORWARD
from toys import make_view

from moegs_ns.experts.ex4dgs import Ex4DGSExpertConfig
from moegs_ns.mixture import finish_image
from moegs_ns.recipes.ex4dgs import Ex4DGSRecipeConfig
from moegs_ns.recipes.training_splat import TrainingSplat
from moegs_ns.scene import FrameTable, InitialPoints, SceneInfo
from moegs_ns.splatting import splat

FRAMES = 31
STATIC, DYNAMIC = 30, 12


def scene(num_frames: int = FRAMES, **options) -> SceneInfo:
    described = SceneInfo(num_frames, 30.0, (0.0, 0.0, 0.0), 2.0, None)
    return replace(described, **options)


def cloud(count: int, size: float = 1.0) -> InitialPoints:
    """Points in front of the cameras of `make_view`."""
    generator = torch.Generator().manual_seed(0)
    xyz = torch.rand(count, 3, generator=generator) * torch.tensor([2.0, 1.5, 1.0])
    xyz = xyz + torch.tensor([-1.0, -0.7, 3.0])
    return InitialPoints(size * xyz, torch.rand(count, 3, generator=generator))


def table(num_frames: int = FRAMES, cameras: int = 2) -> FrameTable:
    frames = torch.arange(num_frames).repeat(cameras)
    camera_ids = torch.arange(cameras).repeat_interleave(num_frames)
    return FrameTable(camera_ids, frames, frames / max(1, num_frames - 1))


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
        recipe.config.conversion.share = 1.0
        assert recipe.convert(drawn(expert)) == dynamic
        recipe.config.conversion.share = 0.02
    for parameter in expert.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    for optimizer in optimizers.values():
        optimizer.step()
    return expert, recipe, optimizers


def drawn(expert, frame: int = 5, index: int = 0, **view_options) -> TrainingSplat:
    """One view of the expert at a frame; its target is a ramp of grey."""
    time = frame / max(1, expert.scene.num_frames - 1)
    view = make_view(1, **view_options)
    view = replace(view, times=torch.tensor([time]), frame_ids=torch.tensor([frame]))
    gaussians = expert.at(view.time)
    result = splat(gaussians, view)
    if result.means2d.requires_grad:
        result.means2d.retain_grad()
    image = finish_image(expert, result, view, expert.background)
    target = torch.linspace(0.1, 0.9, view.width)[:, None].expand(image.shape).clone()
    return TrainingSplat(gaussians, result, view, image, target, torch.tensor([index]))


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
