"""`llff-video-data`: one camera with LLFF poses, moving (NSFF) or still (EndoNeRF)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from layouts import assert_dots_where_expected, assert_served, known_camera
from llff_videos import DEPTH, moving_video, still_video, write_rows
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from PIL import Image

from moegs_ns.cameras import view_from_cameras
from moegs_ns.data.dataparsers.llff_video import LLFFVideoDataParserConfig


def parse(scene: Path, split: str = "train", **options) -> DataparserOutputs:
    return LLFFVideoDataParserConfig(data=scene, **options).setup().get_dataparser_outputs(split)


def points(outputs: DataparserOutputs) -> tuple[torch.Tensor, torch.Tensor]:
    return outputs.metadata["points3D_xyz"], outputs.metadata["points3D_rgb"]


def test_published_split_and_times(tmp_path: Path):
    """The images 1, 9, 17, ... are held out; each has its own time."""
    scene = moving_video(tmp_path)
    train, held_out = parse(scene), parse(scene, "test")
    assert train.metadata["frame_ids"] == [0, 2, 3, 4, 5, 6, 7, 8, 10]
    assert held_out.metadata["frame_ids"] == [1, 9]
    assert train.metadata["num_frames"] == held_out.metadata["num_frames"] == 11
    assert held_out.cameras.times is not None
    torch.testing.assert_close(held_out.cameras.times[:, 0], torch.tensor([0.1, 0.9]))
    # Each image of a moving camera is a camera of its own.
    assert train.metadata["camera_ids"] == train.metadata["frame_ids"]
    assert [path.name for path in held_out.image_filenames] == ["00001.png", "00009.png"]
    assert train.mask_filenames is None
    counts = {63: 8, 156: 20}
    for count, expected in counts.items():
        rows = range(count)
        held = [frame for frame in rows if frame % 8 == 1]
        assert len(held) == expected
        assert parse_division(rows) == (count - expected, expected)


def parse_division(frames: range) -> tuple[int, int]:
    from moegs_ns.data.dataparsers.llff_video import divide_frames

    train, held_out = divide_frames(frames, LLFFVideoDataParserConfig().held_out_every)
    assert not set(train) & set(held_out)
    return len(train), len(held_out)


def test_cameras_see_the_points(tmp_path: Path):
    scene = moving_video(tmp_path / "scene")
    for split in ("train", "test"):
        for options in ({}, {"downscale_factor": 2}):
            outputs = parse(scene, split, **options)
            assert_dots_where_expected(outputs, tmp_path / "store")


def test_frames_of_the_clip(tmp_path: Path):
    scene = moving_video(tmp_path)
    outputs = parse(scene, "test", frames=(3, 10), held_out_every=3)
    assert outputs.metadata["first_frame"] == 3
    assert [path.name for path in outputs.image_filenames] == [
        f"{frame:05d}.png" for frame in (4, 7, 10)
    ]
    # EndoNeRF trains on all images and evaluates them.
    assert parse(scene, held_out_every=None).metadata["frame_ids"] == list(range(11))
    assert parse(scene, "test", held_out_every=None).metadata["frame_ids"] == list(range(11))


def test_a_still_camera_is_one_camera(tmp_path: Path):
    """Its world is its own frame where all poses are the identity, whatever LLFF's axes are."""
    outputs = parse(still_video(tmp_path))
    assert set(outputs.metadata["camera_ids"]) == {0}
    view = view_from_cameras(outputs.cameras[:1])
    torch.testing.assert_close(view.viewmats[0], torch.eye(4))


