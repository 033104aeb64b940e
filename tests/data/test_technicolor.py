"""`technicolor-data`: the layout of the undistorted release."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from layouts import KnownCamera, assert_dots_where_expected, assert_served, known_camera
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from scipy.spatial.transform import Rotation

from moegs_ns.cameras import view_from_cameras
from moegs_ns.data.dataparsers.technicolor import TechnicolorDataParserConfig

HEADER = "# f cu cv ar sk  qw qx qy qz  tx ty tz\n"
FRAMES = range(51, 54)


def grid() -> list[KnownCamera]:
    """16 cameras whose principal points are off-centre and whose pixels are no squares."""
    return [
        known_camera(camera, shift=(4.0 - 0.6 * camera, -3.0 + 0.5 * camera), ratio=1.02)
        for camera in range(16)
    ]


def parameters(cameras: list[KnownCamera], skew: float = 0.0) -> str:
    lines = [HEADER]
    for camera in cameras:
        x, y, z, w = Rotation.from_matrix(camera.R).as_quat()
        numbers = [camera.fx, camera.cx, camera.cy, camera.fy / camera.fx, skew]
        # The release separates groups by two blanks.
        groups = [numbers, [w, x, y, z], camera.t.tolist()]
        lines.append("  ".join(" ".join(f"{value:.8f}" for value in group) for group in groups))
        lines.append("\n")
    return "".join(lines)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    folder = tmp_path / "Theater"
    folder.mkdir()
    for number, camera in enumerate(grid()):
        for frame in FRAMES:
            camera.image(frame).save(folder / f"Theater_undist_{frame:05d}_{number:02d}.png")
    (folder / "cameras_parameters.txt").write_text(parameters(grid()))
    return folder


def parse(scene: Path, split: str = "train", **options) -> DataparserOutputs:
    return TechnicolorDataParserConfig(data=scene, **options).setup().get_dataparser_outputs(split)


def truncate(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-300])
    return path


def test_published_split_and_numbers(scene: Path):
    train, held_out = parse(scene), parse(scene, "test")
    assert sorted(set(train.metadata["camera_ids"])) == [*range(10), *range(11, 16)]
    assert held_out.metadata["camera_ids"] == [10, 10, 10]
    assert held_out.metadata["frame_ids"] == [0, 1, 2]
    assert (train.metadata["first_frame"], train.metadata["num_frames"]) == (51, 3)
    assert train.metadata["fps"] == 30.0
    assert held_out.image_filenames[1].name == "Theater_undist_00052_10.png"
    assert train.metadata["note"] == ""


@pytest.mark.parametrize("options", [{}, {"downscale_factor": 2}])
def test_cameras_see_the_points(scene: Path, tmp_path: Path, options: dict):
    for split in ("train", "test"):
        assert_dots_where_expected(parse(scene, split, **options), tmp_path / "store")


def test_square_pixels_are_an_option(scene: Path):
    view = view_from_cameras(parse(scene, "test", pixel_aspect_ratio=False).cameras[:1])
    camera = grid()[10]
    np.testing.assert_allclose(view.Ks[0].numpy()[:2, 2], [camera.cx, camera.cy], rtol=1e-5)
    assert float(view.Ks[0, 1, 1]) == pytest.approx(camera.fx)
    view = view_from_cameras(parse(scene, "test").cameras[:1])
    assert float(view.Ks[0, 1, 1]) == pytest.approx(1.02 * camera.fx)


def test_frames_are_the_numbers_of_the_files(scene: Path):
    outputs = parse(scene, frames=(52, 53))
    assert outputs.metadata["first_frame"] == 52
    assert outputs.image_filenames[0].name == "Theater_undist_00052_00.png"
    with pytest.raises(ValueError, match=r"--frames expects .*51 <= FIRST.*<= 53.*got 0 1"):
        parse(scene, frames=(0, 1))


def test_cameras_that_are_left_out(scene: Path):
    outputs = parse(scene, held_out_cameras=(5, 6), exclude_cameras=(0,))
    assert sorted(set(outputs.metadata["camera_ids"])) == [1, 2, 3, 4, *range(7, 16)]
    assert parse(scene, "val", held_out_cameras=(6, 5)).metadata["camera_ids"] == [5] * 3 + [6] * 3
    with pytest.raises(ValueError, match=r"both name 10; hold out another"):
        parse(scene, exclude_cameras=(10,))
    with pytest.raises(ValueError, match=r"--exclude-cameras expects some, .* got 16"):
        parse(scene, exclude_cameras=(16,))


def test_the_truncated_image_of_the_release(scene: Path, tmp_path: Path):
    """One file of one scene ends too early; it is left out, and more are refused."""
    broken = truncate(scene / "Theater_undist_00052_09.png")
    outputs = parse(scene)
    assert broken not in outputs.image_filenames
    assert len(outputs.image_filenames) == 15 * 3 - 1
    assert outputs.metadata["note"].endswith("end too early: Theater_undist_00052_09.png.")
    assert_dots_where_expected(outputs, tmp_path / "store")
    truncate(scene / "Theater_undist_00051_09.png")
    with pytest.raises(ValueError, match=r"2 files end too early.*00051_09.*--max-truncated"):
        parse(scene)
    assert len(parse(scene, max_truncated=2).image_filenames) == 15 * 3 - 2


def test_a_whole_take_says_that_papers_use_50_frames(scene: Path):
    for number in range(16):
        for frame in range(54, 102):
            path = scene / f"Theater_undist_{frame:05d}_{number:02d}.png"
            path.symlink_to(scene / f"Theater_undist_00051_{number:02d}.png")
    assert "papers give scores of 50" in parse(scene).metadata["note"]
    outputs = parse(scene, frames=(51, 100))
    assert (outputs.metadata["num_frames"], outputs.metadata["note"]) == (50, "")


def test_methods_get_the_images(scene: Path):
    assert_served(TechnicolorDataParserConfig(data=scene))


# ---- mistakes ----


def test_mistakes_of_the_folder(scene: Path, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"scene folder at .*nowhere"):
        parse(tmp_path / "nowhere")
    (scene / "Theater_undist_00052_03.png").unlink()
    with pytest.raises(ValueError, match=r"camera 3 lacks 1 of 3, the first of them 52"):
        parse(scene)
    other = tmp_path / "original"
    other.mkdir()
    (other / "Theater_00051_03.png").touch()
    with pytest.raises(FileNotFoundError, match=r"1 others, such as Theater_00051_03\.png"):
        parse(other)
    (scene / "Train_undist_00052_03.png").touch()
    with pytest.raises(ValueError, match=r"of one scene .*\(Theater_undist, Train_undist\)"):
        parse(scene)


def test_mistakes_of_the_cameras(scene: Path):
    path = scene / "cameras_parameters.txt"
    path.write_text(HEADER + "1 2 3 4 5 6 7 8 9 10 11 12 13 14\n" * 16)
    with pytest.raises(ValueError, match=r"undistorted release"):
        parse(scene)
    path.write_text(HEADER + "1 2 3\n" * 16)
    with pytest.raises(ValueError, match=r"rows of 12 numbers"):
        parse(scene)
    path.write_text(parameters(grid()[:9]))
    with pytest.raises(ValueError, match=r"it has 9, for the cameras 0 to 8.* camera 15"):
        parse(scene)
    path.write_text(parameters(grid(), skew=40.0))
    with pytest.raises(ValueError, match=r"camera \d+ the skew 40, which shifts"):
        parse(scene)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"cameras_parameters\.txt"):
        parse(scene)


def test_pixels_of_opencv_and_ours_agree():
    """The helper's lens is OpenCV's, so that tests of distortion mean something."""
    lens = (-0.2, 0.05, 0.003, -0.002, 0.01)
    camera = known_camera(3, distortion=lens)
    points = np.random.default_rng(0).normal(size=(9, 3)) * 0.5
    K = camera.K - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]
    expected, _ = cv2.projectPoints(points, cv2.Rodrigues(camera.R)[0], camera.t, K, np.array(lens))
    np.testing.assert_allclose(camera.pixels(points), expected[:, 0] + 0.5, atol=1e-9)
