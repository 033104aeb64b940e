"""Which images are left out, and that samplers never draw them."""

import pytest
import torch

from moegs_ns.experts.ed3dgs.error_sampling import ErrorSampler, ErrorSamplingConfig
from moegs_ns.scene import FrameTable
from moegs_ns.training.honest import HonestConfig, HonestGatesConfig, honest_rows, spread_cameras
from moegs_ns.training.samplers import SameTimeSampler, Sampler, ShuffledSampler


def rig(cameras: int, frames: int) -> FrameTable:
    """Cameras on a half circle that all see every frame; their numbers are 10, 11, ..."""
    pairs = [(camera, frame) for camera in range(cameras) for frame in range(frames)]
    camera_ids, frame_ids = (torch.tensor(ids) for ids in zip(*pairs, strict=True))
    angles = torch.pi * camera_ids / max(1, cameras - 1)
    positions = torch.stack([angles.cos(), angles.sin(), torch.zeros_like(angles)], 1)
    return FrameTable(camera_ids + 10, frame_ids, frame_ids / max(1, frames - 1), positions)


def moving(frames: int) -> FrameTable:
    """One image per frame, each with a camera number of its own."""
    ids = torch.arange(frames)
    return FrameTable(ids, ids, ids / (frames - 1), torch.rand(frames, 3))


def samplers(table: FrameTable) -> list[Sampler]:
    return [
        ShuffledSampler(table, 2, seed=0),
        SameTimeSampler(table, 2, seed=0),
        ErrorSampler(
            table, ErrorSamplingConfig(random_until=20, burst_every=10, burst_steps=3), seed=0
        ),
    ]


def test_a_quarter_of_the_cameras_is_left_out_spread_over_the_rig():
    table = rig(12, 3)
    rows = honest_rows(table, "auto")
    cameras = table.camera_ids[rows].unique() - 10
    assert len(cameras) == 3 and int(rows.sum()) == 9
    assert torch.equal(rows, torch.isin(table.camera_ids, cameras + 10)), "whole cameras"
    assert 0 not in cameras and 11 not in cameras, "no outer end"
    assert int(cameras.diff().min()) >= 3
    assert torch.equal(rows, honest_rows(table, "auto")), "every expert leaves out the same"


def test_cameras_without_positions_are_left_out_evenly():
    table = rig(8, 2)
    unknown = FrameTable(table.camera_ids, table.frame_ids, table.times)
    assert spread_cameras(unknown, 2) == (12, 16)


def test_of_one_moving_camera_blocks_of_time_are_left_out():
    table = moving(100)
    rows = honest_rows(table, "auto")
    assert 20 <= int(rows.sum()) <= 30
    assert not rows[0] and not rows[-1]
    edges = int((rows[1:] != rows[:-1]).sum())
    assert edges == 10, "five blocks"
    assert not honest_rows(moving(12), "auto").any(), "too short"


def test_named_cameras_are_left_out_and_none_is_none():
    table = rig(4, 2)
    assert table.camera_ids[honest_rows(table, (11, 13))].tolist() == [11, 11, 13, 13]
    assert not honest_rows(table, "none").any()


@pytest.mark.parametrize(("cameras", "told"), [((11, 40), r"\[40\]"), ((10, 11), "no camera")])
def test_cameras_that_cannot_be_left_out_are_refused(cameras: tuple[int, ...], told: str):
    with pytest.raises(ValueError, match=told):
        honest_rows(rig(2, 3), cameras)


@pytest.mark.parametrize("finish", [0.0, 1.0, -0.1])
def test_the_finish_is_a_part_of_the_steps(finish: float):
    with pytest.raises(ValueError, match="between 0 and 1"):
        HonestConfig(finish=finish).check()
    assert HonestConfig(finish=0.25).first_step_of_finish(1000) == 750


def test_the_last_part_of_a_router_is_over_finished_experts():
    def finish(config: HonestGatesConfig) -> list[int]:
        return [step for step in range(100) if config.finishes_after(step, 100)]

    assert finish(HonestGatesConfig()) == [99]
    assert finish(HonestGatesConfig(last_part=0.3)) == [69]
    for last_part in (-0.1, 1.0):
        with pytest.raises(ValueError, match="last-part"):
            HonestGatesConfig(last_part=last_part).check(100)


@pytest.mark.parametrize("index", range(3))
def test_what_is_left_out_is_never_drawn_until_it_may_be(index: int):
    table = rig(6, 5)
    rows = honest_rows(table, (11, 14))
    sampler = samplers(table)[index]
    sampler.leave_out(rows)

    def draws(steps: range) -> set[int]:
        drawn: set[int] = set()
        for step in steps:
            indices = sampler.next(step)
            sampler.observe(indices, torch.rand(len(indices)), None)
            drawn |= set(indices.tolist())
        return drawn

    allowed = set(torch.nonzero(~rows)[:, 0].tolist())
    assert draws(range(200)) == allowed
    sampler.limit_frames(3)
    assert draws(range(200, 400)) == {row for row in allowed if table.frame_ids[row] < 3}
    assert int(sampler.may_draw.sum()) == 12
    sampler.limit_frames(5)
    sampler.leave_out(None)
    assert draws(range(400, 1000)) == set(range(len(table)))


def test_errors_of_images_that_are_left_out_do_not_count():
    """Two frames whose drawn images are equally good, though one has a bad image left out."""
    table = rig(3, 2)
    sampler = ErrorSampler(table, ErrorSamplingConfig(random_until=0), seed=0)
    sampler.leave_out(honest_rows(table, (12,)))
    good = torch.nonzero(sampler.may_draw)[:, 0]
    sampler.observe(good, torch.tensor([0.1, 0.2, 0.1, 0.2]), None)
    sampler.observe(torch.tensor([4]), torch.tensor([50.0]), None)
    sampler._update_errors(5)
    assert sampler._frame_weights().tolist() == [0.0, 1.0]


@pytest.mark.parametrize("index", range(3))
def test_a_sampler_goes_on_with_what_it_leaves_out(index: int):
    table = rig(6, 5)
    first, second = samplers(table)[index], samplers(table)[index]
    first.leave_out(honest_rows(table, (11,)))
    for step in range(7):
        first.next(step)
    second.load_state_dict(first.state_dict())
    expected = [first.next(step).tolist() for step in range(7, 30)]
    assert [second.next(step).tolist() for step in range(7, 30)] == expected


def test_the_last_image_cannot_be_left_out():
    table = rig(2, 2)
    with pytest.raises(ValueError, match="No training image is left"):
        ShuffledSampler(table, 1, seed=0).leave_out(torch.ones(4, dtype=torch.bool))
