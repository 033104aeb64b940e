"""What the tests of the tracked expert share: walls, a ball that crosses the scene, a recipe."""

import torch
from training_helpers import cloud, scene, table

from moegs_ns.experts.tracked.expert import TrackedExpert, TrackedExpertConfig
from moegs_ns.experts.tracked.recipe import TrackedRecipe, TrackedRecipeConfig
from moegs_ns.scene import InitialPoints, SceneInfo

STATIC, DYNAMIC = 30, 12
KEYS = (0, 10, 20, 30)
"""Frames that have seeds."""
VELOCITY = torch.tensor([1.2, -0.3, 0.0])
"""World units per second."""


def middle(frame: float) -> torch.Tensor:
    """Of the ball, in front of the cameras of `make_view`."""
    return torch.tensor([-0.5, 0.1, 3.5]) + frame / 30.0 * VELOCITY


def around(radius: float = 0.15) -> torch.Tensor:
    half = torch.randn(DYNAMIC // 2, 3, generator=torch.Generator().manual_seed(1))
    return radius * torch.nn.functional.normalize(torch.cat([half, -half]), dim=-1)


def seeded(keys: tuple[int, ...] = KEYS, static: int = STATIC) -> InitialPoints:
    """Walls, and behind them the ball's seeds of each key frame of a clip of 31 frames."""
    walls, count = cloud(static), len(keys) * DYNAMIC
    times = torch.tensor(keys).repeat_interleave(DYNAMIC) / 30.0
    return InitialPoints(
        xyz=torch.cat([walls.xyz, *(middle(frame) + around() for frame in keys)]),
        rgb=torch.cat([walls.rgb, torch.tensor([0.9, 0.1, 0.1]).repeat(count, 1)]),
        times=torch.cat([torch.full((static,), torch.nan), times]),
        velocities=torch.cat([torch.zeros(static, 3), VELOCITY.repeat(count, 1)]),
    )


def build(
    points: InitialPoints | None = None,
    *,
    budget: float = 1.0,
    described: SceneInfo | None = None,
    rate: float = 1e-3,
    key_interval: int = 1,
    sh_degree: int = 0,
    **options,
):
    """An expert with its recipe, sampler and optimisers, which have moments for every row."""
    described = described or scene()
    config = TrackedExpertConfig(near=0.0, key_interval=key_interval, sh_degree=sh_degree)
    points = seeded() if points is None else points
    expert: TrackedExpert = config.setup(scene=described, points=points)
    recipe: TrackedRecipe = TrackedRecipeConfig(**options).setup(
        expert=expert, budget=budget, seed=0
    )
    recipe.make_sampler(table(described.num_frames))
    optimizers: dict[str, torch.optim.Optimizer] = {
        name: torch.optim.Adam(parameters, lr=rate, eps=1e-15)
        for name, parameters in recipe.parameter_groups().items()
    }
    recipe.attach(optimizers)
    for parameter in expert.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    for optimizer in optimizers.values():
        optimizer.step()
    return expert, recipe, optimizers
