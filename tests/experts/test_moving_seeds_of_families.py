"""What each family makes of moving seeds: they are where the thing is, when it is there."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from moegs_ns.experts.base import Expert, ExpertConfig
from moegs_ns.experts.ed3dgs.expert import ED3DGSExpertConfig
from moegs_ns.experts.ex4dgs.expert import Ex4DGSExpert, Ex4DGSExpertConfig
from moegs_ns.experts.ex4dgs.recipe import Ex4DGSRecipe, Ex4DGSRecipeConfig
from moegs_ns.experts.fourdgaussians.expert import HexPlaneExpert, HexPlaneExpertConfig
from moegs_ns.experts.freetime.expert import FreeTimeExpertConfig
from moegs_ns.experts.freetime.lives import LifeName
from moegs_ns.experts.stg.expert import STGExpertConfig
from moegs_ns.experts.stg.recipe import STGRecipe, STGRecipeConfig
from moegs_ns.experts.tracked.expert import TrackedExpertConfig
from moegs_ns.scene import FrameTable, InitialPoints, SceneInfo

SCENE = SceneInfo(31, 30.0, (0.0, 0.0, 0.0), 4.0, None, camera_ids=(0, 1))
KEYS = (0, 10, 20, 30)
STATIC, BALL = 40, 12
CANONICAL = [HexPlaneExpertConfig, ED3DGSExpertConfig]
TRACKED = [TrackedExpertConfig]
TEMPORAL = [STGExpertConfig, Ex4DGSExpertConfig, FreeTimeExpertConfig]
FAMILIES = [*TEMPORAL, *CANONICAL, *TRACKED]


def ball(frame: float) -> Tensor:
    """Centre of a ball that crosses the scene in a second, a frame at a time by half its size."""
    return torch.tensor([-1.5, 0.5, 0.0]) + frame / 30.0 * torch.tensor([3.0, -1.0, 0.5])


def static_points() -> InitialPoints:
    generator = torch.Generator().manual_seed(0)
    xyz = 4.0 * torch.rand(STATIC, 3, generator=generator) - 2.0
    return InitialPoints(xyz, torch.full((STATIC, 3), 0.2))


def seeded_points() -> InitialPoints:
    """Walls and, behind them, a red ball at four key frames."""
    walls, generator = static_points(), torch.Generator().manual_seed(1)
    around = 0.1 * torch.randn(BALL, 3, generator=generator)
    around = 0.1 * torch.nn.functional.normalize(around - around.mean(0), dim=-1)
    count = len(KEYS) * BALL
    velocities = torch.tensor([3.0, -1.0, 0.5]).repeat(count, 1)
    return InitialPoints(
        xyz=torch.cat([walls.xyz, *(ball(frame) + around for frame in KEYS)]),
        rgb=torch.cat([walls.rgb, torch.tensor([0.9, 0.1, 0.1]).repeat(count, 1)]),
        times=torch.cat(
            [torch.full((STATIC,), torch.nan), torch.tensor(KEYS).repeat_interleave(BALL) / 30.0]
        ),
        velocities=torch.cat([torch.zeros(STATIC, 3), velocities]),
    )


def red_at(expert: Expert, frame: float) -> tuple[Tensor, Tensor]:
    """Centres and opacities of the red Gaussians at a frame."""
    shown = expert.at(torch.tensor(frame / 30.0))
    is_red = shown.sh[:, 0, 0] - shown.sh[:, 0, 1] > 1.0
    return shown.means[is_red].detach(), shown.opacities[is_red].detach()


def visible_middle(expert: Expert, frame: float) -> Tensor:
    means, opacities = red_at(expert, frame)
    return (means * opacities[:, None]).sum(0) / opacities.sum()


@pytest.mark.parametrize("family", [*TEMPORAL, *TRACKED])
@pytest.mark.parametrize("frame", [0, 3, 5, 10, 14, 22, 27, 30])
def test_seeds_follow_the_ball(family: type[ExpertConfig], frame: int):
    expert = family().setup(scene=SCENE, points=seeded_points())
    torch.testing.assert_close(visible_middle(expert, frame), ball(frame), atol=0.05, rtol=0)


@pytest.mark.parametrize("family", TEMPORAL)
def test_seeds_of_other_times_are_hardly_seen(family: type[ExpertConfig]):
    expert = family().setup(scene=SCENE, points=seeded_points())
    for frame in KEYS:
        means, opacities = red_at(expert, frame)
        is_now = (means - ball(frame)).norm(dim=1) < 0.11
        highest, rest = (0.5, 0.07) if family is FreeTimeExpertConfig else (0.1, 0.01)
        assert opacities[is_now].max() == pytest.approx(highest, abs=1e-4)
        others = opacities.reshape(len(KEYS), BALL)
        far = [row for row, key in enumerate(KEYS) if abs(key - frame) > 10]
        assert others[far].max() < rest


@pytest.mark.parametrize("family", CANONICAL)
def test_canonical_gaussians_show_the_ball_once(family: type[ExpertConfig]):
    expert = family().setup(scene=SCENE, points=seeded_points())
    assert expert.num_gaussians == STATIC + BALL
    canonical = expert.gauss_params["means"][STATIC:].detach()
    torch.testing.assert_close(canonical.mean(0), ball(0), atol=0.05, rtol=0)
    if isinstance(expert, HexPlaneExpert):
        # The box of the planes holds the whole way.
        assert (expert.aabb[1] >= ball(30)).all() and (expert.aabb[0] <= ball(0)).all()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("has_frames", [False, True])
def test_points_without_times_start_as_ever(family: type[ExpertConfig], has_frames: bool):
    """Walls are bit-equal with and without seeds behind them, and with times that say nothing."""
    frames = torch.arange(STATIC) % 31 if has_frames else None
    plain = replace(static_points(), frames=frames)
    silent = replace(
        plain, times=torch.full((STATIC,), torch.nan), velocities=torch.zeros(STATIC, 3)
    )
    starts = []
    for points in (plain, silent):
        torch.manual_seed(3)
        starts.append(family().setup(scene=SCENE, points=points).state_dict())
    assert starts[0].keys() == starts[1].keys()
    for name, value in starts[0].items():
        if isinstance(value, Tensor):
            assert torch.equal(value, starts[1][name]), name
    assert len(starts[0]["gauss_params.scales"]) % STATIC == 0


@pytest.mark.parametrize("family", [*TEMPORAL, *CANONICAL])
def test_walls_are_as_large_as_without_seeds(family: type[ExpertConfig]):
    """Neighbours of a wall are walls, those of a seed seeds of its time."""
    scene = replace(SCENE, extent=40.0)  # Sizes stay below their bound.
    with_seeds = family().setup(scene=scene, points=seeded_points())
    without = family().setup(scene=scene, points=static_points())
    assert torch.equal(
        with_seeds.gauss_params["scales"][:STATIC], without.gauss_params["scales"][:STATIC]
    )


@pytest.mark.parametrize("life", ["bell", "gated", "flat-top"])
def test_lives_of_seeds_begin_with_their_velocity(life: LifeName):
    """A third of a second away, with the seeds of that key frame alone."""
    expert = FreeTimeExpertConfig(life=life, lives_per_point=3).setup(
        scene=SCENE, points=seeded_points()
    )
    assert expert.num_gaussians == 3 * STATIC + len(KEYS) * BALL
    for frame in (3, 10, 14):
        means, _ = red_at(expert, frame)
        of_second = means.reshape(len(KEYS), BALL, 3)[1]
        torch.testing.assert_close(of_second.mean(0), ball(frame), atol=0.05, rtol=0)


def test_unknown_rates_leave_seeds_at_rest():
    expert = STGExpertConfig().setup(scene=replace(SCENE, fps=0.0), points=seeded_points())
    assert not expert.gauss_params["motion"].any()


def test_clones_of_seeds_stay_in_their_time():
    expert = STGExpertConfig().setup(scene=SCENE, points=seeded_points())
    recipe = STGRecipeConfig().setup(expert=expert, budget=1.0, seed=0)
    assert isinstance(recipe, STGRecipe)
    before = expert.gauss_params["time_centers"].detach().clone()
    recipe.redraw_time_centers(slice(0, expert.num_gaussians))
    after = expert.gauss_params["time_centers"].detach()
    assert torch.equal(after[STATIC:], before[STATIC:])
    assert not torch.isclose(after[:STATIC], before[:STATIC]).any()


def ex4dgs(frames: int = 31) -> tuple[Ex4DGSExpert, Ex4DGSRecipe]:
    scene = replace(SCENE, num_frames=frames)
    expert = Ex4DGSExpertConfig().setup(scene=scene, points=seeded_points())
    recipe = Ex4DGSRecipeConfig().setup(expert=expert, budget=1.0, seed=0)
    optimizers = {
        name: torch.optim.Adam(group, lr=1e-3) for name, group in recipe.parameter_groups().items()
    }
    recipe.attach(optimizers)
    return expert, recipe


def test_dynamic_seeds_appear_with_their_frames():
    expert, recipe = ex4dgs()
    assert expert.duration == 10.0 and expert.is_at_start
    assert (expert.num_static, expert.num_dynamic) == (STATIC, 2 * BALL)
    torch.testing.assert_close(visible_middle(expert, 10), ball(10), atol=0.05, rtol=0)
    recipe.grow(20)
    assert expert.num_dynamic == 3 * BALL
    assert all(len(values) == 3 * BALL for values in recipe.dynamic.statistics.values())
    assert (recipe.dynamic.statistics["best_frames"] == -1.0).all()
    recipe.grow(30)
    assert expert.num_dynamic == 4 * BALL
    for frame in (10, 20, 30):
        torch.testing.assert_close(visible_middle(expert, frame), ball(frame), atol=0.2, rtol=0)


def test_a_clip_that_is_shared_begins_with_all_seeds():
    expert, recipe = ex4dgs()
    recipe.share_images(FrameTable(torch.zeros(31).int(), torch.arange(31), torch.rand(31)))
    assert expert.num_dynamic == len(KEYS) * BALL and expert.is_at_start
    assert len(recipe.dynamic.statistics["gradients"]) == len(KEYS) * BALL


def test_where_everything_moves_all_begin_at_rest():
    points = seeded_points()
    expert = Ex4DGSExpertConfig().setup(scene=SCENE, points=points.select(points.is_moving))
    assert (expert.num_static, expert.num_dynamic) == (len(KEYS) * BALL, 0)
