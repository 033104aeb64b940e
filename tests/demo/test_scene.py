"""The demo scene: the same pictures every time, and the motions that it promises."""

from pathlib import Path

import numpy as np
import pytest
from data_helpers import TINY, open_scene, tiny_video_scene

from moegs_ns.data.frames.videos import decode_video
from moegs_ns.demo import world as demo_world
from moegs_ns.demo.scene import demo_rig, render_clip, write_demo_scene
from moegs_ns.demo.tracing import Box, Sphere
from moegs_ns.demo.world import trace, trace_still


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_video_scene(tmp_path_factory.mktemp("demo"))


def content(path: Path) -> np.ndarray:
    if path.suffix == ".mp4":
        return np.stack(list(decode_video(path, list(range(TINY["num_frames"])))))
    return np.frombuffer(path.read_bytes(), np.uint8)


def files(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: content(path) for path in sorted(folder.iterdir()) if path.is_file()}


def changed(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> set[str]:
    """Pictures that differ by more than an encoder's rounding, and files that differ at all."""

    def differs(name: str) -> bool:
        if one[name].shape != other[name].shape:
            return True
        apart = np.abs(one[name].astype(int) - other[name].astype(int)).max()
        return bool(apart > (4 if name.endswith(".mp4") else 0))

    return {name for name in one if differs(name)}


def test_the_same_scene_twice(scene: Path, tmp_path: Path):
    """Of equal pictures x264 makes other bytes about once in a thousand videos."""
    first = files(scene)
    videos = [f"cam{camera:02d}.mp4" for camera in range(TINY["num_cameras"])]
    assert sorted(first) == [*videos, "points3D.npz", "poses_bounds.npy"]
    assert changed(first, files(tiny_video_scene(tmp_path))) == set()
    other = files(tiny_video_scene(tmp_path / "other", seed=1))
    assert changed(first, other) == {"points3D.npz"}
    rig = demo_rig(TINY["num_cameras"], 48, 36)
    clips = [render_clip(rig, camera, TINY["num_frames"]) for camera in (0, 0, 1)]
    assert np.array_equal(clips[0], clips[1]) and not np.array_equal(clips[0], clips[2])


def test_videos_read_back_nearly_exactly(scene: Path):
    manager = open_scene(scene)
    clip = render_clip(demo_rig(TINY["num_cameras"], 48, 36), 0, TINY["num_frames"])
    for frame in range(TINY["num_frames"]):
        error = manager.eval_dataset.get_numpy_image(frame).astype(int) - clip[frame].astype(int)
        assert np.abs(error).mean() < 1.5


def test_initial_points_lie_on_surfaces_and_cover_what_moves(scene: Path):
    with np.load(scene / "points3D.npz") as points:
        xyz, rgb = points["xyz"], points["rgb"]
    assert len(xyz) == len(rgb) >= 1000
    assert rgb.std(0).min() > 10
    shapes = [*demo_world.still_shapes(), *demo_world.moving_shapes(0.0)]
    distances = [np.abs(xyz[:, axis] - offset) for axis, offset, _, _ in demo_world.ROOM]
    for shape in shapes:
        if isinstance(shape, Sphere):
            distances.append(np.abs(np.linalg.norm(xyz - shape.center, axis=1) - shape.radius))
        else:
            outside = np.abs((xyz - shape.center) @ shape.rotation) - shape.half
            distances.append(np.abs(outside.max(1)))
    assert np.min(distances, axis=0).max() < 0.06
    for shape in demo_world.moving_shapes(0.0)[:2]:
        near = np.linalg.norm(xyz - shape.center, axis=1) < shape.reach + 0.05
        assert near.sum() >= 20


def test_what_moves_and_how():
    early, late = demo_world.moving_shapes(0.0), demo_world.moving_shapes(1.0)
    crate = [shapes[0] for shapes in (early, late)]
    assert isinstance(crate[0], Box)
    assert isinstance(crate[1], Box)
    assert np.allclose(crate[0].center, crate[1].center)
    assert np.abs(crate[0].rotation - crate[1].rotation).max() > 0.3
    flight = np.array([demo_world.moving_shapes(t)[1].center for t in (0.0, 0.5, 1.0)])
    assert np.allclose(flight[0] + flight[2], 2 * flight[1])
    assert np.linalg.norm(flight[2] - flight[0]) > 3.0
    tips = [demo_world.moving_shapes(t)[12].center for t in (0.15, 0.65)]
    feet = [demo_world.moving_shapes(t)[2].center for t in (0.15, 0.65)]
    assert np.linalg.norm(tips[0] - tips[1]) > 0.8
    assert np.allclose(feet[0], feet[1])
    counts = [len(demo_world.moving_shapes(t)) for t in (0.0, 0.5, 1.0)]
    assert counts == [13, 14, 13]


def test_still_and_moving_parts_are_visible_from_everywhere():
    rig = demo_rig(10, 48, 36)
    for camera in range(10):
        rays = rig.rays(camera, 1)
        still = trace_still(rays)
        assert np.isfinite(still.depths).all()
        moving = [trace(rays, time, still).is_moving.mean() for time in (0.0, 0.5, 1.0)]
        assert 0.03 < min(moving) <= max(moving) < 0.5


def test_highlights_depend_on_the_viewer():
    """Seen from two cameras, the glossy ball's brightest points differ."""
    rig, places = demo_rig(10, 160, 120), []
    center = demo_world.still_shapes()[1].center
    for camera in (1, 9):
        rays = rig.rays(camera, 1)
        hits = trace_still(rays)
        points = rays.origin + rays.directions * hits.depths[:, None]
        on_ball = np.linalg.norm(points - center, axis=1) < 0.33
        brightest = hits.colors[on_ball].sum(1).argmax()
        places.append(points[on_ball][brightest])
    assert np.linalg.norm(places[0] - places[1]) > 0.05


def test_the_held_out_camera_interpolates():
    positions = demo_rig(10, 160, 120).positions
    assert (positions[0] > positions[1:].min(0)).all()
    assert (positions[0] < positions[1:].max(0)).all()


@pytest.mark.parametrize(
    "changes", [{"num_cameras": 2}, {"num_frames": 0}, {"width": 47}, {"height": 4}]
)
def test_impossible_sizes(tmp_path: Path, changes: dict[str, int]):
    with pytest.raises(ValueError, match="at least 3 cameras"):
        write_demo_scene(tmp_path, **{**TINY, **changes})


def test_as_many_initial_points_as_asked_for(tmp_path: Path):
    write_demo_scene(tmp_path, **TINY, num_points=70)
    with np.load(tmp_path / "points3D.npz") as points:
        assert points["xyz"].shape == points["rgb"].shape == (70, 3)
    with pytest.raises(ValueError, match="at least 1 point, got 0"):
        write_demo_scene(tmp_path / "none", **TINY, num_points=0)


def test_one_frame_is_a_clip_too(tmp_path: Path):
    manager = open_scene(tiny_video_scene(tmp_path, num_frames=1))
    assert len(manager.eval_dataset) == 1
    assert manager.train_dataset.metadata["scene"].num_frames == 1
    assert not bool(manager.next_eval_image(0)[1]["is_moving"].any())
