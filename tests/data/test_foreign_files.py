"""Files and folders that other programs leave in a scene become neither frames nor cameras."""

from pathlib import Path

import numpy as np
import pytest
from data_helpers import image_scene, test_image, tiny_video_scene
from PIL import Image

from moegs_ns.data.dataparsers.n3v import N3VDataParserConfig
from moegs_ns.data.dataparsers.recordings import find_recordings


def frames(scene: Path) -> list[str]:
    outputs = N3VDataParserConfig(data=scene).setup().get_dataparser_outputs("train")
    return [path.name for path in outputs.image_filenames if "cam01" in path.parts]


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return image_scene(tmp_path)


FRAMES = [f"{frame:04d}.png" for frame in range(4)]


def test_hidden_files_and_other_endings_are_ignored(scene: Path):
    for path in list(scene.glob("cam*/images/*.png")):
        (path.parent / f"._{path.name}").write_bytes(b"\x00\x05\x16\x07" + bytes(200))
        (path.parent / f"{path.name}.xmp").write_text("sidecar")
    for folder in scene.glob("cam*/images"):
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", ".0009.png"):
            (folder / name).write_bytes(b"x")
        (folder / "masks.png").mkdir()
    (scene / "._cam00").write_bytes(b"x")
    assert frames(scene) == FRAMES


@pytest.mark.parametrize(
    "name", ["{}_mask.png", "mask_{}.png", "{} copy.png", "{}_thumb.jpg", "{} (1).png"]
)
def test_masks_thumbnails_and_copies_are_refused(scene: Path, name: str):
    for path in list(scene.glob("cam01/images/*.png")):
        Image.new("RGB", (6, 4)).save(path.with_name(name.format(path.stem)))
    with pytest.raises(ValueError, match=r"one series of images in .*cam01/images, but 4 are"):
        frames(scene)


@pytest.mark.parametrize("name", ["preview.jpg", "background.png", "cam01_calib_00.png"])
def test_a_single_other_image_is_refused(scene: Path, name: str):
    Image.new("RGB", (24, 16)).save(scene / "cam01" / "images" / name)
    with pytest.raises(ValueError, match=rf"4 are called like 0000\.png and 1 like {name}"):
        frames(scene)


def test_copies_with_another_ending_are_refused(scene: Path):
    for path in list(scene.glob("cam01/images/*.png")):
        Image.open(path).save(path.with_suffix(".jpg"))
    with pytest.raises(ValueError, match=r"8 images have 4 numbers, 0000\.jpg and 0000\.png the"):
        frames(scene)


def test_unpadded_copies_are_refused(scene: Path):
    Image.fromarray(test_image(1, 1)).save(scene / "cam01" / "images" / "1.png")
    with pytest.raises(ValueError, match=r"5 images have 4 numbers, 0001\.png and 1\.png the same"):
        frames(scene)


def test_frames_of_two_endings_are_one_series(scene: Path):
    for path in list(scene.glob("cam*/images/0003.png")):
        Image.open(path).save(path.with_suffix(".JPG"))
        path.unlink()
    assert frames(scene) == [*FRAMES[:3], "0003.JPG"]


@pytest.mark.parametrize("make", [image_scene, tiny_video_scene])
def test_folders_of_the_viewer_are_no_cameras(tmp_path: Path, make):
    scene = make(tmp_path)
    before = [recording.name for recording in find_recordings(scene)]
    for name in ("camera_paths", "cameras", "cam_calibration"):
        (scene / name).mkdir()
        (scene / name / "2026-11-30.json").write_text("{}")
    assert [recording.name for recording in find_recordings(scene)] == before


def test_videos_in_capital_letters(tmp_path: Path):
    scene = tiny_video_scene(tmp_path)
    for path in list(scene.glob("cam*.mp4")):
        path.rename(path.with_suffix(".MP4"))
        (scene / path.stem).mkdir()
    assert [recording.name for recording in find_recordings(scene)] == [
        "cam00", "cam01", "cam02", "cam03",
    ]  # fmt: skip


def test_cameras_beyond_the_poses_are_named(scene: Path):
    """And no advice that would shift the poses of the others."""
    np.save(scene / "poses_bounds.npy", np.load(scene / "poses_bounds.npy")[:2])
    with pytest.raises(ValueError, match=r"2 rows for 3 cameras \(cam00, cam01, cam02\)") as error:
        frames(scene)
    assert "remove" not in str(error.value)
