"""Samplers of E-D3DGS: far cameras, frames by their errors, bursts of one frame."""

from dataclasses import replace

import pytest
import torch
from training_helpers import table

from moegs_ns.experts.ed3dgs.error_sampling import (
    UNSEEN_ERROR,
    ErrorSampler,
    ErrorSamplingConfig,
    far_distance,
)
from moegs_ns.scene import FrameTable

CAMERAS, FRAMES = 5, 6
NEVER = ErrorSamplingConfig(random_until=10**9, burst_every=50, burst_steps=5)
AT_ONCE = ErrorSamplingConfig(random_until=0, burst_every=50, burst_steps=0)


def small(cameras: int = CAMERAS) -> FrameTable:
    return table(FRAMES, cameras)


def sampler(schedule: ErrorSamplingConfig = NEVER, of: FrameTable | None = None, seed: int = 0):
    return ErrorSampler(small() if of is None else of, schedule, seed)


def draw(drawing: ErrorSampler, steps: range, errors=None) -> list[int]:
    """Rows of these steps; every image is observed to have the error that a function gives."""
    rows = []
    for step in steps:
        row = drawing.next(step)
        rows.append(int(row))
        if errors is not None:
            drawing.observe(row, errors(row), None)
    return rows


def error_of(row: torch.Tensor) -> torch.Tensor:
    """Frames 4 and 5 are bad, 5 more so."""
    frames = (row % FRAMES).float()
    return 0.01 + 0.1 * (frames - 3.0).clamp(min=0.0)


class TestCameras:
    def test_far_is_the_median_of_the_distances_of_pairs(self):
        # Cameras at 0 to 4: four pairs 1 apart, three 2, two 3, one 4.
        assert far_distance(small(), 0.5) == 2.0
        assert far_distance(small(), 0.0) == 1.0
        assert far_distance(small(1), 0.5) == 0.0
        assert far_distance(replace(small(), positions=None), 0.5) == 0.0

    def test_a_camera_follows_one_that_is_far_away(self):
        rows = draw(sampler(), range(400))
        cameras = small().camera_ids[torch.tensor(rows)]
        steps = (cameras[1:] - cameras[:-1]).abs()
        assert int(steps.min()) == 2
        assert set(cameras.tolist()) == set(range(CAMERAS))
        assert {row % FRAMES for row in rows} == set(range(FRAMES))

    def test_in_another_order_of_the_images_too(self):
        """Centres belong to the images' cameras however these are sorted."""
        order = torch.randperm(CAMERAS * FRAMES, generator=torch.Generator().manual_seed(3))
        shuffled = FrameTable(*(value[order] for value in vars(small()).values()))
        rows = torch.tensor(draw(sampler(of=shuffled), range(200)))
        assert shuffled.positions is not None
        places = shuffled.positions[rows, 0]
        assert float((places[1:] - places[:-1]).abs().min()) == 2.0

    def test_without_a_far_one_any_other_follows(self):
        """In the middle of a row of three, the others are nearer than the median."""
        positions = torch.tensor([0.0, 1.0, 2.0, 100.0])[:, None] * torch.tensor([1.0, 0.0, 0.0])
        three = FrameTable(torch.arange(4), torch.tensor([0, 0, 0, 1]), torch.zeros(4), positions)
        drawing = sampler(of=three)
        assert drawing._far_distance > 2.0
        drawing._last_index = 1
        assert drawing._far_images(torch.tensor([0, 1, 2])).tolist() == [0, 2]

    def test_unknown_places_leave_the_rule_that_cameras_change(self):
        rows = draw(sampler(of=replace(small(), positions=None)), range(100))
        cameras = small().camera_ids[torch.tensor(rows)]
        assert (cameras[1:] != cameras[:-1]).all()

    def test_a_single_camera_and_a_single_image_work(self):
        rows = draw(sampler(ErrorSamplingConfig(0, 10, 5), small(1)), range(60), error_of)
        assert set(rows) == set(range(FRAMES))
        zero = torch.zeros(1, dtype=torch.long)
        one = FrameTable(zero, zero, torch.zeros(1))
        assert draw(sampler(AT_ONCE, one), range(5), error_of) == [0] * 5

    def test_a_moving_camera_never_repeats_one_image_for_a_whole_burst(self):
        """Where every image is a camera of its own, a frame has one image."""
        frames = torch.arange(20)
        moving = FrameTable(frames, frames, frames / 19, torch.rand(20, 3))
        rows = draw(sampler(ErrorSamplingConfig(0, 10, 10), moving), range(20))
        assert len(set(rows[:10])) > 5


