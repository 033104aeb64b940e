"""Black bars around the images of a recording: found, kept out of the lens, masked."""

import json
from pathlib import Path

import numpy as np
import pytest
from data_helpers import test_image, write_video
from rig_helpers import edit_rig, known_cameras, lens_of, rig_scene

from moegs_ns.data.calibrations.matching import calibrate_rig
from moegs_ns.data.dataparsers.rig import RigDataParserConfig
from moegs_ns.data.frames.bars import NO_BARS, Bars, find_bars
from moegs_ns.data.frames.dataset import FrameDataset, with_image_ids
from moegs_ns.data.frames.undistortion import Lens
from moegs_ns.data.rig_files import RIG, Rig, RigCamera, read_rig, write_rig
from moegs_ns.data.rig_probing import probe

BARS = Bars(left=0, top=8, right=0, bottom=8)


def calibration(**changes) -> Rig:
    """Of one camera, calibrated at ten times the size."""
    camera = known_cameras(("one",), **changes)[0]
    lens, pose = lens_of(camera, camera.width, camera.height), np.c_[camera.R, camera.t]
    return Rig((RigCamera("one", "", camera.width, camera.height, lens, pose),))


def fitted(folder: Path, bars: Bars, known: Rig) -> tuple[Lens, RigCamera]:
    """The lens of a video with bars, and what is known of the video before."""
    write_video(folder / "one.mp4", [barred(bright(frame), bars) for frame in range(5)])
    [probed] = probe([folder / "one.mp4"], folder, {}, None)
    calibrated, [verdict] = calibrate_rig(Rig((probed.camera,)), known, folder, {})
    assert not verdict.fault and calibrated.cameras[0].lens is not None
    return calibrated.cameras[0].lens, probed.camera


def barred(image: np.ndarray, bars: Bars) -> np.ndarray:
    sides = ((bars.top, bars.bottom), (bars.left, bars.right), (0, 0))
    return np.pad(image, sides)


def bright(frame: int = 0) -> np.ndarray:
    return np.maximum(test_image(1, frame, 64, 48), 40)


@pytest.mark.parametrize("bars", [NO_BARS, BARS, Bars(3, 0, 5, 0), Bars(2, 3, 4, 5)])
def test_bars_are_found_in_spite_of_noise(bars: Bars):
    rng = np.random.default_rng(0)
    images = [barred(bright(frame), bars).astype(int) for frame in range(3)]
    noisy = [(image + rng.integers(0, 6, image.shape)).clip(0, 255) for image in images]
    assert find_bars([image.astype(np.uint8) for image in noisy]) == bars


def test_what_is_dark_by_itself_is_no_bar():
    """A ceiling into the dark, a recording that begins black, a thing that leaves the border."""
    fading = np.full((48, 64, 3), 120, np.uint8)
    fading[:20] = np.arange(0, 60, 3, dtype=np.uint8)[:, None, None]
    assert find_bars([fading]) == NO_BARS
    black = np.zeros((48, 64, 3), np.uint8)
    assert find_bars([black]) == NO_BARS
    assert find_bars([barred(bright()[:20], Bars(top=28)), barred(bright(), NO_BARS)]) == NO_BARS


@pytest.mark.parametrize("bars", [BARS, Bars(left=8, right=8)])
def test_lenses_are_those_of_the_image_between_the_bars(tmp_path: Path, bars: Bars):
    known = calibration()
    lens, probed = fitted(tmp_path, bars, known)
    assert probed.bars == bars and (probed.width, probed.height) in ((64, 64), (80, 48))
    whole = known.cameras[0].lens
    assert whole is not None
    assert (lens.fx, lens.fy) == pytest.approx((whole.fx / 10, whole.fy / 10))
    center = (whole.cx / 10 + bars.left, whole.cy / 10 + bars.top)
    assert (lens.cx, lens.cy) == pytest.approx(center)


def test_a_calibration_of_images_with_their_bars_counts_them(tmp_path: Path):
    known = calibration(height=640)
    lens, _ = fitted(tmp_path, BARS, known)
    assert known.cameras[0].lens is not None
    assert lens.cy == pytest.approx(known.cameras[0].lens.cy / 10)


def test_one_scale_counts_where_bars_are_no_whole_pixels(tmp_path: Path):
    """47.6 rows of the image would belong to 64 columns."""
    known = calibration(height=476)
    lens, _ = fitted(tmp_path, BARS, known)
    whole = known.cameras[0].lens
    assert whole is not None
    assert (lens.fx, lens.fy) == pytest.approx((whole.fx / 10, whole.fy / 10))
    assert lens.cy == pytest.approx(whole.cy / 10 + 8.2)


def barred_scene(folder: Path) -> Path:
    """48x48 images; two thirds of those of the first camera are an image."""
    names, sizes = ("left", "right"), ((48, 48), (48, 48))
    scene = rig_scene(folder, known_cameras(names, distortion=()), sizes=sizes)
    edit_rig(scene, 0, bars=[0, 12, 0, 4])
    return scene


def test_bars_are_masked_and_the_other_camera_is_whole(tmp_path: Path):
    config = RigDataParserConfig(data=barred_scene(tmp_path), num_random_points=50)
    outputs = with_image_ids(config.setup().get_dataparser_outputs("train"))
    dataset = FrameDataset(outputs, data=tmp_path)
    first, last = dataset[0], dataset[len(dataset) - 1]
    rows = np.flatnonzero(first["mask"][..., 0].numpy().all(1))
    assert (rows[0], rows[-1], len(rows)) == (12, 43, 32)
    assert not first["mask"][:12].any() and not first["mask"][44:].any()
    assert not first["image"][:12].any() and first["image"][12:44].any() and last["mask"].all()


def test_bars_shrink_with_the_images():
    assert BARS.scaled(0.5, 0.5) == Bars(0, 4, 0, 4)
    assert Bars(0, 7, 0, 7).scaled(0.5, 0.5) == Bars(0, 4, 0, 4), "half a pixel is none"


@pytest.mark.parametrize("value", [[1, 2, 3], [0, 40, 0, 8], [0, -1, 0, 0], "wide", [0.5] * 4])
def test_impossible_bars_of_a_rig_file_are_refused(tmp_path: Path, value):
    scene = barred_scene(tmp_path)
    edit_rig(scene, 0, bars=value)
    with pytest.raises(ValueError, match=r"bars.*prepare rig"):
        read_rig(scene / RIG)


def test_only_cameras_with_bars_name_them(tmp_path: Path):
    scene = barred_scene(tmp_path)
    write_rig(scene / RIG, read_rig(scene / RIG))
    cameras = json.loads((scene / RIG).read_text())["cameras"]
    assert [each.get("bars") for each in cameras] == [[0, 12, 0, 4], None]
