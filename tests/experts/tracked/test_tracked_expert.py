"""The tracked expert: the same Gaussians at all times, of which some move and turn."""

import math
from dataclasses import replace

import pytest
import torch
from tracked_helpers import DYNAMIC, KEYS, STATIC, around, build, middle, seeded
from training_helpers import cloud, drawn, scene

from moegs_ns.experts.base import initial_log_scales
from moegs_ns.experts.tracked.expert import TrackedExpert, TrackedExpertConfig
from moegs_ns.scene import InitialPoints


def expert_of(points: InitialPoints | None, interval: int = 1, **described) -> TrackedExpert:
    return TrackedExpertConfig(key_interval=interval).setup(scene=scene(**described), points=points)


def ball_at(expert: TrackedExpert, frame: float) -> torch.Tensor:
    time = torch.tensor(frame / (expert.scene.num_frames - 1))
    return expert.at(time).means[expert.num_static :].detach().mean(0)


@pytest.mark.parametrize("interval", [1, 4, 10])
@pytest.mark.parametrize("keys", [KEYS, (0,)])
@pytest.mark.parametrize("frame", [0, 4, 10, 15.5, 30])
def test_moving_seeds_begin_with_constant_velocity(interval: int, keys, frame: float):
    expert = expert_of(seeded(keys), interval)
    assert (expert.num_static, expert.num_dynamic) == (STATIC, DYNAMIC)
    torch.testing.assert_close(ball_at(expert, frame), middle(frame), atol=1e-3, rtol=0.0)


def test_walls_are_static():
    expert = expert_of(seeded())
    for time in (0.0, 0.4, 1.0):
        shown = expert.at(torch.tensor(time))
        assert torch.equal(shown.means[:STATIC], cloud(STATIC).xyz)
        torch.testing.assert_close(shown.opacities, torch.full((STATIC + DYNAMIC,), 0.5))


def test_walls_and_seeds_are_as_large_as_their_own_neighbours_are_far():
    expert = expert_of(seeded())
    expected = initial_log_scales(cloud(STATIC).xyz, 2.0)
    assert torch.equal(expert.gauss_params["scales"].detach(), expected)
    expected = initial_log_scales(middle(0) + around(), 2.0)
    torch.testing.assert_close(expert.key_gauss_params["scales"].detach(), expected)


def test_without_moving_seeds_all_are_dynamic_and_at_rest():
    expert = expert_of(cloud(7))
    assert (expert.num_static, expert.num_dynamic) == (0, 7)
    early, late = expert.at(torch.tensor(0.0)), expert.at(torch.tensor(1.0))
    assert torch.equal(early.means, late.means) and torch.equal(early.means, cloud(7).xyz)


@pytest.mark.parametrize("unknown", ["rate", "velocities"])
def test_without_velocities_only_the_first_seeds_are_taken_and_rest(unknown: str):
    """Those of later times may be the same thing."""
    points = seeded()
    if unknown == "velocities":
        points = replace(points, velocities=None)
    expert = expert_of(points, fps=0.0 if unknown == "rate" else 30.0)
    assert expert.num_dynamic == DYNAMIC
    for frame in (0, 20):
        torch.testing.assert_close(ball_at(expert, frame), middle(0), atol=1e-4, rtol=0.0)


def test_everything_may_move():
    expert = expert_of(seeded(static=0))
    assert (expert.num_static, expert.num_dynamic) == (0, DYNAMIC)


@pytest.mark.parametrize("interval", [1, 3, 7])
def test_poses_pass_through_their_keys(interval: int, generator: torch.Generator):
    expert = expert_of(seeded(), interval)
    raw = expert.key_gauss_params
    for name in ("means", "quats"):
        raw[name].data += torch.randn(raw[name].shape, generator=generator)
    for key, frame in enumerate(expert.key_frames(raw.num_keys).tolist()):
        if 0.0 <= frame <= 30.0:
            poses = expert.dynamic_poses(torch.tensor(frame))
            torch.testing.assert_close(poses.means, raw["means"][:, key], atol=1e-4, rtol=1e-4)
            expected = torch.nn.functional.normalize(raw["quats"][:, key], dim=-1)
            same = (poses.quats * expected).sum(-1).abs()
            torch.testing.assert_close(same, torch.ones(DYNAMIC), atol=1e-4, rtol=0.0)


def test_one_pose_a_frame_is_read_at_its_frame_alone():
    expert = expert_of(seeded())
    expert.at(torch.tensor(7.0 / 30.0)).means.sum().backward()
    gradient = expert.key_gauss_params["means"].grad
    assert gradient is not None
    frames = expert.key_frames(expert.key_gauss_params.num_keys)
    assert frames[gradient.abs().sum((0, 2)) > 1e-4].tolist() == [7.0]


def test_a_rotated_gaussian_turns_in_the_image():
    """A needle that is upright in one frame lies in another one."""
    expert = expert_of(seeded())
    raw = expert.key_gauss_params
    raw["scales"].data[:] = torch.tensor([0.3, 0.01, 0.01]).log()
    turned = torch.tensor([math.sqrt(0.5), 0.0, 0.0, math.sqrt(0.5)])
    frames = expert.key_frames(raw.num_keys)
    raw["quats"].data[:, frames == 20.0] = turned
    start, end = (expert.at(torch.tensor(f / 30.0)).quats[STATIC:] for f in (10.0, 20.0))
    torch.testing.assert_close(start, torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(DYNAMIC, 4))
    torch.testing.assert_close(end, turned.expand(DYNAMIC, 4))
    half = expert.at(torch.tensor(19.5 / 30.0)).quats[STATIC].detach()
    assert 2 * math.atan2(float(half[3]), float(half[0])) == pytest.approx(math.pi / 4, abs=1e-4)


def test_permuted_gaussians_give_permuted_outputs(generator: torch.Generator):
    expert = build()[0]
    order = torch.randperm(DYNAMIC, generator=generator) + STATIC
    rows = torch.cat([torch.arange(STATIC).flip(0), order])
    time = torch.tensor(0.37)
    expected, found = expert.at(time), expert.select(rows).at(time)
    for name in ("means", "quats", "scales", "opacities", "sh"):
        assert torch.equal(getattr(found, name), getattr(expected, name)[rows]), name


def test_a_clip_of_one_frame_works():
    for points in (None, cloud(5), seeded((0,))):
        expert = expert_of(points, num_frames=1, fps=0.0)
        shown = expert.at(torch.tensor(0.0))
        assert shown.means.isfinite().all() and len(shown) == expert.num_gaussians


@pytest.mark.parametrize("which", ["static", "dynamic", "none"])
def test_one_kind_alone_or_none_is_drawn(which: str):
    expert = build()[0]
    rows = torch.arange(expert.num_gaussians)
    keep = {"static": rows < STATIC, "dynamic": rows >= STATIC, "none": rows < 0}[which]
    part = drawn(expert.select(keep))
    assert part.render.projected.count == int(keep.sum()) and part.image.isfinite().all()


def test_loading_adopts_rows_and_keys_in_place():
    expert, other = build(key_interval=3)[0], expert_of(None, 3, num_frames=11)
    identities = {name: id(value) for name, value in other.named_parameters()}
    other.load_state_dict(expert.state_dict())
    assert {name: id(value) for name, value in other.named_parameters()} == identities
    assert other.num_gaussians == expert.num_gaussians
    assert torch.equal(other.key_gauss_params["means"], expert.key_gauss_params["means"])


def test_a_distance_of_keys_that_makes_none_is_refused():
    with pytest.raises(ValueError, match="key-interval of at least 1 frame, got 0"):
        expert_of(None, 0)
