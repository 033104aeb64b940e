"""`rig-data`: cameras of any lens, size and name, from a rig file."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from data_helpers import show_turned, test_image, write_video
from PIL import Image
from rig_helpers import (
    DISTORTION,
    POINTS,
    KnownCamera,
    edit_rig,
    known_cameras,
    lens_of,
    rig_scene,
)

from moegs_ns.cameras import view_from_cameras
from moegs_ns.data.datamanager import MoegsDataManagerConfig
from moegs_ns.data.dataparsers.panoptic import PanopticDataParserConfig, read_calibration
from moegs_ns.data.dataparsers.rig import RigDataParserConfig
from moegs_ns.data.frames.dataset import FrameDataset, with_image_ids
from moegs_ns.data.rig_files import (
    CONVENTIONS,
    RIG,
    Rig,
    RigCamera,
    lens_from_matrix,
    read_rig,
    write_rig,
)


def parse(scene: Path, split: str = "train", **options):
    options = {"num_random_points": 50, **options}
    return RigDataParserConfig(data=scene, **options).setup().get_dataparser_outputs(split)


def dataset(scene: Path, split: str = "train", **options) -> FrameDataset:
    return FrameDataset(with_image_ids(parse(scene, split, **options)), data=scene)


def pixels(outputs, image: int) -> np.ndarray:
    """Where the known points are seen in an image."""
    view = view_from_cameras(outputs.cameras[torch.tensor([image])])
    local = POINTS @ view.viewmats[0, :3, :3].numpy().T + view.viewmats[0, :3, 3].numpy()
    flat = local @ view.Ks[0].numpy().T
    return flat[:, :2] / flat[:, 2:]


def seen(camera: KnownCamera, width: int, height: int) -> np.ndarray:
    """Where a camera without distortion sees the known points in images of another size."""
    return replace(camera, distortion=()).pixels() * (width / camera.width, height / camera.height)


def test_points_are_where_the_cameras_see_them(tmp_path: Path):
    cameras = known_cameras(distortion=())
    outputs = parse(rig_scene(tmp_path / "scene", cameras))
    assert outputs.metadata["camera_ids"] == [0] * 4 + [1] * 4 + [2] * 4
    assert outputs.metadata["frame_ids"] == [0, 1, 2, 3] * 3
    assert outputs.metadata["fps"] == 25.0
    assert outputs.mask_filenames is None
    for number, camera in enumerate(cameras):
        np.testing.assert_allclose(pixels(outputs, 4 * number), seen(camera, 24, 16), atol=1e-3)


@pytest.mark.parametrize("is_fisheye", [False, True])
def test_images_are_undistorted_once_and_what_they_lack_is_masked(tmp_path: Path, is_fisheye: bool):
    distortion = (0.2, 0.0, 0.0, 0.0) if is_fisheye else DISTORTION
    cameras = known_cameras(distortion=distortion, is_fisheye=is_fisheye)
    scene = rig_scene(tmp_path / "scene", cameras, sizes=((64, 48),) * 3)
    # Bright images, so that black is what lacks.
    for file in scene.rglob("*.png"):
        Image.new("RGB", (64, 48), (200, 150, 100)).save(file)
    outputs = parse(scene, focal_scale=0.8)
    assert outputs.mask_filenames is not None and len(outputs.mask_filenames) == 12
    assert len(set(outputs.mask_filenames)) == 3
    data = FrameDataset(with_image_ids(outputs), data=scene)
    item = data.get_data(4)
    mask = item["mask"][..., 0].numpy().astype(bool)
    assert item["image"].shape[:2] == mask.shape == (48, 64)
    assert 0.3 < mask.mean() < 0.999
    colour = torch.tensor([200.0, 150.0, 100.0]) / 255.0
    assert (item["image"][mask] - colour).abs().max() < 1e-6
    assert not item["image"][~mask].any()
    # The pinhole has the lens's principal point and 0.8 of its focal length.
    lens = lens_of(cameras[1], 64, 48)
    found = outputs.cameras[4]
    expected = [0.8 * lens.fx, 0.8 * lens.fy, lens.cx, lens.cy]
    got = [float(each) for each in (found.fx, found.fy, found.cx, found.cy)]
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    assert outputs.cameras.distortion_params is None


def test_images_of_several_sizes_share_a_canvas(tmp_path: Path):
    """A portrait among landscapes: the rest of the canvas is masked, and no image is resized."""
    cameras = known_cameras(distortion=())
    cameras[1] = replace(cameras[1], width=480, height=640)
    sizes = ((24, 16), (15, 20), (12, 8))
    scene = rig_scene(tmp_path / "scene", cameras, sizes=sizes)
    outputs = parse(scene)
    data = FrameDataset(with_image_ids(outputs), data=scene)
    assert set(outputs.cameras.width.flatten().tolist()) == {24}
    assert set(outputs.cameras.height.flatten().tolist()) == {20}
    for number, (width, height) in enumerate(sizes):
        image = data.get_numpy_image(4 * number + 2)
        assert image.shape == (20, 24, 3)
        np.testing.assert_array_equal(image[:height, :width], test_image(number, 2, width, height))
        mask = data.get_data(4 * number + 2)["mask"][..., 0].numpy()
        assert mask[:height, :width].all() and mask.sum() == width * height
        np.testing.assert_allclose(
            pixels(outputs, 4 * number), seen(cameras[number], width, height), atol=1e-3
        )


def test_smaller_images_than_calibrated_ones_scale_the_lens(tmp_path: Path):
    scene = rig_scene(tmp_path / "scene", sizes=((24, 16),) * 3)
    expected = pixels(parse(scene), 0)
    content = json.loads((scene / RIG).read_text())
    scaled = (np.array(content["cameras"][0]["K"]) * np.array([[3.0], [3.0], [1.0]])).tolist()
    edit_rig(scene, 0, width=72, height=48, K=scaled)
    np.testing.assert_allclose(pixels(parse(scene), 0), expected, atol=1e-4)
    half = parse(scene, downscale_factor=2)
    np.testing.assert_allclose(pixels(half, 0), 0.5 * expected, atol=1e-4)
    edit_rig(scene, 0, width=48, height=48)
    with pytest.raises(ValueError, match=r"cam00 in the proportions of 48x48.* is 24x16 as it"):
        parse(scene)


@pytest.mark.parametrize(
    ("held_out", "excluded", "train", "test"),
    [
        ((), (), [0, 1, 2], [0]),
        (("cam01",), (), [0, 2], [1]),
        (("cam02", "cam00"), (), [1], [0, 2]),
        (("cam00",), ("cam01",), [2], [0]),
        ((), ("cam00",), [1, 2], [1]),
    ],
)
def test_cameras_are_held_out_and_excluded_by_name(tmp_path: Path, held_out, excluded, train, test):
    scene = rig_scene(tmp_path / "scene")
    options = {"held_out_cameras": held_out, "exclude_cameras": excluded}
    assert sorted(set(parse(scene, **options).metadata["camera_ids"])) == train
    outputs = parse(scene, "test", **options)
    assert sorted(set(outputs.metadata["camera_ids"])) == test
    note = parse(scene, **options).metadata["note"]
    assert ("No camera is held out: evaluation shows cam0" in note) is not bool(held_out)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"held_out_cameras": ("cam9",)},
            r"--held-out-cameras expects .*cam00, cam01, cam02\), got cam9",
        ),
        ({"exclude_cameras": ("cam9",)}, r"--exclude-cameras expects .*got cam9"),
        ({"exclude_cameras": ("cam01",) * 2}, "each camera once"),
        ({"held_out_cameras": ("cam01",), "exclude_cameras": ("cam01",)}, "both name cam01"),
        (
            {"held_out_cameras": ("cam00", "cam01", "cam02")},
            "cam00 cam01 cam02; hold some out, and leave some to train on",
        ),
        ({"focal_scale": 0.0}, "--focal-scale expects a number above 0"),
        ({"frames": (0, 9)}, r"--frames expects .*LAST <= 3"),
        ({"fps": -1.0}, "--fps expects"),
        ({"align": "time"}, "--align expects number or position"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, options: dict, message: str):
    scene = rig_scene(tmp_path / "scene")
    with pytest.raises(ValueError, match=message):
        parse(scene, **options)
    assert not list(scene.rglob("*.part"))


def test_given_starts_shift_images_and_videos(tmp_path: Path):
    """Camera 1 started two frames before the others."""
    scene = rig_scene(tmp_path / "images", num_frames=6)
    edit_rig(scene, 1, start=2)
    outputs, data = parse(scene), dataset(scene)
    assert outputs.metadata["frame_ids"] == [0, 1, 2, 3] * 3
    assert "all 3 cameras have 4" in outputs.metadata["note"]
    greens = [int(data.get_numpy_image(index)[0, 0, 1]) for index in (0, 4, 7, 8)]
    assert greens == [0, 40, 100, 0]
    for number in range(3):
        images = [test_image(number, frame) for frame in range(6)]
        write_video(scene / f"Take {number}.MOV.mp4", images)
        edit_rig(scene, number, file=f"Take {number}.MOV.mp4")
    data = dataset(scene, frames=(1, 3))
    greens = [int(data.get_numpy_image(index)[0, 0, 1]) for index in (0, 3, 5, 6)]
    np.testing.assert_allclose(greens, [20, 60, 100, 20], atol=3)
    edit_rig(scene, 1, start=6)
    with pytest.raises(ValueError, match=r"start of cam01 between 0 and 5.*got 6"):
        parse(scene)


def test_a_camera_of_twice_the_rate_is_matched_by_time(tmp_path: Path):
    scene = rig_scene(tmp_path / "scene")
    for number, (fps, step) in enumerate([(30, 1), (60, 1), (30, 1)]):
        count = 8 if fps == 60 else 4
        images = [test_image(number, step * frame) for frame in range(count)]
        write_video(scene / f"{number}.mp4", images, fps=fps)
        edit_rig(scene, number, file=f"{number}.mp4", fps=None)
    with pytest.raises(ValueError, match=r"1\.mp4 has 8, 60 per second.*--align time"):
        parse(scene)
    data = dataset(scene, align="time")
    greens = [int(data.get_numpy_image(index)[0, 0, 1]) for index in (1, 5, 9)]
    np.testing.assert_allclose(greens, [20, 40, 20], atol=3)


def test_a_turned_video_has_the_size_that_players_show(tmp_path: Path):
    cameras = [replace(camera, width=480, height=640) for camera in known_cameras(distortion=())]
    scene = rig_scene(tmp_path / "scene", cameras, sizes=((16, 24),) * 3)
    for number in range(3):
        video = write_video(scene / f"{number}.mp4", [test_image(number, f) for f in range(4)])
        show_turned(video, (0, 1, -1, 0))
        edit_rig(scene, number, file=video.name)
    image = dataset(scene).get_numpy_image(1)
    assert image.shape == (24, 16, 3)
    np.testing.assert_allclose(image, np.rot90(test_image(0, 1), -1), atol=6)
    edit_rig(scene, 2, width=24, height=16)
    with pytest.raises(ValueError, match=r"cam02 in the proportions of 24x16.* is 16x24 as it is"):
        parse(scene)


@pytest.mark.parametrize("ending", [".webp", ".tif", ".bmp", ".jpeg"])
def test_images_of_any_ending(tmp_path: Path, ending: str):
    scene = rig_scene(tmp_path / "scene", ending=ending)
    image = dataset(scene).get_numpy_image(6)
    assert np.abs(image.astype(int) - test_image(1, 2)).mean() < 12


def test_images_of_all_cameras_in_one_folder(tmp_path: Path):
    """Also where the lenses differ, so that not all are undistorted alike."""
    scene = rig_scene(tmp_path / "scene", num_frames=12)
    (scene / "all").mkdir()
    for number in range(3):
        for frame in range(12):
            image = Image.fromarray(test_image(number, frame))
            image.save(scene / "all" / f"Take_undist_{frame:05d}_{number:02d}.png")
        edit_rig(scene, number, file=f"all/*_{number:02d}.png")
    edit_rig(scene, 2, distortion=[0.4, 0.0, 0.0, 0.0])
    data = dataset(scene)
    for frame in (0, 7, 11):
        for number in range(2):
            image = data.get_numpy_image(12 * number + frame)
            np.testing.assert_array_equal(image, test_image(number, frame))
        # Of the third, red and green say which image it is, and blue that it is undistorted.
        image, stored = data.get_numpy_image(24 + frame), test_image(2, frame)
        np.testing.assert_array_equal(image[8, 12, :2], stored[8, 12, :2])
        assert np.abs(image[8].astype(int) - stored[8])[:, 2].max() > 2
    edit_rig(scene, 2, file="all/*_77.png")
    with pytest.raises(FileNotFoundError, match=r"holds none like \*_77\.png"):
        parse(scene)


def test_another_lens_decodes_anew(tmp_path: Path):
    scene = rig_scene(tmp_path / "scene", sizes=((64, 48),) * 3)
    before = dataset(scene).get_numpy_image(0)
    edit_rig(scene, 0, distortion=[0.4, 0.0, 0.0, 0.0])
    after = dataset(scene).get_numpy_image(0)
    assert np.abs(before.astype(int) - after).max() > 10


def test_masks_of_read_only_data_lie_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    scene = rig_scene(tmp_path / "scene", sizes=((24, 16), (24, 16), (12, 8)))
    # A file in the place of the folder stops even an administrator from writing there.
    (scene / "moegs_frames").write_text("")
    masks = parse(scene).mask_filenames
    assert masks is not None
    assert all(mask.is_relative_to(tmp_path / "cache") and mask.is_file() for mask in masks)


def test_training_images_keep_their_masks_without_validation_cameras(tmp_path: Path):
    scene = rig_scene(tmp_path / "scene", sizes=((24, 16), (24, 16), (12, 8)))
    config = MoegsDataManagerConfig(
        dataparser=RigDataParserConfig(data=scene, num_random_points=50), val_cameras=(1,)
    )
    manager = config.setup(device="cpu", test_mode="val")
    assert manager.train_dataset.get_data(4)["mask"].sum() == 12 * 8
    assert manager.eval_dataset.get_data(0)["mask"].all()
    batch = manager.next_train(0)[1]
    assert batch["image"].shape[1:] == (16, 24, 3)


# ---- the file ----


def test_a_rig_file_says_what_its_numbers_mean(tmp_path: Path):
    scene = rig_scene(tmp_path / "scene", known_cameras())
    content = json.loads((scene / RIG).read_text())
    assert content["conventions"] == CONVENTIONS
    explained = {name for key in CONVENTIONS for name in key.split(", ")}
    assert set(content["cameras"][0]) - {"name"} == explained - {"unit", "bars"}
    rig = read_rig(scene / RIG)
    write_rig(tmp_path / "copy.json", rig)
    assert (tmp_path / "copy.json").read_text() == (scene / RIG).read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"world_to_camera": None}, r"cam01 has no lens or pose.*--exclude-cameras"),
        ({"K": None}, "cam01 has no lens or pose"),
        ({"K": [[1, 0], [0, 1]]}, r"Expected a rig file .*Expected intrinsics"),
        ({"distortion": [0.1]}, "distortion coefficients"),
        ({"model": "omni"}, "opencv or fisheye, got omni"),
        ({"world_to_camera": [[1, 0, 0, 0]]}, "pose of cam01 is no finite 3x4 matrix"),
        ({"world_to_camera": np.diag([1, 1, -1, 1])[:3].tolist()}, r"cam01 in .*mirrored"),
        ({"name": "cam00"}, "2 cameras are called cam00"),
        ({"name": 7}, "a camera has the name 7"),
        ({"start": -1}, "cam01 starts at frame -1"),
        ({"fps": 0}, "cam01 has 0 frames per second"),
        ({"width": 0}, "cam01 has the size 0x16"),
        ({"file": "../elsewhere"}, r"Expected images"),
    ],
)
def test_rig_files_that_cannot_be(tmp_path: Path, changes: dict, message: str):
    scene = rig_scene(tmp_path / "scene")
    if "file" in changes:
        (scene / "view cam01").rename(tmp_path / "elsewhere")
    edit_rig(scene, 1, **changes)
    with pytest.raises(ValueError, match=message):
        parse(scene)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "moegs rig 1", "cameras": []}'])
def test_what_is_no_rig_file(tmp_path: Path, text: str):
    (tmp_path / RIG).write_text(text)
    with pytest.raises(ValueError, match=r"Expected a rig file .*moegs prepare rig"):
        read_rig(tmp_path / RIG)
    (tmp_path / RIG).unlink()
    with pytest.raises(FileNotFoundError, match=r"no such file; write it with `moegs prepare rig`"):
        read_rig(tmp_path / RIG)


def test_videos_beside_images_are_refused(tmp_path: Path):
    scene = rig_scene(tmp_path / "scene")
    write_video(scene / "a.mp4", [test_image(1, frame) for frame in range(4)])
    edit_rig(scene, 1, file="a.mp4")
    with pytest.raises(ValueError, match=r"a\.mp4 is a video and others are images"):
        parse(scene)


# ---- real cameras ----


@pytest.mark.data
def test_a_dome_as_rig_has_the_cameras_of_its_own_layout(tmp_path: Path, data_dir: Path):
    """The first three frames of all 31 cameras of PanopticSports basketball."""
    dome = data_dir / "panoptic_basketball"
    if not dome.is_dir():
        pytest.skip(f"needs the scene in {dome}")
    train, test = (read_calibration(dome / f"{name}_meta.json") for name in ("train", "test"))
    cameras = {}
    for calibration in (train, test):
        for row in np.flatnonzero(calibration.frames < 3):
            source = dome / "ims" / calibration.filenames[row]
            target = tmp_path / "scene" / f"c{calibration.cameras[row]:02d}" / source.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(source)
            name = target.parent.name
            K, pose = calibration.Ks[row], calibration.viewmats[row, :3]
            lens = lens_from_matrix(K)
            size = (calibration.width, calibration.height)
            cameras[name] = RigCamera(name, name, *size, lens, pose, fps=30.0)
    ordered = tuple(cameras[name] for name in sorted(cameras))
    write_rig(tmp_path / "scene" / RIG, Rig(ordered, "m"))
    held_out = tuple(f"c{camera:02d}" for camera in sorted(set(test.cameras.tolist())))
    for split in ("train", "test"):
        given = PanopticDataParserConfig(data=dome, frames=(0, 2)).setup()
        expected = given.get_dataparser_outputs(split)
        found = parse(tmp_path / "scene", split, held_out_cameras=held_out)
        assert len(ordered) == 31 and found.mask_filenames is None
        assert found.metadata["camera_ids"] == expected.metadata["camera_ids"]
        assert found.metadata["frame_ids"] == expected.metadata["frame_ids"]
        for name in ("camera_to_worlds", "fx", "fy", "cx", "cy", "width", "height", "times"):
            pair = (getattr(each.cameras, name) for each in (found, expected))
            torch.testing.assert_close(*pair)
        one = FrameDataset(with_image_ids(found), data=tmp_path / "scene").get_numpy_image(4)
        with Image.open(expected.image_filenames[4]) as image:
            np.testing.assert_array_equal(one, np.array(image))
