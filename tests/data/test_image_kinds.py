"""Turned, deep, palette and transparent images and videos are decoded right, or refused."""

from pathlib import Path

import numpy as np
import pytest
from data_helpers import (
    image_scene,
    open_scene,
    panoptic_scene,
    poses_bounds,
    show_turned,
    write_video,
)
from PIL import Image

from moegs_ns.data.datamanager import MoegsDataManagerConfig
from moegs_ns.data.dataparsers.n3v import N3VDataParserConfig
from moegs_ns.data.dataparsers.panoptic import PanopticDataParserConfig
from moegs_ns.data.frames.images import read_image_size
from moegs_ns.data.frames.videos import read_video_header

TURNS = {
    "none": ((1, 0, 0, 1), lambda image: image),
    "90": ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
    "180": ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
    "270": ((0, -1, 1, 0), lambda image: np.rot90(image, 1)),
    "mirrored": ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
    "mirrored 90": ((0, 1, 1, 0), lambda image: image.transpose(1, 0, 2)),
}
"""Display matrices, and what players show of an image; angles are clockwise."""
ORIENTATION = 0x0112


def picture(width: int = 64, height: int = 48) -> np.ndarray:
    """Every corner has another colour."""
    image = np.full((height, width, 3), 128, dtype=np.uint8)
    image[: height // 2, : width // 2] = (220, 30, 30)
    image[height // 2 :, width // 2 :] = (30, 30, 220)
    image[: height // 2, width // 2 :] = (240, 240, 240)
    return image


def video_scene(
    folder: Path,
    size: tuple[int, int] = (64, 48),
    pix_fmt: str = "yuv444p",
    codec: dict[str, str] | None = None,
) -> Path:
    """Three cameras of 64x48 pixels, calibrated at `size`."""
    folder.mkdir(parents=True, exist_ok=True)
    for camera in range(3):
        write_video(folder / f"cam{camera:02d}.mp4", [picture()] * 3, pix_fmt=pix_fmt, codec=codec)
    np.save(folder / "poses_bounds.npy", poses_bounds(3, *size))
    return folder


def photo_scene(folder: Path, size: tuple[int, int], stored: Image.Image, **options) -> Path:
    """Three cameras with one image each, calibrated at `size`."""
    scene = image_scene(folder, num_frames=1)
    for path in scene.glob("cam*/images/*.png"):
        path.unlink()
        stored.save(path.with_suffix(options.get("suffix", ".png")), **options.get("save", {}))
    np.save(scene / "poses_bounds.npy", poses_bounds(3, *size))
    return scene


def first_image(scene: Path) -> np.ndarray:
    return np.array(open_scene(scene).train_dataset.store[0]).astype(int)


# ---- videos ----


@pytest.mark.parametrize("turn", TURNS)
def test_videos_are_decoded_as_players_show_them(tmp_path: Path, turn: str):
    """The calibration saw frames that a player's decoder extracted."""
    matrix, shown = TURNS[turn]
    expected = shown(picture())
    scene = video_scene(tmp_path, size=expected.shape[1::-1])
    for path in scene.glob("*.mp4"):
        show_turned(path, matrix)
    image = first_image(scene)
    assert image.shape == expected.shape
    assert np.abs(image - expected).max() <= 3


def test_one_camera_that_hangs_upside_down(tmp_path: Path):
    scene = video_scene(tmp_path)
    show_turned(scene / "cam02.mp4", (-1, 0, 0, -1))
    store = open_scene(scene).train_dataset.store
    assert np.abs(store[3].astype(int) - picture()[::-1, ::-1]).max() <= 3
    assert np.abs(store[0].astype(int) - picture()).max() <= 3


def test_a_turned_video_that_was_calibrated_as_it_is_stored(tmp_path: Path):
    scene = video_scene(tmp_path)
    for path in scene.glob("*.mp4"):
        show_turned(path, (0, 1, -1, 0))
    with pytest.raises(ValueError, match=r"cam00\.mp4 is 48x64 as it is shown .* says 64x48"):
        open_scene(scene)


@pytest.mark.parametrize("matrix", [(0.94, 0.34, -0.34, 0.94), (2, 0, 0, 2), (1, 1, -1, 1)])
def test_a_display_matrix_of_another_kind(tmp_path: Path, matrix: tuple[float, ...]):
    scene = video_scene(tmp_path)
    for path in scene.glob("*.mp4"):
        show_turned(path, matrix)
    np.save(
        scene / "poses_bounds.npy", poses_bounds(3, *read_video_header(scene / "cam00.mp4")[:2])
    )
    with pytest.raises(ValueError, match=r"turned by quarters, but .*cam0.\.mp4"):
        open_scene(scene)


@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "yuv422p10le", "yuv444p", "yuv420p"])
def test_deep_videos(tmp_path: Path, pix_fmt: str):
    image = first_image(video_scene(tmp_path, pix_fmt=pix_fmt))
    for row, column in ((8, 8), (8, 56), (40, 8), (40, 56)):
        assert np.abs(image[row, column] - picture()[row, column]).max() <= 4


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
def test_hdr_videos_are_refused(tmp_path: Path, transfer: str):
    params = f"transfer={transfer}:colorprim=bt2020:colormatrix=bt2020nc"
    scene = video_scene(tmp_path, pix_fmt="yuv420p10le", codec={"x264-params": params})
    with pytest.raises(ValueError, match=r"standard dynamic range, but .*cam00\.mp4 is HDR"):
        open_scene(scene)


# ---- EXIF ----


def turned_photo(orientation: int) -> dict:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return {"suffix": ".jpg", "save": {"exif": exif, "quality": 98, "subsampling": 0}}


@pytest.mark.parametrize(("orientation", "turn"), [(6, "90"), (8, "270"), (5, "mirrored 90")])
def test_photos_are_turned_as_they_were_calibrated(tmp_path: Path, orientation: int, turn: str):
    """Some tools calibrate what is stored, others what is shown."""
    options, stored = turned_photo(orientation), Image.fromarray(picture())
    upright = first_image(photo_scene(tmp_path / "shown", (48, 64), stored, **options))
    expected = TURNS[turn][1](picture())
    assert upright.shape == expected.shape
    assert np.abs(upright - expected).mean() < 3
    flat = first_image(photo_scene(tmp_path / "stored", (64, 48), stored, **options))
    assert np.abs(flat - picture()).mean() < 3


@pytest.mark.parametrize(("orientation", "size"), [(3, (64, 48)), (2, (64, 48)), (6, (48, 48))])
def test_an_orientation_that_the_calibration_does_not_decide(
    tmp_path: Path, orientation: int, size: tuple[int, int]
):
    stored = Image.fromarray(picture(*size))
    scene = photo_scene(tmp_path, size, stored, **turned_photo(orientation))
    with pytest.raises(ValueError, match=rf"0000\.jpg has the EXIF orientation {orientation}"):
        open_scene(scene)


def test_an_orientation_that_says_nothing(tmp_path: Path):
    stored = Image.fromarray(picture())
    image = first_image(photo_scene(tmp_path, (64, 48), stored, **turned_photo(1)))
    assert np.abs(image - picture()).mean() < 3


def test_turned_photos_of_a_dome(tmp_path: Path):
    """Its JSON says 24x16."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    scene = panoptic_scene(tmp_path)
    upright = Image.fromarray(np.rot90(picture(24, 16)).copy())
    for path in scene.glob("ims/*/*.jpg"):
        upright.save(path, exif=exif, quality=98, subsampling=0)
    parser = PanopticDataParserConfig(data=scene, num_random_points=50)
    manager = MoegsDataManagerConfig(dataparser=parser).setup(device="cpu", test_mode="val")
    assert np.abs(manager.train_dataset.store[0].astype(int) - picture(24, 16)).mean() < 6


def test_sizes_are_read_without_decoding(tmp_path: Path):
    path = tmp_path / "0000.png"
    Image.fromarray(picture()).save(path)
    path.write_bytes(path.read_bytes()[:60])
    assert read_image_size(path) == (64, 48, False)


def test_turned_png_files(tmp_path: Path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    scene = photo_scene(tmp_path, (48, 64), Image.fromarray(picture()), save={"exif": exif})
    for path in scene.glob("cam*/images/*.png"):
        assert read_image_size(path) == (64, 48, True)
    assert np.array_equal(first_image(scene), TURNS["90"][1](picture()))


# ---- colours ----


def test_grey_of_16_bits(tmp_path: Path):
    ramp = np.tile(np.arange(0, 64 * 4, 4, dtype=np.uint16), (48, 1))
    image = first_image(photo_scene(tmp_path, (64, 48), Image.fromarray(ramp * 257)))
    assert np.array_equal(image, np.repeat(ramp[:, :, None], 3, axis=2))


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "RGBA"])
def test_opaque_images_of_other_kinds(tmp_path: Path, mode: str):
    stored = Image.fromarray(picture()).convert(mode)
    image = first_image(photo_scene(tmp_path, (64, 48), stored))
    assert np.array_equal(image, np.array(stored.convert("RGB")))


@pytest.mark.parametrize("kind", ["RGBA", "LA", "palette"])
def test_transparent_images_are_refused(tmp_path: Path, kind: str):
    if kind == "palette":
        stored = Image.fromarray(picture()).quantize(4)
        options = {"save": {"transparency": 1}}
    else:
        stored = Image.fromarray(picture()).convert(kind)
        stored.putalpha(Image.fromarray(picture()[:, :, 0]))
        options = {}
    scene = photo_scene(tmp_path, (64, 48), stored, **options)
    with pytest.raises(ValueError, match=r"opaque images, but .*0000\.png has transparent pixels"):
        open_scene(scene)


def test_photos_in_the_colours_of_print(tmp_path: Path):
    stored = Image.fromarray(picture()).convert("CMYK")
    scene = photo_scene(tmp_path, (64, 48), stored, suffix=".jpg")
    with pytest.raises(ValueError, match=r"0000\.jpg has the colours CMYK; convert"):
        open_scene(scene)


def test_a_portrait_rig_keeps_its_intrinsics(tmp_path: Path):
    """The focal length is scaled from the calibrated, upright size."""
    scene = video_scene(tmp_path, size=(480, 640))
    for path in scene.glob("*.mp4"):
        show_turned(path, (0, 1, -1, 0))
    cameras = N3VDataParserConfig(data=scene).setup().get_dataparser_outputs("train").cameras
    assert (int(cameras.width[0]), int(cameras.height[0])) == (48, 64)
    assert (float(cameras.fx[0]), float(cameras.cy[0])) == (2.0, 32.0)
