"""`hypernerf-data`: the layout of Nerfies and HyperNeRF."""

import json
from pathlib import Path

import numpy as np
import pytest
from layouts import assert_dots_where_expected, assert_served
from nerfies_scenes import SMALL, interp_scene, nerfies_camera, vrig_scene
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs

from moegs_ns.cameras import check_undistorted, view_from_cameras
from moegs_ns.data.dataparsers.hypernerf import HyperNeRFDataParserConfig
from moegs_ns.data.frames.dataset import FrameDataset


def parse(scene: Path, split: str = "train", **options) -> DataparserOutputs:
    return HyperNeRFDataParserConfig(data=scene, **options).setup().get_dataparser_outputs(split)


def names(outputs: DataparserOutputs) -> list[str]:
    return [path.stem for path in outputs.image_filenames]


def test_vrig_scenes_have_the_published_split(tmp_path: Path):
    scene = vrig_scene(tmp_path)
    train, held_out = parse(scene), parse(scene, "test")
    assert names(train) == ["left1_000000", "right1_000001", "left1_000002", "right1_000003"]
    assert names(held_out) == ["right1_000000", "left1_000001", "right1_000002", "left1_000003"]
    for outputs in (train, held_out):
        assert outputs.metadata["frame_ids"] == [0, 1, 2, 3]
        assert outputs.metadata["num_frames"] == 4
        assert {path.parent.name for path in outputs.image_filenames} == {"2x"}
    # Each image is a camera of its own, as of one moving camera.
    ids = train.metadata["camera_ids"] + held_out.metadata["camera_ids"]
    assert len(set(ids)) == 8


def test_other_scenes_have_the_published_split(tmp_path: Path):
    """Every fourth image is trained on, the second behind it held out, the last of these not."""
    scene = interp_scene(tmp_path)
    train, held_out = parse(scene), parse(scene, "val")
    assert names(train) == ["000001", "000005", "000009", "000013"]
    assert names(held_out) == ["000003", "000007", "000011"]
    assert train.metadata["frame_ids"] == [0, 4, 8, 12]
    assert held_out.metadata["frame_ids"] == [2, 6, 10]
    assert train.metadata["num_frames"] == held_out.metadata["num_frames"] == 13
    assert names(parse(scene, train_every=2))[:3] == ["000001", "000003", "000005"]


def test_cameras_see_the_points(tmp_path: Path):
    """Through odd sizes, principal points, pixels that are no squares and distorting lenses."""
    scene = vrig_scene(tmp_path / "scene")
    for split in ("train", "test"):
        outputs = parse(scene, split)
        check_undistorted(outputs.cameras)
        assert_dots_where_expected(outputs, tmp_path / "store")
    with pytest.raises(AssertionError):
        assert_dots_where_expected(parse(scene, full_lens=False), tmp_path / "store")


def test_the_lens_of_papers_is_an_option(tmp_path: Path):
    outputs = parse(vrig_scene(tmp_path), full_lens=False)
    K = view_from_cameras(outputs.cameras[:1]).Ks[0].numpy()
    focal = nerfies_camera(0).fx * SMALL[0] / 321
    np.testing.assert_allclose(K, [[focal, 0, 80], [0, focal, 60], [0, 0, 1]], rtol=1e-5)
    assert outputs.mask_filenames is None


def test_what_the_lens_does_not_show_is_masked(tmp_path: Path):
    from PIL import Image

    # Barrels show more than a pinhole, cushions less.
    barrel = vrig_scene(tmp_path / "barrel", lens=(-0.1, 0.0, 0.0, 0.0, 0.0))
    assert parse(barrel).mask_filenames is None
    outputs = parse(vrig_scene(tmp_path / "cushion", lens=(0.4, 0.0, 0.0, 0.0, 0.0)))
    assert outputs.mask_filenames is not None
    mask = np.asarray(Image.open(outputs.mask_filenames[0]))
    assert mask.shape == (SMALL[1], SMALL[0])
    image = FrameDataset(outputs, data=tmp_path).get_numpy_image(0)
    assert (image[mask == 0] == 0).all() and 0.7 < (mask > 0).mean() < 1.0


def test_frames_and_points(tmp_path: Path):
    scene = interp_scene(tmp_path)
    outputs = parse(scene, frames=(4, 8), min_points=0)
    assert outputs.metadata["first_frame"] == 4
    assert outputs.metadata["frame_ids"] == [0, 4]
    assert parse(scene, "test", frames=(4, 8)).metadata["frame_ids"] == [2]
    assert outputs.metadata["points3D_xyz"].shape == (9, 3)
    assert "points.npy" in outputs.metadata["points3D_origin"]
    with pytest.raises(ValueError, match=r"0 <= FIRST <= LAST <= 12"):
        parse(scene, frames=(4, 13))
    with pytest.raises(ValueError, match=r"of the frames 5 to 6.*choose other --frames"):
        parse(scene, frames=(5, 6))


def test_random_points_lie_between_the_bounds(tmp_path: Path):
    """near and far are those of the scaled world; cameras and points of the other."""
    scene = vrig_scene(tmp_path)
    (scene / "points.npy").unlink()
    outputs = parse(scene, num_random_points=200)
    view = view_from_cameras(outputs.cameras)
    xyz = outputs.metadata["points3D_xyz"]
    depth = xyz @ view.viewmats[0, 2, :3] + view.viewmats[0, 2, 3]
    assert float(depth.min()) > 0.8 and float(depth.max()) < 9.5 and float(depth.max()) > 3.0


def test_methods_get_the_images(tmp_path: Path):
    assert_served(HyperNeRFDataParserConfig(data=vrig_scene(tmp_path)))


# ---- mistakes ----


def change(path: Path, **entries) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def test_mistakes_of_the_index(tmp_path: Path):
    scene = vrig_scene(tmp_path / "scene")
    with pytest.raises(FileNotFoundError, match=r"dataset\.json, but there is no such file"):
        parse(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"rgb/1x, .*there is 2x.*--downscale-factor"):
        parse(scene, downscale_factor=1)
    change(scene / "dataset.json", val_ids=["left1_000000"])
    with pytest.raises(ValueError, match=r"left1_000000 is in both"):
        parse(scene)
    change(scene / "dataset.json", ids=["left1_000009"])
    with pytest.raises(ValueError, match=r"warp_id of each .*KeyError: 'left1_000009'"):
        parse(scene)
    (scene / "metadata.json").write_text("{")
    with pytest.raises(ValueError, match=r"JSON in .*metadata\.json"):
        parse(scene)
    with pytest.raises(ValueError, match=r"--train-every expects a number of at least 2, got 1"):
        parse(interp_scene(tmp_path / "interp"), train_every=1)
    with pytest.raises(ValueError, match=r"of 13 there are 1 and 0"):
        parse(tmp_path / "interp", train_every=20)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"image_size": [240, 320]}, r"proportions of 240x320"),
        ({"focal_length": -3.0}, r"focal lengths above 0"),
        ({"position": [0.0, float("nan"), 0.0]}, r"pose that is not finite"),
        ({"radial_distortion": [0.0]}, r"left1_000000\.json, but it cannot be read"),
        ({"orientation": None}, r"left1_000000\.json, but it cannot be read"),
    ],
)
def test_mistakes_of_a_camera(tmp_path: Path, entries: dict, message: str):
    scene = vrig_scene(tmp_path)
    change(scene / "camera" / "left1_000000.json", **entries)
    with pytest.raises(ValueError, match=message):
        parse(scene)
