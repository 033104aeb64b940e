"""`moegs prepare calibrate` without a file: cameras from what their recordings show."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from textured_corner import HEIGHT, WIDTH, CornerCamera, record_corner

from moegs_ns.data.calibrations.comparing import differences
from moegs_ns.data.frames.undistortion import Lens
from moegs_ns.data.rig_files import RIG, Rig, RigCamera, read_rig
from moegs_ns.data.structure_from_motion import observations
from moegs_ns.launch.cli_args import replaced_argv
from moegs_ns.scripts import main as command

OPTIONS = ("--instants", "3", "--features.max-features", "1000")


def prepare(*args: object) -> None:
    """What a user types."""
    with replaced_argv(["moegs", "prepare", *map(str, args)]):
        command.main()


def true_camera(camera: CornerCamera) -> RigCamera:
    lens = Lens(
        fx=camera.focal,
        fy=camera.focal,
        cx=WIDTH / 2,
        cy=HEIGHT / 2,
        distortion=(camera.k1, 0.0, 0.0, 0.0),
    )
    pose = np.c_[camera.rotation, -camera.rotation @ camera.position]
    return RigCamera(camera.name, "", WIDTH, HEIGHT, lens, pose)


def noise_camera(folder: Path, num_frames: int = 3) -> Path:
    """A camera that sees nothing of what others see."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(len(folder.name))
    for frame in range(num_frames):
        noise = random.integers(0, 255, (HEIGHT // 6, WIDTH // 6, 3), dtype=np.uint8)
        image = Image.fromarray(noise).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        image.save(folder / f"{frame:04d}.png")
    return folder


@pytest.fixture(scope="module")
def corner(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Rig, str]:
    """Six cameras that see a corner and one that does not, after the command; the true cameras, and
    what the command ended with."""
    scene = tmp_path_factory.mktemp("corner") / "scene"
    cameras = record_corner(scene)
    noise_camera(scene / "elsewhere")
    prepare("rig", *(scene / c.name for c in cameras), scene / "elsewhere")
    with pytest.raises(ValueError, match="every camera's pose") as error:
        prepare("calibrate", "--data", scene, *OPTIONS)
    return scene, Rig(tuple(map(true_camera, cameras))), str(error.value)


@pytest.mark.colmap
def test_cameras_are_recovered(corner: tuple[Path, Rig, str]):
    """A pixel is 18 mm wide, and turns a camera by a quarter of a degree, at the back of the
    corner, 4 m from the cameras."""
    scene, truth, _ = corner
    found = read_rig(scene / RIG)
    off = differences(found, truth)
    assert len(off.names) == 6
    assert off.centers.max() < 0.03
    assert off.degrees.max() < 0.6
    assert off.focals.max() < 0.01
    for camera, true in zip(found.cameras, truth.cameras, strict=False):
        assert camera.lens is not None and true.lens is not None
        assert (camera.lens.cx, camera.lens.cy) == (WIDTH / 2, HEIGHT / 2)
        # At the edge of the image, 0.02 is half a pixel.
        np.testing.assert_allclose(camera.lens.distortion, true.lens.distortion, atol=0.02)


@pytest.mark.colmap
def test_a_camera_that_sees_something_else_is_named(corner: tuple[Path, Rig, str]):
    scene, _, error = corner
    assert "elsewhere: it could not be placed by its" in error
    assert "The 6 others are written; try again with more --instants" in error
    assert "cam0" not in error
    assert [c.is_calibrated for c in read_rig(scene / RIG).cameras] == [True] * 6 + [False]


@pytest.mark.colmap
def test_other_fields_of_the_rig_stay(corner: tuple[Path, Rig, str]):
    scene, _, _ = corner
    entries = json.loads((scene / RIG).read_text())["cameras"]
    assert [entry["file"] for entry in entries][5:] == ["cam05", "elsewhere"]
    assert {(entry["width"], entry["height"]) for entry in entries} == {(WIDTH, HEIGHT)}
    assert {entry["fps"] for entry in entries} == {30.0}


@pytest.mark.colmap
def test_a_second_run_goes_on_with_what_the_first_has_found(
    corner: tuple[Path, Rig, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The same cameras come out; what is found is deleted once all cameras are good."""
    scene = Path(shutil.copytree(corner[0], tmp_path / "moved", copy_function=shutil.copy2))
    before = read_rig(scene / RIG)
    content = json.loads((scene / RIG).read_text())
    content["cameras"].pop()
    (scene / RIG).write_text(json.dumps(content))
    looked_at: list[object] = []
    extract = observations.find_features
    monkeypatch.setattr(
        observations,
        "find_features",
        lambda image, most, **more: looked_at.append(image) or extract(image, most, **more),
    )
    next(scene.glob(".moegs_calibration/features-cam02*")).unlink()
    prepare("calibrate", "--data", scene, *OPTIONS, "--overwrite")
    assert len(looked_at) == 1
    assert not (scene / observations.WORK).exists()
    for one, two in zip(read_rig(scene / RIG).cameras, before.cameras, strict=False):
        assert one.lens is not None and two.lens is not None
        assert one.lens.fx == pytest.approx(two.lens.fx, rel=2e-3)


@pytest.mark.colmap
def test_one_lens_for_all(tmp_path: Path):
    """The options reach COLMAP: there is one lens, without distortion."""
    cameras = record_corner(tmp_path, 4, 1, are_alike=True)
    prepare("rig", *(tmp_path / camera.name for camera in cameras))
    prepare("calibrate", "--data", tmp_path, *OPTIONS, "--shared-lens", "--lens", "SIMPLE_PINHOLE")
    (lens,) = {camera.lens for camera in read_rig(tmp_path / RIG).cameras}
    assert lens is not None
    assert lens.distortion == () and lens.fx == lens.fy == pytest.approx(240.0, rel=0.01)


@pytest.mark.colmap
def test_a_small_rig_without_common_features_needs_a_file(tmp_path: Path):
    for name in ("a", "bb", "ccc"):
        noise_camera(tmp_path / name)
    prepare("rig", *(tmp_path / name for name in ("a", "bb", "ccc")))
    before = (tmp_path / RIG).read_text()
    with pytest.raises(
        ValueError, match=r"a rig of 3 cameras .* \(--from\) .* of a board"
    ) as error:
        prepare("calibrate", "--data", tmp_path, *OPTIONS)
    for name in ("a", "bb", "ccc"):
        assert f"{name}: it could not be placed" in str(error.value)
    assert "Nothing was written" in str(error.value)
    assert (tmp_path / RIG).read_text() == before


@pytest.mark.colmap
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--instants", "0"), "--instants expects at least 1, got 0"),
        (("--features.max-size", "5"), r"--features\.max-size expects at least 64, got 5"),
        (("--names", "a=b"), "--names expects a calibration"),
        (("--from", "x.toml", "--lens", "OPENCV"), "--from expects no --lens"),
        (
            ("--shared-lens",),
            "--shared-lens expects images of one size.* a are 240x180",
        ),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, options: tuple[str, ...], message: str):
    noise_camera(tmp_path / "a", 1)
    (tmp_path / "b").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "b" / "0.png")
    prepare("rig", tmp_path / "a", tmp_path / "b")
    with pytest.raises(ValueError, match=message):
        prepare("calibrate", "--data", tmp_path, *options)


def test_without_pycolmap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    noise_camera(tmp_path / "a", 1)
    prepare("rig", tmp_path / "a")
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    with pytest.raises(ImportError, match="Calibrating cameras needs the package pycolmap"):
        prepare("calibrate", "--data", tmp_path)
