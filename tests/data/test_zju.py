"""`zju-data`: NeuralBody's layout of ZJU-MoCap."""

from pathlib import Path

import numpy as np
import pytest
from layouts import assert_dots_where_expected, assert_served
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from PIL import Image
from zju_scenes import SIZE, annotations, image_name, write_annotations, zju_cameras, zju_scene

from moegs_ns.data.dataparsers.zju import ZJUDataParserConfig
from moegs_ns.data.frames.dataset import FrameDataset


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture that no test changes."""
    return zju_scene(tmp_path_factory.mktemp("zju") / "CoreView_377")


def parse(scene: Path, split: str = "train", **options) -> DataparserOutputs:
    return ZJUDataParserConfig(data=scene, **options).setup().get_dataparser_outputs(split)


def bright(scene: Path, number: int, value: int = 200) -> None:
    """One even colour in all images of a camera."""
    for path in (scene / Path(image_name(number, 0)).parent).glob("*.jpg"):
        Image.new("RGB", (SIZE, SIZE), (value, value, value)).save(path)


def first_image(outputs: DataparserOutputs, store: Path) -> np.ndarray:
    return FrameDataset(outputs, data=store, frame_store_dir=store).get_numpy_image(0)


def test_published_split_and_numbers(made: Path):
    train, held_out = parse(made), parse(made, "test")
    assert train.metadata["camera_ids"] == [0, 0, 6, 6, 12, 12, 18, 18]
    assert sorted(set(held_out.metadata["camera_ids"])) == sorted(set(range(19)) - {0, 6, 12, 18})
    assert held_out.metadata["frame_ids"] == [0, 1] * 15
    assert (int(train.cameras.width[0]), int(train.cameras.height[0])) == (SIZE // 2, SIZE // 2)
    assert train.image_filenames[3].relative_to(made).as_posix() == "Camera_B7/000001.jpg"
    chosen = parse(made, "test", held_out_cameras=(1, 2), exclude_cameras=(3,))
    assert chosen.metadata["camera_ids"] == [1, 1, 2, 2]
    assert 5 not in parse(made, "test", exclude_cameras=(5,)).metadata["camera_ids"]


@pytest.mark.parametrize("options", [{}, {"downscale_factor": 1}])
def test_cameras_see_the_points(made: Path, tmp_path: Path, options: dict):
    """Through distortion, pixels that are counted from 0 and lengths in millimetres."""
    for split in ("train", "test"):
        outputs = parse(made, split, background="kept", **options)
        assert_dots_where_expected(outputs, tmp_path / "store")


def test_names_and_masks_of_the_first_captures(tmp_path: Path):
    scene = zju_scene(tmp_path / "CoreView_313", is_313=True, masks="mask")
    outputs = parse(scene, frames=(1, 1))
    assert outputs.image_filenames[1].parent.name == "Camera (7)"
    assert "_0002_" in outputs.image_filenames[1].name
    assert outputs.metadata["first_frame"] == 1
    assert first_image(outputs, tmp_path / "store").max() > 100


def test_the_clip_is_that_of_papers(made: Path, tmp_path: Path):
    (tmp_path / "mask").mkdir()
    for number in range(19):
        (tmp_path / f"Camera_B{number + 1}").symlink_to(made / f"Camera_B{number + 1}")
    content = annotations(zju_cameras(), 2)
    content["ims"] = content["ims"] * 151
    write_annotations(tmp_path / "annots.npy", content)
    assert parse(tmp_path).metadata["num_frames"] == 300
    assert parse(tmp_path, max_frames=60).metadata["num_frames"] == 60
    late = parse(tmp_path, frames=(296, 301))
    assert (late.metadata["first_frame"], late.metadata["num_frames"]) == (296, 6)
    content["ims"] = content["ims"][:3]
    write_annotations(tmp_path / "annots.npy", content)
    assert parse(tmp_path, max_frames=2).metadata["num_frames"] == 2
    assert parse(tmp_path, max_frames=None).metadata["num_frames"] == 3
    with pytest.raises(ValueError, match=r"--max-frames expects a number above 0"):
        parse(tmp_path, max_frames=0)


def test_all_but_the_person_is_black(tmp_path: Path):
    """With two pixels around the mask, as NeuralBody leaves them."""
    scene = zju_scene(tmp_path / "scene", num_frames=1)
    bright(scene, 0)
    image = first_image(parse(scene, downscale_factor=1), tmp_path / "store")
    row = image[SIZE // 2, :, 0]
    # Near the border of these lenses an undistorted pixel shows one a little further inside.
    first_black = int(np.argmax(row[SIZE // 2 :] < 100)) + SIZE // 2
    lens = zju_cameras()[0]
    u = (np.arange(SIZE) + 0.5 - lens.cx) / lens.fx
    local = np.stack([u, np.full(SIZE, (SIZE // 2 + 0.5 - lens.cy) / lens.fy), np.ones(SIZE)], 1)
    shown = lens.pixels((local - lens.t) @ lens.R)[:, 0]
    assert abs(shown[first_black] - (SIZE - 8 + 2)) < 1.5
    assert (row[first_black + 1 :] == 0).all()
    assert parse(scene).mask_filenames is not None


def test_other_backgrounds(tmp_path: Path):
    scene = zju_scene(tmp_path / "scene", num_frames=1)
    bright(scene, 0)
    kept, masked = (parse(scene, background=name) for name in ("kept", "masked"))
    column = SIZE // 2 - 6
    for outputs in (kept, masked):
        image = first_image(outputs, tmp_path / "store")
        assert image[SIZE // 4, column, 0] > 150
    valid, person = (
        np.asarray(Image.open((outputs.mask_filenames or [])[0])) for outputs in (kept, masked)
    )
    assert valid.shape == person.shape == (SIZE // 2, SIZE // 2)
    assert valid[SIZE // 4, SIZE // 4] == person[SIZE // 4, SIZE // 4] == 255
    # What the mask leaves out and the lens shows.
    assert (person <= valid).all() and (person[SIZE // 4] < valid[SIZE // 4]).sum() in (3, 4, 5)
    mask = scene / "mask_cihp" / "Camera_B1" / "000000.png"
    Image.new("L", (SIZE, SIZE), 0).save(mask)
    again = parse(scene, background="masked").mask_filenames
    assert again is not None and np.asarray(Image.open(again[0])).max() == 0


def test_another_mask_gives_other_images(tmp_path: Path):
    """Images that were decoded with the old mask are not used again."""
    scene = zju_scene(tmp_path / "scene", num_frames=1)
    bright(scene, 0)
    assert first_image(parse(scene), tmp_path / "store").max() > 150
    Image.new("L", (SIZE, SIZE), 0).save(scene / "mask_cihp" / "Camera_B1" / "000000.png")
    assert first_image(parse(scene), tmp_path / "store").max() == 0


def test_methods_get_the_images(made: Path):
    assert_served(ZJUDataParserConfig(data=made))


def test_mistakes_of_the_folder(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"annots\.npy, but there is no such file; set"):
        parse(tmp_path)
    scene = zju_scene(tmp_path / "scene", num_frames=1)
    mask = scene / "mask_cihp" / "Camera_B1" / "000000.png"
    Image.new("L", (64, 64), 255).save(mask)
    with pytest.raises(ValueError, match=r"mask of the image's size \(128x128\) .*64x64; save"):
        first_image(parse(scene), tmp_path / "store")
    mask.unlink()
    with pytest.raises(FileNotFoundError, match=r"a mask at .*000000\.png, but there is none"):
        first_image(parse(scene), tmp_path / "store")
    with pytest.raises(FileNotFoundError, match=r"a mask at .*000000\.png, but there is none"):
        parse(scene, background="masked")
    (scene / "mask_cihp").rename(scene / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"masks of the person in .*--background kept"):
        parse(scene)
    write_annotations(scene / "annots.npy", annotations(zju_cameras(18), 1))
    with pytest.raises(ValueError, match=r"at least 19 cameras .*got 18; .*--held-out-cameras"):
        parse(scene, background="kept")
    few = parse(scene, background="kept", held_out_cameras=(0,))
    assert sorted(set(few.metadata["camera_ids"])) == list(range(1, 18))
