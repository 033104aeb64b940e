"""Motion of experts: analytic trajectories and how Gaussians are chosen."""

import math

import pytest
import torch
from torch import Tensor

from moegs_ns.evaluation.motion import (
    MIN_OPACITY,
    analyse_motion,
    choose_moving,
    neighbours,
    path_lengths,
    state_at,
    trace,
)
from moegs_ns.experts.base import Expert, ExpertConfig
from moegs_ns.gaussians import Gaussians
from moegs_ns.scene import InitialPoints, SceneInfo

FRAMES, EXTENT = 41, 4.0
TIMES = torch.linspace(0, 1, FRAMES)


class Driven(Expert):
    """Points that follow a function of position and time; the second half may be hidden."""

    def drive(self, path, opacity: float = 1.0, with_ids: bool = False) -> "Driven":
        self.path, self.late_opacity, self.with_ids = path, opacity, with_ids
        return self

    def at(self, time: Tensor, camera: Tensor | None = None) -> Gaussians:
        means = self.path(self.gauss_params["means"], time)
        count = len(means)
        opacities = torch.full((count,), 0.9)
        opacities[count // 2 :] = self.late_opacity
        whole = Gaussians(means, torch.eye(4)[:1].repeat(count, 1), torch.ones(count, 3), opacities,
                          torch.zeros(count, 1, 3))  # fmt: skip
        return whole.select(torch.arange(0, count, 2)) if self.with_ids else whole


def expert(path, count: int = 60, **options) -> Driven:
    scene = SceneInfo(FRAMES, 30.0, (0.0, 0.0, 0.0), EXTENT, None)
    generator = torch.Generator().manual_seed(0)
    cloud = InitialPoints(torch.rand(count, 3, generator=generator), torch.zeros(count, 3))
    return Driven(ExpertConfig(), scene, cloud).drive(path, **options)


def straight(means: Tensor, time: Tensor) -> Tensor:
    return means + time * torch.tensor([2.0, 0.0, 0.0])


def circle(means: Tensor, time: Tensor) -> Tensor:
    """A quarter of a circle of radius 2 about the z axis through each point's own centre."""
    angle = 0.5 * math.pi * time
    return means + 2.0 * torch.stack([angle.cos(), angle.sin(), torch.zeros(())])


def apart(means: Tensor, time: Tensor) -> Tensor:
    """Every point in its own direction, too little to sort the cloud by directions."""
    generator = torch.Generator().manual_seed(3)
    directions = torch.randn(means.shape, generator=generator)
    return means + 0.05 * time * torch.nn.functional.normalize(directions, dim=-1)


def analyse(driven: Driven, count: int = 30):
    return analyse_motion(driven, TIMES, count, torch.Generator().manual_seed(1))[0]


@torch.no_grad()
def test_straight_motion_together():
    report = analyse(expert(straight))
    assert report.gaussians == 60 and report.chosen == 30 and report.moving_share == 1.0
    assert report.frames_per_step == 1.0
    assert report.speed == pytest.approx(2.0 / EXTENT / (FRAMES - 1), rel=1e-4)
    assert report.fast_speed == pytest.approx(report.speed, rel=1e-3)
    assert report.turn_degrees == pytest.approx(0.0, abs=0.01)
    assert report.coherence == pytest.approx(1.0, abs=1e-5)
    assert report.difference == pytest.approx(0.0, abs=1e-4)


@torch.no_grad()
def test_a_circle_has_the_curvature_of_its_radius():
    report = analyse(expert(circle))
    assert report.turn_degrees == pytest.approx(90.0 / (FRAMES - 1), rel=1e-3)
    assert report.curvature == pytest.approx(EXTENT / 2.0, rel=1e-3)


@torch.no_grad()
def test_free_motion_is_incoherent():
    report = analyse(expert(apart, count=400), count=200)
    assert abs(report.coherence) < 0.2 and report.difference > 0.5


@torch.no_grad()
def test_a_still_expert_has_no_figures_but_its_counts():
    report = analyse(expert(lambda means, time: means))
    assert report.moving_share == 0.0 and report.chosen == 0
    assert math.isnan(report.speed) and math.isnan(report.coherence)
    assert math.isnan(report.turn_degrees)


@torch.no_grad()
def test_no_gaussians_at_all():
    report = analyse(expert(straight, count=0))
    assert report.gaussians == 0 and report.chosen == 0 and math.isnan(report.moving_share)


@torch.no_grad()
def test_hidden_gaussians_do_not_count():
    driven = expert(straight, opacity=MIN_OPACITY / 2)
    lengths = path_lengths(driven, TIMES)
    torch.testing.assert_close(lengths[:30], torch.full((30,), 2.0))
    assert (lengths[30:] == 0).all()
    report = analyse(driven, count=100)
    assert report.chosen == 30 and report.moving_share == 0.5


@torch.no_grad()
def test_experts_that_show_some_rows_only():
    """Rows are those of the full set, whatever is visible at a time."""
    driven = expert(straight, with_ids=True)
    means, shown = state_at(driven, TIMES[0])
    assert means.shape == (60, 3) and shown[::2].all() and not shown[1::2].any()
    paths = trace(driven, TIMES, torch.tensor([0, 4]))
    torch.testing.assert_close(paths.means[0], driven.gauss_params["means"][[0, 4]])
    assert paths.is_visible.all()


def test_chosen_gaussians_move_and_the_choice_is_seeded():
    lengths = torch.cat([torch.zeros(50), torch.full((50,), 0.1), torch.full((50,), 10.0)])

    def choose(seed: int) -> Tensor:
        return choose_moving(lengths, 40, torch.Generator().manual_seed(seed))

    rows = choose(0)
    assert len(rows.unique()) == 40 and (rows >= 50).all()
    assert (rows >= 100).sum() > 30, "long paths are more probable"
    assert torch.equal(rows, choose(0)) and not torch.equal(rows, choose(1))
    everything = choose_moving(lengths, 1000, torch.Generator().manual_seed(0))
    assert everything.tolist() == list(range(50, 150))


def test_neighbours_leave_out_the_point_itself():
    points = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [3.0, 0, 0], [10.0, 0, 0]])
    assert neighbours(points, points[:2]).tolist() == [[1, 2, 3], [0, 2, 3]]


@torch.no_grad()
@pytest.mark.parametrize("num_times", [41, 11, 3])
def test_speed_is_per_frame_however_few_times_are_looked_at(num_times: int):
    """2 world units in 40 frames of an extent of 4: 1/80 extents a frame, neither per step of
    several frames nor per second."""
    times = torch.linspace(0, 1, num_times)
    report = analyse_motion(expert(straight), times, 30, torch.Generator().manual_seed(1))[0]
    assert report.frames_per_step == pytest.approx(40 / (num_times - 1))
    assert report.speed == pytest.approx(1 / 80, rel=1e-4)
    assert report.fast_speed == pytest.approx(1 / 80, rel=1e-4)
