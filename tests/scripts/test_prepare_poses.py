"""`moegs prepare poses`: LLFF rows from a COLMAP model, and what it says about other models."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_helpers import tiny_video_scene

from moegs_ns.cameras import llff_from_opengl, opengl_from_llff, view_from_cameras
from moegs_ns.data.dataparsers.n3v import N3VDataParserConfig
from moegs_ns.demo.scene import demo_rig
from moegs_ns.launch.cli_args import replaced_argv
from moegs_ns.scripts import main as command

NAMES = ("cam00.png", "cam01/0000.png", "cam02.jpg", "cam03/anything.png")
DEPTHS = np.linspace(2.0, 5.0, 40)
"""Of the points in front of each camera."""


def prepare(scene: Path, model: Path, *options: str) -> None:
    """What a user types."""
    args = ["moegs", "prepare", "poses", "--data", str(scene), "--colmap", str(model), *options]
    with replaced_argv(args):
        command.main()


def write_model(folder: Path, names: tuple[str, ...] = NAMES, depths=DEPTHS, **lens: Any) -> Path:
    """The rig of the demo as COLMAP writes it, in reverse order, each camera with its points."""
    pycolmap = pytest.importorskip("pycolmap")
    rig, model = demo_rig(4, 48, 36), pycolmap.Reconstruction()
    lens = {"model": "SIMPLE_PINHOLE", "width": 48, "height": 36, **lens}
    lens.setdefault("params", [rig.focal, 24, 18])
    for number, name in reversed(list(enumerate(names))):
        model.add_camera_with_trivial_rig(pycolmap.Camera(camera_id=number + 1, **lens))
        rotation, position = rig.rotations[number % 4].T, rig.positions[number % 4]
        pose = pycolmap.Rigid3d(np.c_[rotation, -rotation @ position])
        points = [pycolmap.Point2D(np.array([24.0, 18.0])) for _ in depths]
        image = pycolmap.Image(name=name, camera_id=number + 1, image_id=number + 1)
        image.points2D = points
        model.add_image_with_trivial_frame(image, pose)
        for place, depth in enumerate(depths):
            track = pycolmap.Track([pycolmap.TrackElement(number + 1, place)])
            model.add_point3D(position + depth * rotation[2], track, np.zeros(3, dtype=np.uint8))
    folder.mkdir(parents=True)
    model.write(str(folder))
    return folder


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """Videos whose poses are not known yet."""
    (tiny_video_scene(tmp_path / "scene") / "poses_bounds.npy").unlink()
    return tmp_path / "scene"


def test_llff_axes_there_and_back():
    random = np.random.default_rng(0)
    poses = np.stack([np.linalg.qr(random.normal(size=(3, 3)))[0] for _ in range(5)])
    poses = np.concatenate([poses, random.normal(size=(5, 3, 1))], axis=2)
    np.testing.assert_array_equal(opengl_from_llff(llff_from_opengl(poses)), poses)
    np.testing.assert_array_equal(llff_from_opengl(opengl_from_llff(poses)), poses)


@pytest.mark.colmap
def test_a_model_becomes_the_cameras_of_the_rig(scene: Path, tmp_path: Path):
    rig = demo_rig(4, 48, 36)
    prepare(scene, write_model(tmp_path / "sparse" / "0"))
    rows = np.load(scene / "poses_bounds.npy")
    assert rows.shape == (4, 17)
    np.testing.assert_allclose(rows[:, 15:], [np.percentile(DEPTHS, (0.1, 99.9))] * 4)
    np.testing.assert_allclose(rows[:, [4, 9, 14]], [[36, 48, rig.focal]] * 4)
    for held_out in range(4):
        parser = N3VDataParserConfig(data=scene, held_out_cameras=(held_out,)).setup()
        view = view_from_cameras(parser.get_dataparser_outputs("test").cameras)
        rotation, position = rig.rotations[held_out].T, rig.positions[held_out]
        np.testing.assert_allclose(view.viewmats[0, :3, :3].numpy(), rotation, atol=1e-5)
        np.testing.assert_allclose(view.positions[0].numpy(), position, atol=1e-5)
        expected = torch.tensor([[rig.focal, 0, 24], [0, rig.focal, 18], [0, 0, 1]])
        torch.testing.assert_close(view.Ks[0], expected.float())


@pytest.mark.colmap
def test_a_model_of_smaller_images_serves_as_well(scene: Path, tmp_path: Path):
    """The focal length belongs to the size that stands beside it."""
    focal = demo_rig(4, 48, 36).focal
    model = write_model(tmp_path / "m", width=24, height=18, params=[focal / 2, 12, 9])
    prepare(scene, model)
    outputs = N3VDataParserConfig(data=scene).setup().get_dataparser_outputs("train")
    assert float(outputs.cameras.fx[0]) == pytest.approx(focal)


@pytest.mark.colmap
def test_poses_are_replaced_only_when_asked(scene: Path, tmp_path: Path):
    model = write_model(tmp_path / "m")
    (scene / "poses_bounds.npy").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"poses_bounds\.npy exist already; add --overwrite"):
        prepare(scene, model)
    assert (scene / "poses_bounds.npy").read_bytes() == b"mine"
    prepare(scene, model, "--overwrite")
    assert np.load(scene / "poses_bounds.npy").shape == (4, 17)
    assert not list(scene.glob(".writing*"))


@pytest.mark.colmap
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": NAMES[:3]}, r"called like cam03\.png .*cam03 cannot .*\(cam00, cam01, cam02\)"),
        ({"names": (*NAMES, "cam01/0001.png")}, r"cam01/0000\.png and cam01/0001\.png both"),
        ({"model": "OPENCV", "params": [40, 40, 24, 18, 0.1, 0, 0, 0]}, "OPENCV .*image_undist"),
        ({"model": "OPENCV_FISHEYE", "params": [40, 40, 24, 18, 0.1, 0, 0, 0]}, "FISHEYE .*undist"),
        ({"params": [40, 26, 18]}, r"principal point in the middle.*40, 26, 18 at 48x36"),
        ({"model": "PINHOLE", "params": [40, 42, 24, 18]}, "one focal length"),
        ({"width": 36, "height": 36, "params": [40, 18, 18]}, r"cam00\.mp4 \(48x36\).* 36x36"),
        ({"depths": DEPTHS[:0]}, r"points in front of cam00\.png"),
    ],
)
def test_models_that_rows_cannot_hold(scene: Path, tmp_path: Path, changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        prepare(scene, write_model(tmp_path / "m", **changes))
    assert not (scene / "poses_bounds.npy").exists()


@pytest.mark.colmap
def test_no_model_and_a_broken_one(scene: Path, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"COLMAP model .*nowhere.*set --colmap"):
        prepare(scene, tmp_path / "nowhere")
    model = write_model(tmp_path / "m")
    (model / "cameras.bin").unlink()
    with pytest.raises(ValueError, match=r"it cannot be read .*run COLMAP again"):
        prepare(scene, model)


def test_poses_without_pycolmap(scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import sys

    monkeypatch.setitem(sys.modules, "pycolmap", None)
    with pytest.raises(ImportError, match=r"Reading a COLMAP model needs the package pycolmap"):
        prepare(scene, tmp_path)
