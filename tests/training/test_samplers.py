"""Samplers: what they draw, and that they resume."""

import pytest
import torch

from moegs_ns.scene import FrameTable
from moegs_ns.training.samplers import SameTimeSampler, ShuffledSampler

CAMERAS, FRAMES = 4, 6


def table() -> FrameTable:
    cameras = torch.arange(CAMERAS).repeat_interleave(FRAMES)
    frames = torch.arange(FRAMES).repeat(CAMERAS)
    return FrameTable(cameras, frames, frames / (FRAMES - 1))


def test_a_shuffled_pass_sees_every_image_once():
    sampler = ShuffledSampler(table(), 1, seed=0)
    drawn = torch.cat([sampler.next(step) for step in range(CAMERAS * FRAMES)])
    assert sorted(drawn.tolist()) == list(range(CAMERAS * FRAMES))
    again = torch.cat([sampler.next(step) for step in range(CAMERAS * FRAMES)])
    assert drawn.tolist() != again.tolist()


def test_same_time_views_show_one_frame_from_distinct_cameras():
    sampler, seen = SameTimeSampler(table(), 2, seed=0), torch.zeros(FRAMES)
    for step in range(300):
        rows = sampler.next(step)
        frames, cameras = table().frame_ids[rows], table().camera_ids[rows]
        assert len(rows) == 2 and frames.unique().numel() == 1 and cameras.unique().numel() == 2
        seen[frames[0]] += 1
    # 300 draws over 6 frames: 50 each, with a standard deviation of 6.5.
    assert (seen > 20).all() and (seen < 80).all()


def test_a_frame_with_one_camera_gives_one_view():
    monocular = FrameTable(torch.arange(5), torch.arange(5), torch.linspace(0, 1, 5))
    assert len(SameTimeSampler(monocular, 2, seed=0).next(0)) == 1


@pytest.mark.parametrize("kind", [ShuffledSampler, SameTimeSampler])
def test_a_limit_on_frames_is_kept(kind):
    sampler = kind(table(), 2, seed=0)
    sampler.limit_frames(2)
    rows = torch.cat([sampler.next(step) for step in range(40)])
    assert set(table().frame_ids[rows].tolist()) == {0, 1}
    with pytest.raises(ValueError, match="frame below 0"):
        sampler.limit_frames(0)


@pytest.mark.parametrize("kind", [ShuffledSampler, SameTimeSampler])
def test_seeds_repeat_and_states_resume_exactly(kind):
    def draw(sampler, count):
        return [sampler.next(step).tolist() for step in range(count)]

    assert draw(kind(table(), 2, seed=1), 9) == draw(kind(table(), 2, seed=1), 9)
    assert draw(kind(table(), 2, seed=1), 9) != draw(kind(table(), 2, seed=2), 9)
    sampler = kind(table(), 2, seed=1)
    sampler.limit_frames(4)
    draw(sampler, 7)
    state = sampler.state_dict()
    resumed = kind(table(), 2, seed=5)
    resumed.load_state_dict(state)
    assert draw(resumed, 20) == draw(sampler, 20)


def test_no_images_is_an_error():
    empty = FrameTable(torch.arange(0), torch.arange(0), torch.zeros(0))
    with pytest.raises(ValueError, match="no training images to sample"):
        ShuffledSampler(empty, 1, seed=0)
