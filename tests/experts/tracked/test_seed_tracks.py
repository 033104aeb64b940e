"""Tracks of moving seeds: what was seeded at several times is followed, and is there once."""

from dataclasses import replace

import pytest
import torch
from tracked_helpers import DYNAMIC, KEYS, VELOCITY, middle, seeded

from moegs_ns.experts.tracked.seed_tracks import SeedTracks, follow_seeds
from moegs_ns.scene import InitialPoints


def followed(seeds: InitialPoints, reach: float = 0.2) -> SeedTracks:
    """Velocities are per clip, which takes a second."""
    assert seeds.velocities is not None
    return follow_seeds(seeds, seeds.velocities, torch.full((len(seeds),), reach))


def ball(keys: tuple[int, ...] = KEYS) -> InitialPoints:
    return seeded(keys, static=0)


@pytest.mark.parametrize("frame", [0, 3, 10, 17, 30])
def test_a_ball_of_four_key_frames_is_one_ball(frame: int):
    tracks = followed(ball())
    assert tracks.seeds.tolist() == list(range(DYNAMIC))
    at = tracks.at(torch.tensor([frame / 30.0]))[:, 0]
    torch.testing.assert_close(at.mean(0), middle(frame), atol=1e-4, rtol=0.0)


def test_seeds_of_one_key_frame_go_on_with_their_velocity():
    tracks = followed(ball((15,)))
    for frame in (0, 8, 15, 30):
        at = tracks.at(torch.tensor([frame / 30.0]))[:, 0]
        torch.testing.assert_close(at.mean(0), middle(frame), atol=1e-4, rtol=0.0)


def test_a_turn_is_followed_by_the_velocities_of_later_seeds():
    """At frame 10 the ball begins to rise."""
    rising, seeds = torch.tensor([0.0, 0.0, 2.4]), ball((0, 10))
    assert seeds.velocities is not None
    velocities = torch.cat([seeds.velocities[:DYNAMIC], rising.expand(DYNAMIC, 3)])
    tracks = followed(replace(seeds, velocities=velocities))
    assert len(tracks.seeds) == DYNAMIC
    later = tracks.at(torch.tensor([20 / 30.0]))[:, 0].mean(0)
    torch.testing.assert_close(later, middle(10) + rising / 3.0, atol=1e-4, rtol=0.0)


@pytest.mark.parametrize("factor", [0.4, 1.7])
@pytest.mark.parametrize("wrong", [0, 1])
def test_wrong_velocities_are_put_right_by_the_seeds_that_are_met(factor: float, wrong: int):
    """By those of either time, where one is right, to within a fraction of the ball's radius."""
    seeds = ball()
    assert seeds.velocities is not None
    velocities = seeds.velocities.clone()
    velocities[wrong * DYNAMIC : (wrong + 1) * DYNAMIC] *= factor
    tracks = followed(replace(seeds, velocities=velocities))
    assert len(tracks.seeds) == DYNAMIC
    for frame in KEYS:
        at = tracks.at(torch.tensor([frame / 30.0]))[:, 0]
        torch.testing.assert_close(at.mean(0), middle(frame), atol=0.03, rtol=0.0)


def test_what_appears_later_gets_tracks_of_its_own():
    seeds, late = ball((0, 10, 20)), torch.tensor([0.0, 2.0, 0.0])
    xyz = seeds.xyz.clone()
    xyz[2 * DYNAMIC :] += late
    tracks = followed(replace(seeds, xyz=xyz))
    assert tracks.seeds.tolist() == [*range(DYNAMIC), *range(2 * DYNAMIC, 3 * DYNAMIC)]
    at = tracks.at(torch.tensor([10.0, 20.0, 25.0]) / 30.0)[DYNAMIC:].mean(0)
    expected = torch.stack([middle(frame) + late for frame in (10, 20, 25)])
    torch.testing.assert_close(at, expected, atol=1e-4, rtol=0.0)
    # Longer before than a gap it rests.
    early = tracks.at(torch.tensor([0.0]))[DYNAMIC:].mean((0, 1))
    torch.testing.assert_close(early, middle(10) + late, atol=1e-4, rtol=0.0)


def test_what_stopped_rests():
    """Where it is has no seeds any more, as it does not move."""
    seeds, away = ball((0, 10, 20)), torch.tensor([0.0, 5.0, 0.0])
    xyz = seeds.xyz.clone()
    xyz[DYNAMIC:] += away
    tracks = followed(replace(seeds, xyz=xyz))
    at = tracks.at(torch.tensor([10.0, 20.0, 30.0]) / 30.0)[:DYNAMIC].mean(0)
    torch.testing.assert_close(at, middle(10).expand(3, 3), atol=1e-4, rtol=0.0)


def test_beyond_a_gap_outside_of_the_seeds_tracks_rest():
    tracks = followed(ball((10, 20)))
    for time, frame in ((-3.0, 0), (7.0, 30)):
        at = tracks.at(torch.tensor([time]))[:, 0].mean(0)
        torch.testing.assert_close(at, middle(frame), atol=1e-4, rtol=0.0)
    assert tracks.times.diff().min() > 0 and VELOCITY.norm() > 0
