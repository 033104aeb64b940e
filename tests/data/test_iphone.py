"""`iphone-data`: DyCheck's layout, its validation cameras and its masks."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from layouts import assert_dots_where_expected, assert_served
from nerfies_scenes import SMALL, nerfies_camera, write_image, write_index
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from PIL import Image

from moegs_ns.data.dataparsers.iphone import IPhoneDataParserConfig
from moegs_ns.data.frames.dataset import FrameDataset

PINHOLE = (0.0, 0.0, 0.0, 0.0, 0.0)
TIMES = {0: [0, 1, 2, 3], 1: [0, 2, 3], 2: [1, 2]}
"""Of the moving camera 0 and of two fixed ones, bad frames of which were removed."""


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    folder = tmp_path / "teddy"
    (folder / "splits").mkdir(parents=True)
    (folder / "covisible" / "2x" / "val").mkdir(parents=True)
    listed: dict[str, dict[str, list]] = {}
    times: dict[str, int] = {}
    for camera, frames in TIMES.items():
        split = listed.setdefault(
            "val" if camera else "train", {"frame_names": [], "camera_ids": [], "time_ids": []}
        )
        for frame in frames:
            name = f"{camera}_{frame:05d}"
            known = nerfies_camera(camera if camera else 4 + frame, PINHOLE)
            write_image(folder, name, known, frame)
            _make_transparent(folder / "rgb" / "2x" / f"{name}.png")
            times[name] = frame
            for key, value in zip(split, (name, camera, frame), strict=True):
                split[key].append(value)
            if camera:
                mask = np.zeros((SMALL[1], SMALL[0]), dtype=np.uint8)
                mask[:, 40 + frame :] = 255
                Image.fromarray(mask).save(folder / "covisible" / "2x" / "val" / f"{name}.png")
    for name, content in listed.items():
        (folder / "splits" / f"{name}.json").write_text(json.dumps(content))
    names = listed["train"]["frame_names"], listed["val"]["frame_names"]
    write_index(folder, times, *names)
    (folder / "extra.json").write_text(json.dumps({"factor": 2, "fps": 20}))
    return folder


def _make_transparent(path: Path) -> None:
    """Alpha 0 in one half, as where the depth sensor measured nothing."""
    rgba = np.asarray(Image.open(path).convert("RGBA")).copy()
    rgba[:, : rgba.shape[1] // 2, 3] = 0
    Image.fromarray(rgba).save(path)


def parse(scene: Path, split: str = "train", **options) -> DataparserOutputs:
    return IPhoneDataParserConfig(data=scene, **options).setup().get_dataparser_outputs(split)


def change(path: Path, **entries) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def test_held_out_images_are_those_of_the_fixed_cameras(scene: Path):
    """nerfstudio's dycheck-data gives the first training image instead."""
    train, held_out = parse(scene), parse(scene, "test")
    assert [path.stem for path in train.image_filenames] == [f"0_{t:05d}" for t in range(4)]
    assert [path.stem for path in held_out.image_filenames] == [
        "1_00000", "1_00002", "1_00003", "2_00001", "2_00002"
    ]  # fmt: skip
    assert not set(train.image_filenames) & set(held_out.image_filenames)
    assert [path.name for path in parse(scene, "val").image_filenames] == [
        path.name for path in held_out.image_filenames
    ]


def test_frames_without_a_grid(scene: Path):
    held_out = parse(scene, "test")
    assert held_out.metadata["frame_ids"] == [0, 2, 3, 1, 2]
    assert held_out.metadata["num_frames"] == 4
    times = held_out.cameras.times
    assert times is not None
    torch.testing.assert_close(times[:, 0], torch.tensor([0, 2, 3, 1, 2]) / 3)
    # The fixed cameras are two, the moving one is as many as it has images.
    assert len(set(held_out.metadata["camera_ids"])) == 2
    train = parse(scene)
    assert len(set(train.metadata["camera_ids"])) == 4
    assert not set(train.metadata["camera_ids"]) & set(held_out.metadata["camera_ids"])


def test_cameras_see_the_points(scene: Path, tmp_path: Path):
    for split in ("train", "test"):
        assert_dots_where_expected(parse(scene, split), tmp_path / "store")


def test_transparency_is_not_what_the_image_shows(scene: Path, tmp_path: Path):
    image = FrameDataset(parse(scene), data=tmp_path).get_numpy_image(0)
    stored = np.asarray(Image.open(scene / "rgb" / "2x" / "0_00000.png"))
    assert (stored[:, :80, 3] == 0).all()
    np.testing.assert_array_equal(image, stored[:, :, :3])


def test_held_out_images_bring_their_masks(scene: Path):
    held_out = parse(scene, "test")
    assert parse(scene).mask_filenames is None
    masks = held_out.mask_filenames
    assert masks is not None
    for image, mask in zip(held_out.image_filenames, masks, strict=True):
        assert mask == scene / "covisible" / "2x" / "val" / image.name
    masks[2].unlink()
    with pytest.raises(FileNotFoundError, match=r"1 are missing, such as 1_00003\.png"):
        parse(scene, "test")
    assert parse(scene, "test", covisible_masks=False).mask_filenames is None


def test_settings_of_the_scene(scene: Path):
    assert parse(scene).metadata["fps"] == 20.0
    assert parse(scene, fps=30.0).metadata["fps"] == 30.0
    change(scene / "extra.json", factor=1)
    with pytest.raises(FileNotFoundError, match=r"rgb/1x, .*there is 2x"):
        parse(scene)
    assert len(parse(scene, downscale_factor=2).image_filenames) == 4
    (scene / "extra.json").unlink()
    assert parse(scene).metadata["fps"] == 0.0


def test_frames_of_the_clip(scene: Path):
    outputs = parse(scene, "test", frames=(2, 3))
    assert outputs.metadata["first_frame"] == 2
    assert outputs.metadata["frame_ids"] == [0, 1, 0]
    with pytest.raises(ValueError, match=r"0 <= FIRST <= LAST <= 3"):
        parse(scene, frames=(2, 4))


def test_methods_get_the_images(scene: Path):
    assert_served(IPhoneDataParserConfig(data=scene))


def test_mistakes_of_the_splits(scene: Path):
    path = scene / "splits" / "val.json"
    change(path, time_ids=[1, 2])
    with pytest.raises(ValueError, match=r"equally long lists .*val\.json.*\[2, 5\] entries"):
        parse(scene)
    change(path, time_ids=[0, 2, 3, 1, 2], frame_names=["0_00001"] * 5)
    with pytest.raises(ValueError, match=r"val\.json than in train\.json, but 0_00001 is in both"):
        parse(scene)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"val\.json, but there is no such file"):
        parse(scene)