def test_tools_do_not_count(tmp_path: Path):
    scene = still_video(tmp_path)
    for split, factor in (("train", 1), ("test", 1), ("train", 2)):
        outputs = parse(scene, split, downscale_factor=factor)
        assert outputs.mask_filenames is not None
        for mask, frame in zip(outputs.mask_filenames, outputs.metadata["frame_ids"], strict=True):
            counts = np.asarray(Image.open(mask)) > 0
            assert counts.shape == (36 // factor, 48 // factor)
            expected = range(16, 48) if frame < 5 else range(32)
            columns = [column for column in expected if column % factor == 0]
            assert np.flatnonzero(counts.all(0)).tolist() == [c // factor for c in columns]
    assert parse(scene, masks_folder=None).mask_filenames is None
    (scene / "masks").rename(scene / "gt_masks")
    assert parse(scene).mask_filenames is None
    assert parse(scene, masks_folder=Path("gt_masks")).mask_filenames is not None


def test_depth_maps_give_the_points(tmp_path: Path):
    """What tools hide in one image comes from another; the unit of the world is that of papers."""
    scene = still_video(tmp_path)
    xyz, rgb = points(parse(scene))
    assert len(xyz) == 36 * 48
    assert (rgb == torch.tensor([180, 90, 60])).all()
    torch.testing.assert_close(xyz[:, 2], torch.full((36 * 48,), DEPTH / 100.0))
    camera = known_camera(0, width=48, height=36)
    pixels = xyz[:, :2] / xyz[:, 2:] * camera.fx + torch.tensor([24.0, 18.0])
    rows, columns = torch.meshgrid(torch.arange(36.0), torch.arange(48.0), indexing="ij")
    centres = torch.stack([columns + 0.5, rows + 0.5], dim=-1).reshape(-1, 2)
    torch.testing.assert_close(pixels, centres, atol=1e-3, rtol=0)
    assert "depth maps in" in parse(scene).metadata["points3D_origin"]
    xyz, _ = points(parse(scene, depth_scale=1.0, max_depth_points=1200))
    assert len(xyz) == 1200 and float(xyz[0, 2]) == DEPTH


def test_other_points_go_before_depth_maps(tmp_path: Path):
    scene = still_video(tmp_path)
    np.savez(scene / "points3D.npz", xyz=np.ones((7, 3)), rgb=np.full((7, 3), 9))
    assert "points3D.npz" in parse(scene, min_points=1).metadata["points3D_origin"]
    moving = moving_video(tmp_path / "moving")
    (moving / "depth").mkdir()
    for frame in range(11):
        Image.new("L", (160, 120), 99).save(moving / "depth" / f"{frame:05d}.png")
    assert "random ones" in parse(moving).metadata["points3D_origin"]


def test_methods_get_the_images(tmp_path: Path):
    assert_served(LLFFVideoDataParserConfig(data=moving_video(tmp_path / "moving")))
    manager = assert_served(LLFFVideoDataParserConfig(data=still_video(tmp_path / "still")))
    assert "mask" in manager.next_train(0)[1] and "mask" in manager.eval_item(0)[1]
    assert manager.train_dataset.metadata["scene"].extent == 1.0


def test_mistakes_of_the_folder(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"images in .*images, but there is no such folder"):
        parse(tmp_path)
    scene = still_video(tmp_path / "scene")
    (scene / "depth" / "frame-000003.depth.png").unlink()
    with pytest.raises(ValueError, match=r"as many files in .*depth as in .*images, 11, got 10"):
        parse(scene)
    (scene / "masks" / "frame-000003.mask.png").unlink()
    with pytest.raises(ValueError, match=r"as many files in .*masks as in .*images, 11, got 10"):
        parse(scene)
    with pytest.raises(FileNotFoundError, match=r"no such folder; complete .*--masks-folder"):
        parse(scene, masks_folder=Path("gone"))
    moving = moving_video(tmp_path / "moving")
    (moving / "images" / "00003.png").rename(moving / "images" / "3.png")
    with pytest.raises(ValueError, match=r"Expected images whose order by name is that by number"):
        parse(moving)
    (moving / "images" / "3.png").unlink()
    with pytest.raises(ValueError, match=r"has 11 rows for 10 "):
        parse(moving)
    (moving / "poses_bounds.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"camera poses at .*poses_bounds\.npy"):
        parse(moving)


def test_mistakes_of_depth_maps(tmp_path: Path):
    scene = still_video(tmp_path)
    for path in (scene / "depth").iterdir():
        Image.new("L", (48, 36), 0).save(path)
    with pytest.raises(ValueError, match=r"Expected depths above 0 in .*depth, but all"):
        parse(scene)
    Image.new("L", (24, 18), 7).save(scene / "depth" / "frame-000000.depth.png")
    with pytest.raises(ValueError, match=r"a depth map of the image's size \(48x36\).*24x18"):
        parse(scene)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"held_out_every": 1}, "--held-out-every expects None, .*got 1"),
        ({"held_out_every": -2}, "--held-out-every expects None, .*got -2"),
        ({"frames": (9, 9)}, "but all are held out"),
        ({"frames": (0, 11)}, "0 <= FIRST <= LAST <= 10"),
        ({"depth_scale": 0.0}, "--depth-scale expects a number above 0"),
        ({"depth_scale": float("nan")}, "--depth-scale expects a number above 0"),
        ({"max_depth_points": 0}, "--max-depth-points expects a number above 0"),
    ],
)
def test_mistakes_of_the_options(tmp_path: Path, options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        parse(still_video(tmp_path), **options)


def test_poses_that_turn_without_moving_are_told(tmp_path: Path):
    """Such a video shows no depth."""
    scene = moving_video(tmp_path)
    cameras = [known_camera(0)] * 11
    poses = np.tile(np.eye(4)[:3], (11, 1, 1))
    angles = np.linspace(0.0, 0.5, 11)
    poses[:, 0, 0] = poses[:, 1, 1] = np.cos(angles)
    poses[:, 1, 0], poses[:, 0, 1] = np.sin(angles), -np.sin(angles)
    poses[:, :, 3] = 2.0
    write_rows(scene / "poses_bounds.npy", cameras, poses)
    with pytest.raises(ValueError, match=r"cameras at different places, but all 9 stand at"):
        parse(scene)