class TestFrames:
    def test_unseen_images_come_first(self):
        drawing = sampler(AT_ONCE)
        drawing._errors[torch.arange(CAMERAS * FRAMES) % FRAMES != 2] = 0.1
        rows = draw(drawing, range(1, 41, 2))
        assert {row % FRAMES for row in rows} == {2}

    def test_bad_frames_come_more_often_at_every_other_step(self):
        drawing = sampler(AT_ONCE)
        draw(drawing, range(1500), error_of)
        rows = torch.tensor(draw(drawing, range(1500, 3500), error_of))
        even, odd = (torch.bincount(rows[start::2] % FRAMES, minlength=6) for start in (1, 0))
        # Frames 0 to 3 have the smallest error and thus no weight; 4 has half that of 5.
        assert even[:4].sum() == 0 and 1.6 < float(even[5] / even[4]) < 2.5
        assert (odd > 110).all() and (odd < 230).all()

    def test_the_latest_error_counts_from_the_step_after_next(self):
        drawing = sampler()
        row = drawing.next(0)
        drawing.observe(row, torch.tensor([0.25]), None)
        drawing.next(1)
        assert float(drawing._errors[row]) == UNSEEN_ERROR
        drawing.next(2)
        assert float(drawing._errors[row]) == 0.25

    def test_equal_errors_draw_evenly(self):
        drawing = sampler(AT_ONCE)
        drawing._errors[:] = 0.3
        rows = torch.tensor(draw(drawing, range(1, 1201, 2)))
        assert (torch.bincount(rows % FRAMES) > 60).all()

    def test_a_limit_on_frames_is_kept(self):
        drawing = sampler(ErrorSamplingConfig(0, 10, 5))
        draw(drawing, range(23), error_of)
        drawing.limit_frames(2)
        assert {row % FRAMES for row in draw(drawing, range(23, 90), error_of)} == {0, 1}


class TestBursts:
    def test_they_come_as_published_after_the_random_steps(self):
        schedule = ErrorSamplingConfig(random_until=10000, burst_every=50, burst_steps=5)
        done = [step for step in range(1, 10200) if schedule.is_burst(step)]
        assert done == [start + i for start in (10000, 10050, 10100, 10150) for i in range(5)]
        kept = [step for step in done if schedule.keeps_frame(step)]
        assert kept == [step for step in done if step % 50]
        by_error = [step for step in range(1, 10011) if schedule.is_by_error(step)]
        assert by_error == [10000, 10001, 10002, 10003, 10004, 10006, 10008, 10010]

    def test_cameras_change_and_the_frame_stays(self):
        drawing = sampler(ErrorSamplingConfig(0, 50, 5))
        rows = draw(drawing, range(500), error_of)
        # Finished steps are counted from 1.
        for start in range(49, 495, 50):
            burst = torch.tensor(rows[start : start + 5])
            cameras = small().camera_ids[burst]
            assert (burst % FRAMES).unique().numel() == 1
            assert (cameras[1:] != cameras[:-1]).all()

    def test_a_burst_that_begins_in_the_middle_draws_its_own_frame(self):
        schedule = ErrorSamplingConfig(random_until=52, burst_every=50, burst_steps=5)
        assert not schedule.keeps_frame(52) and schedule.is_by_error(52)
        assert schedule.keeps_frame(53)


class TestState:
    schedule = ErrorSamplingConfig(random_until=10, burst_every=20, burst_steps=5)

    @pytest.mark.parametrize("stop", [5, 15, 22, 33])
    def test_a_resumed_sampler_draws_the_same(self, stop, tmp_path):
        first = sampler(self.schedule, seed=1)
        draw(first, range(stop), error_of)
        torch.save(first.state_dict(), tmp_path / "state")
        second = sampler(self.schedule, seed=7)
        second.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
        assert draw(second, range(stop, 120), error_of) == draw(first, range(stop, 120), error_of)

    def test_seeds_differ_and_repeat(self):
        one, same, other = (
            draw(sampler(self.schedule, seed=seed), range(60), error_of) for seed in (1, 1, 2)
        )
        assert one == same != other

    def test_peeking_says_what_comes_and_changes_nothing(self):
        drawing, expected = sampler(self.schedule), []
        unwatched = draw(sampler(self.schedule), range(80), error_of)
        for step in range(80):
            row = drawing.next(step)
            expected.append(int(drawing.peek()))
            drawing.observe(row, error_of(row), None)
            assert int(row) == unwatched[step]
        assert expected[:-1] == unwatched[1:]


def test_no_images_is_an_error():
    empty = FrameTable(torch.arange(0), torch.arange(0), torch.zeros(0))
    with pytest.raises(ValueError, match="no training images to sample"):
        sampler(of=empty)
