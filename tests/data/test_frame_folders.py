"""`frame-folders-data`, `multipleview-data` and E-D3DGS's folders: what other methods make of
N3V."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from colmap_files import write_model
from data_helpers import image_scene
from layouts import KnownCamera, assert_dots_where_expected, assert_served, known_camera
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs

from moegs_ns.cameras import llff_from_opengl
from moegs_ns.data.dataparsers.frame_folders import FrameFoldersDataParserConfig
from moegs_ns.data.dataparsers.multipleview import MultipleViewDataParserConfig
from moegs_ns.data.dataparsers.n3v import N3VDataParserConfig

NAMES = ("cam00", "cam01", "cam02", "cam04")
"""With a gap, as scenes have them."""


def cameras(**options) -> dict[str, KnownCamera]:
    return {name: known_camera(number, **options) for number, name in enumerate(NAMES)}


def parse(scene: Path, split: str = "train", **options) -> DataparserOutputs:
    return FrameFoldersDataParserConfig(data=scene, **options).setup().get_dataparser_outputs(split)


def parse_multipleview(scene: Path, split: str = "train", **options) -> DataparserOutputs:
    return MultipleViewDataParserConfig(data=scene, **options).setup().get_dataparser_outputs(split)


def save(camera: KnownCamera, frame: int, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    camera.image(frame).save(path, quality=98)


def stg_scene(folder: Path, frames: int = 3) -> Path:
    """A COLMAP model for each frame."""
    known = cameras(shift=(5.0, -4.0))
    for frame in range(frames):
        inside = folder / f"colmap_{frame}"
        for name, camera in known.items():
            save(camera, frame, inside / "images" / f"{name}.png")
        named = {f"{name}.png": camera for name, camera in known.items()}
        write_model(inside / "sparse" / "0", named)
    return folder


def stream_3dgs_scene(folder: Path) -> Path:
    """The undistorted first frame has a model; the others have images alone."""
    known = cameras()
    for name, camera in known.items():
        save(camera, 0, folder / "frame000000" / "images" / f"{name}.png")
        for frame in (1, 2):
            save(camera, frame, folder / f"frame{frame:06d}" / f"{name}.png")
    named = {f"{name}.png": camera for name, camera in known.items()}
    write_model(folder / "frame000000" / "sparse" / "0", named)
    (folder / "frame000000" / "distorted").mkdir()
    return folder


def llff_rows(known: dict[str, KnownCamera]) -> np.ndarray:
    poses = llff_from_opengl(np.stack([camera.opengl[:3] for camera in known.values()]))
    sizes = [[[camera.height], [camera.width], [camera.fx]] for camera in known.values()]
    rows = np.concatenate([poses, np.array(sizes)], axis=2).reshape(-1, 15)
    return np.concatenate([rows, np.tile([2.0, 9.0], (len(rows), 1))], axis=1)


def streamrf_scene(folder: Path) -> Path:
    """A folder for each frame, and the poses in the first."""
    known = cameras()
    for frame in range(3):
        for name, camera in known.items():
            save(camera, frame, folder / f"{frame:04d}" / "images" / f"{name}.png")
    np.save(folder / "0000" / "poses_bounds.npy", llff_rows(known))
    return folder


def multipleview_scene(folder: Path, *, text: bool = False) -> Path:
    """Eleven cameras, so that their order is not that of the letters; names in the model have no
    zeros, and lenses distort."""
    lens = (0.5, 0.0, 0.0, 0.0, 0.0)
    known = {number: known_camera(number, distortion=lens) for number in range(1, 12)}
    for number, camera in known.items():
        for frame in (1, 2):
            save(camera, frame, folder / f"cam{number:02d}" / f"frame_{frame:05d}.jpg")
    named = {f"image{number}.jpg": camera for number, camera in reversed(known.items())}
    write_model(folder / "sparse_", named, "SIMPLE_RADIAL", text=text)
    return folder


@pytest.mark.parametrize("write", [stg_scene, stream_3dgs_scene, streamrf_scene])
def test_cameras_see_the_points(write, tmp_path: Path):
    scene = write(tmp_path / "scene")
    train, held_out = parse(scene), parse(scene, "test")
    assert train.metadata["camera_ids"] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert held_out.metadata["camera_ids"] == [0, 0, 0]
    assert [path.stem for path in train.image_filenames[::3]] == ["cam01", "cam02", "cam04"]
    assert held_out.metadata["frame_ids"] == [0, 1, 2]
    assert_dots_where_expected(train, tmp_path / "store")
    assert_dots_where_expected(held_out, tmp_path / "store")
    half = parse(scene, downscale_factor=2, frames=(1, 2), exclude_cameras=(2,))
    assert half.metadata["camera_ids"] == [1, 1, 3, 3]
    assert_dots_where_expected(half, tmp_path / "store")


def test_points_of_the_first_model(tmp_path: Path):
    outputs = parse(stg_scene(tmp_path / "stg", frames=1), min_points=0)
    assert outputs.metadata["points3D_xyz"].shape == (9, 3)
    assert outputs.metadata["points3D_rgb"][0].tolist() == [200, 100, 50]
    outputs = parse(stream_3dgs_scene(tmp_path / "stream"), min_points=0)
    assert "frame000000/sparse/0/points3D.bin" in outputs.metadata["points3D_origin"]
    path = tmp_path / "stream" / "frame000000" / "sparse" / "0" / "points3D.bin"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"points in .*points3D\.bin .*damaged"):
        parse(tmp_path / "stream")


@pytest.mark.parametrize("text", [False, True])
def test_multipleview(tmp_path: Path, text: bool):
    scene = multipleview_scene(tmp_path / "scene", text=text)
    train, held_out = parse_multipleview(scene), parse_multipleview(scene, "test")
    assert held_out.image_filenames[0] == scene / "cam01" / "frame_00001.jpg"
    assert [path.parent.name for path in train.image_filenames[::2]] == [
        f"cam{number:02d}" for number in range(2, 12)
    ]
    assert (train.metadata["first_frame"], train.metadata["num_frames"]) == (1, 2)
    for outputs in (train, held_out):
        assert_dots_where_expected(outputs, tmp_path / "store")


def test_folders_of_ed3dgs(tmp_path: Path):
    scene = image_scene(tmp_path)
    (scene / "images").mkdir()
    for folder in sorted(scene.glob("cam*")):
        (folder / "images").rename(scene / "images" / folder.name)
        folder.rmdir()
    outputs = N3VDataParserConfig(data=scene).setup().get_dataparser_outputs("train")
    assert outputs.metadata["camera_ids"] == [1] * 4 + [2] * 4
    assert outputs.image_filenames[5] == scene / "images" / "cam02" / "0001.png"


def test_methods_get_the_images(tmp_path: Path):
    assert_served(FrameFoldersDataParserConfig(data=stg_scene(tmp_path / "stg")))
    scene = multipleview_scene(tmp_path / "multipleview")
    assert_served(MultipleViewDataParserConfig(data=scene))


# ---- mistakes ----


def test_mistakes_of_the_folders(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"scene folder at .*nowhere"):
        parse(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"folders colmap_0, .* found none"):
        parse(tmp_path)
    scene = stg_scene(tmp_path / "scene")
    image = scene / "colmap_1" / "images" / "cam02.png"
    image.unlink()
    with pytest.raises(ValueError, match=r"cam02 lacks 1 of 3, the first of them 1"):
        parse(scene)
    assert parse(scene, frames=(2, 2)).metadata["camera_ids"] == [1, 2, 3]
    known_camera(0, width=80, height=60).image(0).save(scene / "colmap_2" / "images" / "cam02.png")
    with pytest.raises(ValueError, match=r"one size, but .* 160x120 and .*cam02\.png is 80x60"):
        parse(scene, frames=(2, 2))


def test_mistakes_of_the_model(tmp_path: Path):
    scene = stg_scene(tmp_path / "scene", frames=1)
    model = scene / "colmap_0" / "sparse" / "0"
    named = {f"{name}.png": camera for name, camera in cameras().items()}
    write_model(model, {name: named[name] for name in list(named)[:3]})
    with pytest.raises(ValueError, match=r"1 of 4 have none, such as cam04"):
        parse(scene)
    write_model(model, {name: replace(camera, width=90) for name, camera in named.items()})
    with pytest.raises(ValueError, match=r"proportions of 90x120.*they are 160x120"):
        parse(scene)
    (model / "images.bin").write_bytes((model / "images.bin").read_bytes()[:60])
    with pytest.raises(ValueError, match=r"COLMAP model in .* cannot be read"):
        parse(scene)
    (model / "cameras.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"cameras\.bin beside images\.bin"):
        parse(scene)
    (model / "images.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"COLMAP model .* in .*sparse/0"):
        parse(scene)


def test_mistakes_of_streamrf_and_multipleview(tmp_path: Path):
    scene = streamrf_scene(tmp_path / "streamrf")
    np.save(scene / "0000" / "poses_bounds.npy", llff_rows(cameras())[:3])
    with pytest.raises(ValueError, match=r"3 rows for 4 cameras"):
        parse(scene)
    scene = multipleview_scene(tmp_path / "multipleview")
    (scene / "cam12").mkdir()
    with pytest.raises(ValueError, match=r"image12 of cam12 in the COLMAP model"):
        parse_multipleview(scene)
    with pytest.raises(FileNotFoundError, match=r"folders cam01, cam02"):
        parse_multipleview(tmp_path)
