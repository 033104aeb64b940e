"""`n3v-data` and `panoptic-data`: what they read, and what they say when it is wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from data_helpers import image_scene, panoptic_scene, poses_bounds, tiny_video_scene
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.datasets.base_dataset import InputDataset

from moegs_ns.cameras import view_from_cameras
from moegs_ns.data.dataparsers.multiview import scaled_size
from moegs_ns.data.dataparsers.n3v import N3VDataParserConfig
from moegs_ns.data.dataparsers.panoptic import PanopticDataParserConfig
from moegs_ns.demo.scene import demo_rig


def parse(scene: Path, split: str = "train", **options) -> DataparserOutputs:
    return N3VDataParserConfig(data=scene, **options).setup().get_dataparser_outputs(split)


def parse_panoptic(scene: Path, split: str = "train", **options) -> DataparserOutputs:
    return PanopticDataParserConfig(data=scene, **options).setup().get_dataparser_outputs(split)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_video_scene(tmp_path_factory.mktemp("videos"))


def test_n3v_videos_become_images_camera_by_camera(videos: Path):
    outputs = parse(videos)
    metadata = outputs.metadata
    assert metadata["camera_ids"] == [1] * 5 + [2] * 5 + [3] * 5
    assert metadata["frame_ids"] == list(range(5)) * 3
    assert (metadata["num_frames"], metadata["fps"]) == (5, 12.0)
    assert len(set(outputs.image_filenames)) == 15
    assert metadata["frame_sources"][6].path == videos / "cam02.mp4"
    assert metadata["frame_sources"][6].frame == 1
    times = outputs.cameras.times
    assert times is not None
    assert torch.equal(times[:5, 0], torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]))
    held_out = parse(videos, "test")
    assert held_out.metadata["camera_ids"] == [0] * 5
    assert parse(videos, "val").image_filenames == held_out.image_filenames


def test_n3v_cameras_stand_where_the_rig_stood(videos: Path):
    view = view_from_cameras(parse(videos, "test").cameras)
    rig = demo_rig(4, 48, 36)
    np.testing.assert_allclose(view.positions[0].numpy(), rig.positions[0], atol=1e-5)
    np.testing.assert_allclose(view.viewmats[0, :3, :3].numpy(), rig.rotations[0].T, atol=1e-5)
    expected = torch.tensor([[rig.focal, 0, 24], [0, rig.focal, 18], [0, 0, 1]])
    torch.testing.assert_close(view.Ks[0], expected.float())


def test_n3v_frame_range_is_rebased(videos: Path):
    outputs = parse(videos, frames=(2, 4))
    assert outputs.metadata["frame_ids"] == [0, 1, 2] * 3
    assert [source.frame for source in outputs.metadata["frame_sources"][:3]] == [2, 3, 4]
    assert outputs.metadata["num_frames"] == 3
    one = parse(videos, frames=(3, 3))
    assert one.cameras.times is not None
    assert one.metadata["num_frames"] == 1
    assert bool((one.cameras.times == 0).all())


def test_n3v_image_folders_and_downscaling(tmp_path: Path):
    scene = image_scene(tmp_path)
    outputs = parse(scene, downscale_factor=2, held_out_cameras=(2,))
    assert outputs.metadata["camera_ids"] == [0] * 4 + [1] * 4
    assert outputs.image_filenames[5] == scene / "cam01" / "images" / "0001.png"
    cameras = outputs.cameras
    assert (int(cameras.width[0]), int(cameras.height[0])) == (12, 8)
    assert (float(cameras.fx[0]), float(cameras.cx[0]), float(cameras.cy[0])) == (10, 6, 4)


def test_frames_per_second(videos: Path, tmp_path: Path):
    """What the videos say, 30 for images, and whatever the user knows better."""
    images, dome = image_scene(tmp_path / "images"), panoptic_scene(tmp_path / "dome")
    assert parse(videos).metadata["fps"] == 12.0
    assert parse(videos, "test", fps=59.94).metadata["fps"] == 59.94
    assert parse(images).metadata["fps"] == parse_panoptic(dome).metadata["fps"] == 30.0
    assert parse(images, fps=25.0).metadata["fps"] == 25.0
    assert parse_panoptic(dome, "test", fps=25.0).metadata["fps"] == 25.0


@pytest.mark.parametrize("fps", [0.0, -30.0, float("nan"), float("inf")])
def test_impossible_frames_per_second(tmp_path: Path, fps: float):
    with pytest.raises(ValueError, match=r"--fps expects .* above 0, got"):
        parse(image_scene(tmp_path / "images"), fps=fps)
    with pytest.raises(ValueError, match=r"--fps expects .* above 0, got"):
        parse_panoptic(panoptic_scene(tmp_path / "dome"), fps=fps)


def test_runs_written_before_the_rate_was_an_option_open(tmp_path: Path):
    """nerfstudio pickles configurations into config.yml, attribute by attribute."""
    old = N3VDataParserConfig(data=image_scene(tmp_path))
    del old.__dict__["fps"]
    again = yaml.load(yaml.dump(old), Loader=yaml.Loader)
    assert "fps" not in vars(again)
    assert again.setup().get_dataparser_outputs("train").metadata["fps"] == 30.0


@pytest.mark.parametrize(
    ("size", "factor", "expected"),
    [
        ((2704, 2028), None, (1352, 1014)),
        ((640, 360), None, (640, 360)),
        ((1600, 900), None, (1600, 900)),
        ((5000, 100), None, (1250, 25)),
        ((101, 50), 2, (50, 25)),
    ],
)
def test_downscaled_sizes(size: tuple[int, int], factor: int | None, expected: tuple[int, int]):
    assert scaled_size(*size, factor) == expected


def test_nerfstudio_accepts_the_outputs(videos: Path, tmp_path: Path):
    outputs = parse(videos)
    outputs.save_dataparser_transform(tmp_path / "sub" / "transforms.json")
    assert json.loads((tmp_path / "sub" / "transforms.json").read_text())["scale"] == 1.0
    assert len(InputDataset(outputs)) == 15
    assert torch.equal(outputs.dataparser_transform, torch.eye(4)[:3])


def test_panoptic_cameras_are_sorted_and_keep_their_centres(tmp_path: Path):
    outputs = parse_panoptic(panoptic_scene(tmp_path), frames=(1, 2))
    assert outputs.metadata["camera_ids"] == [1, 1, 4, 4, 7, 7]
    assert outputs.metadata["frame_ids"] == [0, 1] * 3
    assert outputs.image_filenames[2] == tmp_path / "ims" / "4" / "000001.jpg"
    view = view_from_cameras(outputs.cameras)
    torch.testing.assert_close(view.Ks[0, :2, 2], torch.tensor([11.5, 8.25]))
    torch.testing.assert_close(view.viewmats[2, :3, 3], torch.tensor([0.4, 0.0, 3.0]))
    torch.testing.assert_close(view.viewmats[0, :3, :3], torch.eye(3))
    assert parse_panoptic(tmp_path, "test").metadata["camera_ids"] == [2, 2, 2]


def test_panoptic_downscaling_scales_the_intrinsics(tmp_path: Path):
    cameras = parse_panoptic(panoptic_scene(tmp_path), downscale_factor=2).cameras
    assert (float(cameras.fx[0]), float(cameras.cy[0])) == (10.0, 4.125)


def test_n3v_frames_follow_their_numbers(tmp_path: Path):
    """Frames as `ffmpeg %d.png` writes them, and padded ones."""
    for style in ("{}.png", "frame_{:05d}.png"):
        scene = image_scene(tmp_path / style[:3], num_cameras=2, num_frames=12)
        for camera in ("cam00", "cam01"):
            for frame in range(12):
                image = scene / camera / "images" / f"{frame:04d}.png"
                image.rename(image.with_name(style.format(frame)))
        names = [path.name for path in parse(scene).image_filenames]
        assert names == [style.format(frame) for frame in range(12)]


def test_cameras_of_two_possible_orders(tmp_path: Path):
    """cam1, cam10, cam2: nobody can tell whose pose the second row is."""
    scene = image_scene(tmp_path, num_cameras=11, num_frames=1)
    assert parse(scene, held_out_cameras=(10,)).metadata["camera_ids"] == list(range(10))
    for camera in range(11):
        (scene / f"cam{camera:02d}").rename(scene / f"cam{camera}")
    with pytest.raises(ValueError, match=r"cam10 comes before cam2 .*leading zeros"):
        parse(scene)
    for path in scene.glob("cam*"):
        path.with_suffix(".mp4").touch()
    with pytest.raises(ValueError, match=r"cam10 comes before cam2 .*leading zeros"):
        parse(scene)


# ---- mistakes: every message names what is wrong and what to do ----


def test_missing_scene_and_missing_cameras(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"scene folder at .*nowhere.*--data"):
        parse(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"cam00\.mp4.*found no camera"):
        parse(tmp_path)


def test_missing_video(videos: Path, tmp_path: Path):
    for path in videos.iterdir():
        if path.suffix and path.name != "cam02.mp4":
            (tmp_path / path.name).symlink_to(path)
    with pytest.raises(ValueError, match="4 rows for 3 cameras"):
        parse(tmp_path)
    (tmp_path / "cam02").mkdir()
    with pytest.raises(FileNotFoundError, match=r"cam02\.mp4 is missing"):
        parse(tmp_path)


def test_truncated_video_is_named(videos: Path, tmp_path: Path):
    for path in videos.glob("*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "cam01.mp4").write_bytes((videos / "cam01.mp4").read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"cam01\.mp4.*header cannot be read"):
        parse(tmp_path)


def test_cameras_of_unequal_length_are_named(tmp_path: Path):
    scene = image_scene(tmp_path)
    (scene / "cam02" / "images" / "0003.png").unlink()
    (scene / "cam01" / "images" / "0003.png").unlink()
    (scene / "cam01" / "images" / "0002.png").unlink()
    with pytest.raises(ValueError, match=r"share 2 of 4: cam01 has 2 .*cam02 has 3 .*cam00 has 4"):
        parse(scene)


def test_frames_that_all_cameras_have_need_no_equal_length(tmp_path: Path):
    scene = image_scene(tmp_path)
    (scene / "cam02" / "images" / "0003.png").unlink()
    outputs = parse(scene, frames=(0, 2))
    assert outputs.metadata["frame_ids"] == [0, 1, 2] * 2
    assert outputs.metadata["num_frames"] == 3
    with pytest.raises(ValueError, match=r"share 3 of 4: cam02 has 3"):
        parse(scene, frames=(0, 3))


def test_images_of_unequal_size_are_both_named(tmp_path: Path):
    from PIL import Image

    scene = image_scene(tmp_path)
    Image.new("RGB", (30, 20)).save(scene / "cam01" / "images" / "0000.png")
    with pytest.raises(ValueError, match=r"cam00.* 24x16.*cam01.* 30x20"):
        parse(scene)


def test_empty_camera_folder(tmp_path: Path):
    scene = image_scene(tmp_path)
    for path in (scene / "cam01" / "images").iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"cam01.*holds none"):
        parse(scene)


def test_broken_poses(tmp_path: Path):
    scene = image_scene(tmp_path)
    rows = poses_bounds(3)
    np.save(scene / "poses_bounds.npy", rows[:2])
    with pytest.raises(ValueError, match="2 rows for 3 cameras"):
        parse(scene)
    rows[1, 4] = np.nan
    np.save(scene / "poses_bounds.npy", rows)
    with pytest.raises(ValueError, match=r"poses_bounds\.npy, but row 1 holds NaN"):
        parse(scene)
    np.save(scene / "poses_bounds.npy", rows[:, :15])
    with pytest.raises(ValueError, match=r"\[cameras, 17\].*\[3, 15\]"):
        parse(scene)
    (scene / "poses_bounds.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"poses at .*poses_bounds\.npy"):
        parse(scene)


@pytest.mark.parametrize("frames", [(0, 4), (-1, 2), (3, 2)])
def test_frames_outside_the_recording(tmp_path: Path, frames: tuple[int, int]):
    scene = image_scene(tmp_path)
    with pytest.raises(ValueError, match="4 frames"):
        parse(scene, frames=frames)


@pytest.mark.parametrize("held_out", [(), (3,), (0, 1, 2)])
def test_impossible_held_out_cameras(tmp_path: Path, held_out: tuple[int, ...]):
    with pytest.raises(ValueError, match="some, but not all, of the 3 cameras"):
        parse(image_scene(tmp_path), held_out_cameras=held_out)


def test_panoptic_mistakes(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"train_meta\.json"):
        parse_panoptic(tmp_path)
    scene = panoptic_scene(tmp_path)
    meta = json.loads((scene / "train_meta.json").read_text())
    meta["w2c"][1][2][0][3] = float("nan")
    (scene / "train_meta.json").write_text(json.dumps(meta))
    with pytest.raises(ValueError, match="NaN"):
        parse_panoptic(scene)
    del meta["k"]
    (scene / "train_meta.json").write_text(json.dumps(meta))
    with pytest.raises(ValueError, match=r"train_meta\.json.*KeyError: 'k'"):
        parse_panoptic(scene)
    with pytest.raises(ValueError, match="3 frames"):
        parse_panoptic(panoptic_scene(tmp_path / "other"), frames=(0, 3))


@pytest.mark.data
def test_real_dome_parses(data_dir: Path):
    scene = data_dir / "panoptic_basketball"
    train, test = parse_panoptic(scene, frames=(0, 1)), parse_panoptic(scene, "test", frames=(0, 1))
    assert len(train.image_filenames) == 27 * 2
    assert sorted(set(test.metadata["camera_ids"])) == [0, 10, 15, 30]
    assert not set(train.metadata["camera_ids"]) & {0, 10, 15, 30}
    assert all(path.is_file() for path in train.image_filenames + test.image_filenames)
    # Points triangulated from training cameras lie in front of them.
    view = view_from_cameras(train.cameras)
    points = train.metadata["points3D_xyz"]
    depth = points @ view.viewmats[:, 2, :3].T + view.viewmats[:, 2, 3]
    assert (depth > 0).float().mean() > 0.9
