"""`nvidia-data`: twelve cameras, one of which is trained on at each time."""

from pathlib import Path

import numpy as np
import pytest
from layouts import assert_dots_where_expected, assert_served, known_camera
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs

from moegs_ns.cameras import llff_from_opengl
from moegs_ns.data.dataparsers.nvidia import NvidiaDataParserConfig


def parse(scene: Path, split: str = "train", **options) -> DataparserOutputs:
    return NvidiaDataParserConfig(data=scene, **options).setup().get_dataparser_outputs(split)


def write_poses(path: Path, numbers: list[int], scale: float = 1.0) -> None:
    """Rows of the cameras with these numbers; sizes may be those of larger images."""
    known = [known_camera(number) for number in numbers]
    poses = llff_from_opengl(np.stack([camera.opengl[:3] for camera in known]))
    sizes = [scale * np.array([[c.height], [c.width], [c.fx]]) for c in known]
    rows = np.concatenate([poses, np.stack(sizes)], axis=2).reshape(-1, 15)
    np.save(path, np.concatenate([rows, np.tile([2.0, 9.0], (len(rows), 1))], axis=1))


def nsff_scene(folder: Path, count: int = 14) -> Path:
    dense = folder / "dense"
    (dense / "images_160x120").mkdir(parents=True)
    for time in range(count):
        known_camera(time % 12).image(time).save(dense / "images_160x120" / f"{time:05d}.png")
        views = dense / "mv_images" / f"{time:05d}"
        views.mkdir(parents=True)
        for number in range(12):
            known_camera(number).image(time).save(views / f"cam{number + 1:02d}.jpg", quality=98)
    write_poses(dense / "poses_bounds.npy", [time % 12 for time in range(count)], scale=2.0)
    return folder


def dynamicnerf_scene(folder: Path) -> Path:
    for name in ("images", "gt", "motion_masks"):
        (folder / name).mkdir(parents=True)
    for time in range(12):
        known_camera(time).image(time).save(folder / "images" / f"{time:03d}.png")
        known_camera(0).image(time).save(folder / "gt" / f"v000_t{time:03d}.png")
    write_poses(folder / "poses_bounds.npy", list(range(12)))
    return folder


def test_nsff(tmp_path: Path):
    scene = nsff_scene(tmp_path / "scene")
    train, held_out = parse(scene), parse(scene, "test")
    # Camera by camera: cameras 0 and 1 come again after twelve times.
    assert train.metadata["camera_ids"] == [0, 0, 1, 1, *range(2, 12)]
    assert train.metadata["frame_ids"] == [0, 12, 1, 13, *range(2, 12)]
    assert len(held_out.image_filenames) == 14 * 11
    pairs = set(zip(held_out.metadata["camera_ids"], held_out.metadata["frame_ids"], strict=True))
    assert not [pair for pair in pairs if pair[0] == pair[1] % 12]
    assert held_out.metadata["num_frames"] == 14
    assert_dots_where_expected(train, tmp_path / "store")
    assert_dots_where_expected(held_out, tmp_path / "store")
    assert len(parse(scene, "test", frames=(3, 4)).image_filenames) == 22


def test_dynamicnerf(tmp_path: Path):
    scene = dynamicnerf_scene(tmp_path / "scene")
    train, held_out = parse(scene), parse(scene, "test")
    assert train.metadata["camera_ids"] == train.metadata["frame_ids"] == list(range(12))
    assert held_out.metadata["camera_ids"] == [0] * 12
    assert held_out.metadata["frame_ids"] == list(range(12))
    assert not set(train.image_filenames) & set(held_out.image_filenames)
    assert (int(train.cameras.width[0]), int(train.cameras.height[0])) == (80, 60)
    full = parse(scene, downscale_factor=1)
    assert int(full.cameras.width[0]) == 160
    for outputs in (train, held_out, full):
        assert_dots_where_expected(outputs, tmp_path / "store")


def test_methods_get_the_images(tmp_path: Path):
    assert_served(NvidiaDataParserConfig(data=dynamicnerf_scene(tmp_path)))


def test_mistakes(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"images in .*images, but there is no such folder"):
        parse(tmp_path)
    scene = dynamicnerf_scene(tmp_path / "dynamicnerf")
    (scene / "gt").rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"v000_t000\.png.*--held-out-images"):
        parse(scene, "test")
    found = parse(scene, "test", held_out_images=tmp_path / "elsewhere")
    assert len(found.image_filenames) == 12
    write_poses(scene / "poses_bounds.npy", list(range(11)))
    with pytest.raises(ValueError, match=r"11 rows for 12 cameras"):
        parse(scene)
    scene = nsff_scene(tmp_path / "nsff", count=2)
    for path in (scene / "dense" / "mv_images").glob("*/*"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"held-out cameras in .*mv_images, but found none"):
        parse(scene)
