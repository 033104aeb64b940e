"""`moegs prepare check`: each fault is found and named, a good scene passes."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from data_helpers import show_turned
from PIL import Image
from planar_rigs import NAMES, NUM_FRAMES, draw, planar_scene

from moegs_ns.launch.cli_args import replaced_argv
from moegs_ns.scripts import main as command


def check(scene: Path, *args: object) -> None:
    """What a user types."""
    words = ["moegs", "prepare", "check", "--data", scene, "--check.instants", 3, *args, "rig-data"]
    with replaced_argv([str(word) for word in words]):
        command.main()


def faults(scene: Path) -> dict[str, list[str]]:
    """What is said of each camera that is bad."""
    table = scene / "table.json"
    with pytest.raises(ValueError, match="Expected 5 good cameras") as error:
        check(scene, "--output", table)
    cameras = json.loads(table.read_text())["cameras"]
    found = {each["name"]: each["faults"] for each in cameras if not each["is_good"]}
    for name, of_camera in found.items():
        assert f"{name}: {'; '.join(of_camera)}" in str(error.value)
    return found


def test_a_good_scene_passes(tmp_path: Path, capsys):
    scene = planar_scene(tmp_path / "scene")
    check(scene, "--output", scene / "table.json")
    assert "All 5 cameras are good" in " ".join(capsys.readouterr().out.split())
    cameras = json.loads((scene / "table.json").read_text())["cameras"]
    assert [each["name"] for each in cameras] == list(NAMES)
    for each in cameras:
        assert each["num_tracks"] > 100
        assert each["epipolar_px"] < 0.5 and each["reprojection_px"] < 0.5
        assert each["offset_frames"] == 0
        assert each["share_in_step"] > each["share_one_frame_beside"] + 0.2
    assert min(Image.open(scene / "moegs_check.png").size) > 300


def test_swapped_cameras_are_named(tmp_path: Path):
    found = faults(planar_scene(tmp_path / "scene", poses=(0, 3, 2, 1, 4)))
    assert found == {"mid": ["swapped with right"], "right": ["swapped with mid"]}


def test_late_and_early_cameras_are_named(tmp_path: Path):
    """The late one shows at frame f + 3 what the others show at f."""
    found = faults(planar_scene(tmp_path / "scene", starts=(1, 0, 0, -3, 0)))
    assert found == {"left": ["1 frame early"], "right": ["3 frames late"]}


def _upside_down(images: list[np.ndarray]) -> list[np.ndarray]:
    return [np.ascontiguousarray(image[::-1, ::-1]) for image in images]


def _black(images: list[np.ndarray]) -> list[np.ndarray]:
    return [np.full_like(image, 4) for image in images]


def _blurred(images: list[np.ndarray]) -> list[np.ndarray]:
    return [cv2.GaussianBlur(image, (0, 0), 4.0) for image in images]


def _one_blurred(images: list[np.ndarray]) -> list[np.ndarray]:
    return [*images[:5], cv2.GaussianBlur(images[5], (0, 0), 3.0), *images[6:]]


def _one_repeated(images: list[np.ndarray]) -> list[np.ndarray]:
    """The recorder lost one frame and wrote the one before twice."""
    return [*images[:7], images[6], *images[8:]]


def _one_missing(images: list[np.ndarray]) -> list[np.ndarray]:
    """All frames after it come one too early."""
    return [*images[:9], *images[10:], draw(1, NUM_FRAMES)]


def _begun_anew(images: list[np.ndarray]) -> list[np.ndarray]:
    """From frame 9 on as after a keyframe: what stands still looks a little different."""
    coarse = np.random.default_rng(0).choice([-2.0, 2.0], (30, 40, 1))
    shift = cv2.resize(coarse, images[0].shape[1::-1], interpolation=cv2.INTER_NEAREST)[..., None]
    return [*images[:9], *(np.clip(i + shift, 0, 255).astype(np.uint8) for i in images[9:])]


def _brighter_from_then(images: list[np.ndarray]) -> list[np.ndarray]:
    return [*images[:8], *(np.clip(i * 1.25, 0, 255).astype(np.uint8) for i in images[8:])]


def test_footage_turned_upside_down_and_a_black_camera_are_named(tmp_path: Path):
    changes = {2: _upside_down, 4: _black}
    found = faults(planar_scene(tmp_path / "scene", changes=changes))
    assert found == {"near": ["its images are turned by 180 degrees"], "wide": ["black"]}


def test_a_keyframe_of_a_video_is_no_fault(tmp_path: Path):
    """It changes the whole image at once, as two steps do, but hardly anywhere by much."""
    check(planar_scene(tmp_path / "scene", changes={1: _begun_anew}))


def test_a_blurred_camera_and_a_missing_frame_are_named(tmp_path: Path):
    found = faults(planar_scene(tmp_path / "scene", changes={0: _blurred, 1: _one_missing}))
    assert set(found) == {"left", "mid"}
    assert found["left"][0].startswith("blurred: ")
    assert "frame 9 after a missing one" in found["mid"]


def test_faults_of_single_frames_are_named(tmp_path: Path):
    changes = {0: _one_blurred, 1: _one_repeated, 3: _brighter_from_then}
    found = faults(planar_scene(tmp_path / "scene", changes=changes))
    assert set(found) == {"left", "mid", "right"}
    assert found["left"] == ["frame 5 blurred"]
    assert found["right"] == ["frame 8 exposed otherwise than before"]
    assert found["mid"][0] == "frame 7 repeated"


def test_two_cameras_at_one_place_are_named(tmp_path: Path):
    """As in a calibration that lists a camera twice: which of them is right, images tell."""
    found = faults(planar_scene(tmp_path / "scene", poses=(0, 1, 1, 3, 4)))
    assert found == {
        "mid": ["at the place of near"],
        "near": ["its pose or lens does not fit its images", "at the place of mid"],
    }


def test_a_rate_that_no_file_tells_is_named(tmp_path: Path):
    """60 frames per second in a file that says 30, as of images that somebody has extracted."""
    scene = planar_scene(tmp_path / "scene", fps=(30, 30, 30, 60, 30), said_fps=(30,) * 5)
    found = faults(scene)
    assert set(found) == {"right"} and found["right"][0].endswith("or its rate is another")


def test_a_video_that_is_shown_upright_is_named(tmp_path: Path):
    """Of other proportions than the calibrated images, so that its parser refuses it."""
    scene = planar_scene(tmp_path / "scene")
    show_turned(scene / "near.mp4", (0, 1, -1, 0))
    with pytest.raises(ValueError, match=r"images of near in the proportions of 320x240"):
        check(scene)


def test_a_mix_of_rates_is_named(tmp_path: Path):
    scene = planar_scene(tmp_path / "scene", fps=(30, 30, 30, 60, 30))
    with pytest.raises(ValueError, match=r"right.mp4 has 18, 60 per second"):
        check(scene)


def test_wrong_names_of_files_are_refused_before_anything_is_read(tmp_path: Path):
    with pytest.raises(ValueError, match=r"--output expects the name of a .json file"):
        check(tmp_path / "nowhere", "--output", tmp_path / "table.txt")
