"""Clocks of training cameras that are learned: who gets them, and that they are found."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from ex4dgs_helpers import build
from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig

from moegs_ns.cameras import View
from moegs_ns.experts.base import Expert
from moegs_ns.experts.ed3dgs.expert import ED3DGSExpertConfig
from moegs_ns.experts.ex4dgs.expert import Ex4DGSExpertConfig
from moegs_ns.experts.fourdgaussians.expert import HexPlaneExpertConfig
from moegs_ns.experts.freetime.expert import FreeTimeExpertConfig
from moegs_ns.experts.stg.expert import STGExpertConfig
from moegs_ns.experts.tracked.expert import TrackedExpertConfig
from moegs_ns.models.camera_corrections import CameraCorrections, ExpertCorrections, Learned
from moegs_ns.scene import InitialPoints, SceneInfo

OFF = CameraOptimizerConfig()
CAMERAS, FRAMES, WIDTH, HEIGHT = 3, 6, 24, 18
LATE, STEPS, SPOTS = 0.4, 600, 12
SCENE = SceneInfo(FRAMES, 30.0, (0.0, 0.0, 0.0), 2.0, None, tuple(range(CAMERAS)))


def view_of(camera: int, frame: float) -> View:
    """One of three cameras side by side that look along z."""
    viewmat = torch.eye(4)
    viewmat[0, 3] = 0.5 * (camera - 1)
    K = torch.tensor([[22.0, 0, WIDTH / 2], [0, 22.0, HEIGHT / 2], [0, 0, 1]])
    ids = torch.tensor([camera]), torch.tensor([round(frame)])
    times = torch.tensor([frame / (FRAMES - 1)])
    return View(viewmat[None], K[None], WIDTH, HEIGHT, times, *ids)


def points() -> InitialPoints:
    generator = torch.Generator().manual_seed(0)
    xyz = torch.rand(SPOTS, 3, generator=generator) * torch.tensor([2.4, 1.8, 0.8])
    return InitialPoints(
        xyz + torch.tensor([-1.2, -0.9, 3.0]),
        torch.rand(SPOTS, 3, generator=generator),
        torch.zeros(SPOTS, dtype=torch.long),
    )


def truth(frame: float) -> torch.Tensor:
    """Spots that go a pixel a frame in all directions: if all went along the rig, a late camera
    would look like one that sees them at another depth."""
    cloud = points()
    count = len(cloud)
    angle = 2.4 * torch.arange(count)
    step = 0.12 * torch.stack([angle.cos(), angle.sin(), torch.zeros(count)], 1)
    return cloud.xyz + frame * step


def stg() -> Expert:
    return STGExpertConfig(sh_degree=0, color="sh").setup(scene=SCENE, points=points())


def ex4dgs() -> Expert:
    return Ex4DGSExpertConfig(sh_degree=0).setup(scene=SCENE, points=points())


def ed3dgs() -> Expert:
    config = ED3DGSExpertConfig(sh_degree=0, time_spread=1.0, width=32)
    expert = config.setup(scene=SCENE, points=points())
    expert.weights.fill_(1.0)
    return expert


def hexplane() -> Expert:
    config = HexPlaneExpertConfig(
        sh_degree=0, width=32, space_resolution=8, levels=(1,), full_time_range=True
    )
    expert = config.setup(scene=SCENE, points=points())
    expert.is_deforming = True
    return expert


def freetime() -> Expert:
    return FreeTimeExpertConfig(sh_degree=0, lives_per_point=1).setup(scene=SCENE, points=points())


def tracked() -> Expert:
    # All go straight on, which few keys learn sooner.
    return TrackedExpertConfig(key_interval=5).setup(scene=SCENE, points=points())


FAST = ("motion", "velocities")
"""What the names of parameters end with that need higher rates."""
FAMILIES = {
    "stg": stg, "ex4dgs": ex4dgs, "ed3dgs": ed3dgs, "4dgaussians": hexplane,
    "freetime": freetime, "tracked": tracked,
}  # fmt: skip


def corrections(**options: Any) -> CameraCorrections:
    return CameraCorrections(OFF, False, SCENE, has_time_offsets=True, **options)


@pytest.mark.parametrize("family", FAMILIES)
def test_gaussians_are_differentiable_in_time(family: str):
    """Whatever moves: positions, rotations and opacities, compared with finite differences."""
    torch.manual_seed(0)
    expert = build(8, 4, described=SCENE)[0] if family == "ex4dgs" else FAMILIES[family]()
    expert = expert.double().requires_grad_(False)
    for value in expert.parameters():
        value.add_(torch.randn_like(value), alpha=0.1)

    def at(time: torch.Tensor) -> tuple[torch.Tensor, ...]:
        gaussians = expert.at(time)
        return gaussians.means, gaussians.quats, gaussians.opacities

    time = torch.tensor(0.43, dtype=torch.float64, requires_grad=True)
    # Gaussians of FreeTimeGS do not turn.
    for wanted in at(time)[: 1 if family == "freetime" else 2]:
        (slope,) = torch.autograd.grad(wanted.square().sum(), time, retain_graph=True)
        assert slope != 0.0
    assert torch.autograd.gradcheck(at, time, eps=1e-6, atol=1e-6, rtol=1e-4)


def seen(means: torch.Tensor, view: View) -> torch.Tensor:
    """Where a camera sees points, in pixels."""
    local = means @ view.viewmats[0, :3, :3].T + view.viewmats[0, :3, 3]
    flat = local @ view.Ks[0].T
    return flat[:, :2] / flat[:, 2:]


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_late_camera_is_found(family: str):
    """Motion and clocks are learned together from where the cameras see the spots."""
    torch.manual_seed(0)
    expert, learned = FAMILIES[family](), corrections()
    targets = {
        (camera, frame): seen(truth(frame + LATE * (camera == 2)), view_of(camera, frame))
        for camera in range(CAMERAS)
        for frame in range(FRAMES)
    }
    # One family counts motion in clips of 50 frames, one in seconds.
    fast = [value for name, value in expert.named_parameters() if name.endswith(FAST)]
    slow = [value for name, value in expert.named_parameters() if not name.endswith(FAST)]
    groups = [
        {"params": slow, "lr": 5e-3},
        {"params": fast, "lr": 0.2},
        {"params": learned.parameter_groups()["camera_clock"], "lr": 0.01},
    ]
    optimizer = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.05 ** (1 / STEPS))
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        camera, frame = (
            int(torch.randint(end, (), generator=generator)) for end in (CAMERAS, FRAMES)
        )
        view = learned.corrected(view_of(camera, frame))
        loss = (seen(expert.at(view.time).means, view) - targets[camera, frame]).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    first, second, third = learned.time_offsets().tolist()
    assert third - (first + second) / 2 == pytest.approx(LATE, abs=0.1)
    assert first == pytest.approx(second, abs=0.1)


def test_the_mean_of_all_clocks_stays():
    learned = corrections()
    assert learned.times is not None
    learned.times.data = torch.tensor([1.0, 2.0, 6.0])
    torch.testing.assert_close(learned.time_offsets(), torch.tensor([-2.0, -1.0, 3.0]))
    assert learned.record() == {"time_offsets_in_frames": {"0": -2.0, "1": -1.0, "2": 3.0}}
    times = learned.corrected(view_of(1, 2.0)).times
    torch.testing.assert_close(times, torch.tensor([1.0 / (FRAMES - 1)]))
    # Within the clip.
    assert float(learned.corrected(view_of(2, 4.0)).times) == 1.0


def test_routers_see_each_expert_by_its_own_clock():
    alone = corrections()
    assert alone.times is not None
    alone.times.data = torch.tensor([0.5, -0.5, 0.0])
    both: Any = ExpertCorrections([Learned(has_time_offsets=True), Learned()], SCENE)
    state = {f"corrections.{name}": value for name, value in alone.state_dict().items()}
    both.load(0, [state], "a run")
    view = view_of(0, 2.0)
    first, second = both.views(view)
    torch.testing.assert_close(first.times, view.times + 0.5 / (FRAMES - 1))
    assert second.times is view.times
    # A camera that was not trained on shows the time that it says.
    held_out = replace(view, camera_ids=torch.tensor([9]))
    assert [each.times is held_out.times for each in both.views(held_out)] == [True, True]


def test_without_the_option_nothing_is_there():
    learned = CameraCorrections(OFF, False, SCENE)
    view = view_of(0, 2.0)
    assert learned.corrected(view) is view and not learned.is_on
    assert "times" not in learned.state_dict() and learned.record() == {}
