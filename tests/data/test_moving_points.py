"""Frames and velocities of moving seeds, from their file to the experts' initial points."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from moegs_ns.data.points.files import PointCloud, load_points
from moegs_ns.data.points.initial import Frustums, initial_points
from moegs_ns.models.base import initial_points as points_of_model
from moegs_ns.scene import InitialPoints, SceneInfo

SCENE = SceneInfo(11, 5.0, (0.0, 0.0, 0.0), 1.0, None)
"""Eleven frames in two seconds."""
MOVING_FRAMES = np.array([-1, 4, -1, 10, 8])


def arrays() -> dict[str, np.ndarray]:
    velocity = np.zeros((5, 3), np.float32)
    velocity[MOVING_FRAMES >= 0] = [[1, 0, 0], [0, 2, 0], [0, 0, 3]]
    return {
        "xyz": np.arange(15, dtype=np.float32).reshape(5, 3) / 15,
        "rgb": np.arange(15, dtype=np.uint8).reshape(5, 3),
        "moving_frame": MOVING_FRAMES,
        "velocity": velocity,
    }


def saved(path: Path, **changed: Any) -> Path:
    given = arrays() | changed
    np.savez(path, **{name: value for name, value in given.items() if value is not None})
    return path


def cameras() -> Frustums:
    pose = np.eye(4)[:3]
    pose[2, 3] = 3.0
    K = np.array([[50.0, 0, 32], [0, 50, 24], [0, 0, 1]])
    return Frustums(np.stack([pose, pose + 0.01]), np.stack([K, K]), 64, 48)


def read(path: Path, frames: range = range(11), min_points: int = 1) -> PointCloud:
    return initial_points(path, cameras(), frames, 11, num_random_points=9, min_points=min_points)


def as_model_sees(cloud: PointCloud, scene: SceneInfo) -> InitialPoints:
    metadata = cloud.as_metadata() | {"scene": scene}
    seed_points = metadata["points3D_xyz"], metadata["points3D_rgb"]
    points = points_of_model({"seed_points": seed_points, "metadata": metadata})
    assert points is not None
    return points


def test_times_and_velocities_reach_the_experts(tmp_path: Path):
    points = as_model_sees(read(saved(tmp_path / "a.npz")), SCENE)
    assert points.times is not None and points.velocities is not None
    assert points.is_moving.tolist() == [False, True, False, True, True]
    torch.testing.assert_close(points.times[points.is_moving], torch.tensor([0.4, 1.0, 0.8]))
    assert points.velocities.tolist() == arrays()["velocity"].tolist()
    # Two seconds a clip; key frames 4, 8 and 10.
    torch.testing.assert_close(points.clip_velocities(SCENE)[3], torch.tensor([0.0, 4.0, 0.0]))
    assert not points.clip_velocities(replace(SCENE, fps=0.0)).any(), "a rate is needed"
    assert points.time_gap == pytest.approx(0.2)
    still = points.select(~points.is_moving)
    assert len(still) == 2 and still.times is None and still.velocities is None


def test_seeds_of_other_frames_are_left_out_and_others_are_counted_from_the_clip(tmp_path: Path):
    cloud = read(saved(tmp_path / "a.npz"), range(3, 9))
    assert cloud.moving_frames is not None
    assert cloud.moving_frames.tolist() == [-1, 1, -1, 5]
    assert cloud.xyz.tolist() == arrays()["xyz"][[0, 1, 2, 4]].tolist()
    points = as_model_sees(cloud, replace(SCENE, num_frames=6))
    assert points.times is not None
    torch.testing.assert_close(points.times[points.is_moving], torch.tensor([0.2, 1.0]))
    # Points that stand still may have frames of their own, which choose as ever.
    frame = np.array([3, 4, 0, 10, 8])
    both = read(saved(tmp_path / "b.npz", frame=frame), range(3, 9))
    assert both.frames is not None and both.moving_frames is not None
    assert both.frames.tolist() == [0, 1, 5] and both.moving_frames.tolist() == [-1, 1, 5]
    with pytest.raises(ValueError, match="recording has 11 frames, but they belong to 0 to 12"):
        read(saved(tmp_path / "c.npz", moving_frame=MOVING_FRAMES + 2 * (MOVING_FRAMES > 0)))


def test_random_points_beside_seeds_stand_still(tmp_path: Path):
    points = as_model_sees(read(saved(tmp_path / "a.npz"), min_points=8), SCENE)
    assert points.velocities is not None and len(points) == 8
    assert int(points.is_moving.sum()) == 3 and not points.velocities[5:].any()


def test_a_file_without_seeds_says_nothing_of_times(tmp_path: Path):
    cloud = read(saved(tmp_path / "a.npz", moving_frame=None, velocity=None))
    assert cloud.moving_frames is None and cloud.velocities is None
    assert "points3D_velocities" not in cloud.as_metadata()
    points = as_model_sees(cloud, SCENE)
    assert points.times is None and points.velocities is None and not points.is_moving.any()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"velocity": None}, r"moving_frame \[N\] and velocity \[N,3\] together"),
        ({"moving_frame": np.zeros(4, int)}, r"for the 5 points .* got \(4,\) and \(5, 3\)"),
        ({"moving_frame": np.zeros(5)}, "moving_frame as whole .* got float64"),
        ({"velocity": np.full((5, 3), np.nan)}, "finite velocities"),
        ({"moving_frame": np.full(5, -2)}, "frames from 0"),
    ],
)
def test_seeds_that_are_none(tmp_path: Path, changed: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        load_points(saved(tmp_path / "a.npz", **changed))
