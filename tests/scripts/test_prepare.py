"""`moegs prepare points`: exact geometry, cameras left alone, resuming, thinning out, mistakes."""

import errno
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from data_helpers import dnerf_scene, tiny_video_scene
from PIL import Image
from wedge import distances, wedge_scene

from moegs_ns.data.datamanager import MoegsDataManagerConfig
from moegs_ns.data.dataparsers.n3v import N3VDataParserConfig
from moegs_ns.data.dataparsers.panoptic import PanopticDataParserConfig
from moegs_ns.data.frames import decoding
from moegs_ns.data.points import prepared as prepared_points
from moegs_ns.data.points.files import load_points
from moegs_ns.data.points.triangulation import Triangulated
from moegs_ns.launch.cli_args import replaced_argv
from moegs_ns.scripts import main as command

Arrays = dict[str, np.ndarray]


def prepare(scene: Path, *options: str, parser: Sequence[str] = ("panoptic-data",)) -> None:
    """What a user types; options of the parser follow its name, so they come last."""
    args = ["--data", str(scene), "--method", "features", *options, *parser]
    with replaced_argv(["moegs", "prepare", "points", *args]):
        command.main()


def read(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def assert_same(one: Arrays, two: Arrays) -> None:
    assert set(one) == set(two)
    for name, value in one.items():
        np.testing.assert_array_equal(value, two[name], err_msg=name)


@pytest.fixture(scope="module")
def wedge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene that no test changes; results go elsewhere."""
    return wedge_scene(tmp_path_factory.mktemp("wedge"))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[int], list[np.ndarray]]]:
    """Replaces the triangulation by 50 points; keeps the cameras and images that it was given."""
    calls: list[tuple[list[int], list[np.ndarray]]] = []

    def pretend(images, view, options) -> Triangulated:
        calls.append((view.camera_ids.tolist(), images))
        random = np.random.default_rng(int(np.stack(images).astype(np.int64).sum()))
        rgb = random.integers(0, 255, size=(50, 3), dtype=np.uint8)
        xyz = random.random((50, 3), dtype=np.float32)
        return Triangulated(xyz, rgb, np.full(len(images), 50))

    monkeypatch.setattr(prepared_points, "triangulate", pretend)
    monkeypatch.setattr(prepared_points, "require_pycolmap", lambda: None)
    monkeypatch.setattr("moegs_ns.scripts.prepare.require_pycolmap", lambda: None)
    return calls


# ---- geometry ----


@pytest.mark.colmap
def test_points_lie_on_the_surfaces_of_their_frame(wedge: Path, tmp_path: Path):
    """Cameras with focal lengths that differ in x and y and principal points off the centre.

    A pixel is 27 mm wide at the wall.
    """
    prepare(wedge, "--every", "1", "--output", str(tmp_path / "a.npz"))
    points = read(tmp_path / "a.npz")
    assert points["xyz"].dtype == np.float32
    assert points["rgb"].dtype == np.uint8
    assert points["cameras"].tolist() == [0, 1, 3, 4, 5, 6]
    for frame in range(3):
        rows = points["frame"] == frame
        assert rows.sum() > 100
        assert len(np.unique(points["xyz"][rows], axis=0)) == rows.sum()
        off = distances(points["xyz"][rows], points["frame"][rows])
        assert np.median(off) < 0.02
        assert np.quantile(off, 0.9) < 0.1
        wrong = distances(points["xyz"][rows], (points["frame"][rows] + 1) % 3)
        assert np.median(wrong) > 5 * np.median(off)
    # The wall is yellow, the floor nearly grey.
    is_floor = np.abs(points["xyz"][:, 1] - 1.0) < 0.02
    blueness = points["rgb"][:, 2] / points["rgb"][:, 0].clip(1)
    assert np.median(blueness[is_floor]) > 0.7
    assert np.median(blueness[points["xyz"][:, 1] < 0.8]) < 0.4
    said = f"triangulated from 6 cameras at 3 frames, {len(points['xyz'])} points"
    assert str(points["origin"]) == said


@pytest.mark.colmap
def test_more_views_make_fewer_and_better_points(wedge: Path, tmp_path: Path):
    def first_frame(*options: str) -> np.ndarray:
        prepare(wedge, "--overwrite", "--output", str(tmp_path / "a.npz"), *options)
        points = read(tmp_path / "a.npz")
        assert "frame" not in points, "points of one frame stand for the whole clip"
        return distances(points["xyz"], np.zeros(len(points["xyz"])))

    two, three = first_frame(), first_frame("--triangulation.min-views", "3")
    assert 0 < len(three) < len(two)
    assert np.quantile(three, 0.9) < np.quantile(two, 0.9)
    assert len(first_frame("--triangulation.max-error", "0.1")) < len(two)
    assert len(first_frame("--triangulation.min-angle", "12")) < len(two)


@pytest.mark.colmap
def test_held_out_and_validation_cameras_are_never_read(wedge: Path, tmp_path: Path):
    """Their files are no images at all, and the result is the same to the bit."""
    prepare(wedge, "--val-cameras", "4", "0", "--output", str(tmp_path / "a.npz"))
    scene = wedge_scene(tmp_path / "poisoned", num_frames=1)
    for camera in (2, 4, 0):
        (scene / "ims" / str(camera) / "000000.png").write_bytes(b"no image")
    prepare(scene, "--val-cameras", "4", "0", "--output", str(tmp_path / "b.npz"))
    one, two = read(tmp_path / "a.npz"), read(tmp_path / "b.npz")
    assert one["cameras"].tolist() == [1, 3, 5, 6]
    assert_same(one, two)
    with pytest.raises(ValueError, match=r"0/000000\.png.*cannot be read"):
        prepare(scene, "--output", str(tmp_path / "c.npz"))


@pytest.mark.colmap
def test_images_without_features(tmp_path: Path):
    """A blank frame gives no points; blank frames alone are a mistake."""
    scene = wedge_scene(tmp_path, num_frames=2)
    blank = Image.new("RGB", (160, 120), (90, 90, 90))
    for path in (scene / "ims").glob("*/000001.png"):
        blank.save(path)
    prepare(scene, "--every", "1")
    assert set(read(scene / "moegs_points.npz")["frame"]) == {0}
    for path in (scene / "ims").glob("*/000000.png"):
        blank.save(path)
    with pytest.raises(ValueError, match=r"none was found at frame 0.*poses belong to the images"):
        prepare(scene, "--overwrite")


@pytest.mark.colmap
@pytest.mark.data
def test_a_real_dome(data_dir: Path, tmp_path: Path):
    """Few cameras; compared with a cloud that other software made of all of them."""
    scene = data_dir / "panoptic_basketball"
    keep = {1, 5, 9, 13, 17, 21, 25, 29}
    others = [str(camera) for camera in range(31) if camera not in keep | {0, 10, 15, 30}]
    prepare(scene, "--val-cameras", *others, "--output", str(tmp_path / "a.npz"))
    points, reference = read(tmp_path / "a.npz"), read(scene / "init_sift_t0.npz")
    assert points["cameras"].tolist() == sorted(keep)
    assert len(points["xyz"]) > 50
    one, two = torch.from_numpy(points["xyz"]), torch.from_numpy(reference["xyz"])
    assert torch.cdist(one, two).min(1).values.median() < 0.1  # metres, in a room of 6


# ---- frames, cameras and the file ----


def test_the_frames_that_are_used(wedge: Path, seen: list, tmp_path: Path):
    scene = wedge_scene(tmp_path, num_frames=5, num_cameras=3)
    prepare(scene, "--every", "2")
    points = read(scene / "moegs_points.npz")
    assert len(seen) == 3
    assert [cameras for cameras, _ in seen] == [[0, 1]] * 3
    assert points["frame"].tolist() == [0] * 50 + [2] * 50 + [4] * 50
    for frame, (_, images) in zip((0, 2, 4), seen, strict=True):
        for camera, image in enumerate(images):
            expected = np.array(Image.open(scene / "ims" / str(camera) / f"{frame:06d}.png"))
            np.testing.assert_array_equal(image, expected)
    assert not list(scene.glob(".*")), "nothing but the result is left"


def test_frames_of_a_clip_keep_the_numbers_of_the_recording(seen: list, tmp_path: Path):
    """So that a file fits every clip of its recording."""
    scene = wedge_scene(tmp_path, num_frames=5, num_cameras=3)
    prepare(scene, "--every", "2", parser=("panoptic-data", "--frames", "1", "4"))
    assert set(read(scene / "moegs_points.npz")["frame"]) == {1, 3}
    outputs = PanopticDataParserConfig(data=scene, frames=(3, 4)).setup()
    metadata = outputs.get_dataparser_outputs("train").metadata
    assert set(metadata["points3D_frames"].tolist()) == {0}
    assert "50 belong to frames 3 to 4; 39950 random ones added" in metadata["points3D_origin"]


def test_videos_are_read_frame_by_frame_and_held_out_ones_not_at_all(
    seen: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    decoded: list[tuple[str, list[int]]] = []
    decode = decoding.decode_video

    def spy(path: Path, frames: list[int]):
        decoded.append((path.name, frames))
        yield from decode(path, frames)

    monkeypatch.setattr(decoding, "decode_video", spy)
    scene = tiny_video_scene(tmp_path)
    prepare(scene, "--every", "3", "--val-cameras", "2", "--fewer", parser=("n3v-data",))
    assert sorted(decoded) == [("cam01.mp4", [0, 3]), ("cam03.mp4", [0, 3])]
    assert [cameras for cameras, _ in seen] == [[1, 3], [1, 3]]
    for (_, images), frame in zip(seen, (0, 3), strict=True):
        expected = next(iter(decode(scene / "cam03.mp4", [frame])))
        np.testing.assert_array_equal(images[1], expected)
    # The parser prefers what was made for it to points3D.npz.
    metadata = N3VDataParserConfig(data=scene).setup().get_dataparser_outputs("train").metadata
    origin = metadata["points3D_origin"]
    assert "moegs_points.npz, triangulated from 2 cameras at 2 frames, 100 points" in origin
    assert metadata["points3D_cameras"] == (1, 3)


def test_an_interrupted_run_goes_on_with_the_missing_frames(
    wedge: Path, seen: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    output = tmp_path / "a.npz"
    pretend = prepared_points.triangulate

    def interrupted(images, view, options) -> Triangulated:
        if len(seen) == 2:
            raise KeyboardInterrupt
        return pretend(images, view, options)

    monkeypatch.setattr(prepared_points, "triangulate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(wedge, "--every", "1", "--output", str(output))
    assert not output.exists()
    monkeypatch.setattr(prepared_points, "triangulate", pretend)
    prepare(wedge, "--every", "1", "--output", str(output))
    assert len(seen) == 3, "two frames before, one after"
    prepare(wedge, "--every", "1", "--output", str(tmp_path / "whole.npz"))
    assert output.read_bytes() == (tmp_path / "whole.npz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "whole.npz"]


@pytest.mark.parametrize(
    "change", [("--triangulation.max-error", "1"), ("--val-cameras", "3"), ("touched",)]
)
def test_other_options_start_anew(
    wedge: Path, seen: list, tmp_path: Path, change: tuple, monkeypatch: pytest.MonkeyPatch
):
    scene = wedge_scene(tmp_path, num_frames=2, num_cameras=5)
    save = prepared_points._save

    def full(path: Path, arrays: Arrays) -> None:
        if path.name == "moegs_points.npz":
            raise OSError("the last step fails")
        save(path, arrays)

    monkeypatch.setattr(prepared_points, "_save", full)
    with pytest.raises(OSError, match="last step"):
        prepare(scene, "--every", "1")
    monkeypatch.setattr(prepared_points, "_save", save)
    assert len(seen) == 2
    if change == ("touched",):
        os.utime(scene / "ims" / "3" / "000000.png", (1, 1))
        prepare(scene, "--every", "1")
        assert len(seen) == 3, "only the frame whose image changed"
    else:
        prepare(scene, "--every", "1", *change)
        assert len(seen) == 4


def test_a_full_disk_leaves_nothing_half_written(
    wedge: Path, seen: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*arguments, **arrays):
        arguments[0].write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(prepared_points.np, "savez", full)
    with pytest.raises(OSError, match=r"cannot be written to .*No space left.*another --output"):
        prepare(wedge, "--output", str(tmp_path / "a.npz"))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_finished_file_is_replaced_only_when_asked(wedge: Path, seen: list, tmp_path: Path):
    output = tmp_path / "new" / "a.npz"
    prepare(wedge, "--output", str(output))
    before = output.read_bytes()
    with pytest.raises(FileExistsError, match=r"a\.npz exist already; add --overwrite"):
        prepare(wedge, "--output", str(output))
    assert len(seen) == 1
    prepare(wedge, "--overwrite", "--output", str(output))
    assert output.read_bytes() == before


# ---- thinning out ----


def test_merged_points_are_thinned_out(wedge: Path, seen: list, tmp_path: Path):
    prepare(wedge, "--every", "1", "--max-points", "40", "--output", str(tmp_path / "a.npz"))
    points = read(tmp_path / "a.npz")
    assert [len(points[name]) for name in ("xyz", "rgb", "frame")] == [40, 40, 40]
    assert str(points["origin"]).endswith("at 3 frames, 150 points, down-sampled to 40")
    prepare(wedge, "--every", "1", "--max-points", "40", "--output", str(tmp_path / "b.npz"))
    assert_same(points, read(tmp_path / "b.npz"))
    assert "150 points, down-sampled" in load_points(tmp_path / "a.npz").origin


# ---- runs ----


def test_a_run_says_when_its_points_saw_validation_cameras(wedge: Path, seen: list, tmp_path: Path):
    prepare(wedge, "--val-cameras", "4", "--output", str(tmp_path / "a.npz"))
    parser = PanopticDataParserConfig(data=wedge, points_file=tmp_path / "a.npz", min_points=60)
    config = MoegsDataManagerConfig(dataparser=parser, frame_store_dir=tmp_path)

    def origin(val_cameras: tuple[int, ...]) -> str:
        changed = replace(config, val_cameras=val_cameras)
        manager = changed.setup(device="cpu", test_mode="inference")
        return manager.train_dataparser_outputs.metadata["points3D_origin"]

    for clean in ((), (4,)):
        assert origin(clean).endswith("at frame 0, 50 points; 10 random ones added in the "
                                      "cameras' common view.")  # fmt: skip
    assert "Warning: images of camera 1 3, which this run does not train on" in origin((1, 3, 4))


# ---- mistakes ----


def test_without_pycolmap(wedge: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    with pytest.raises(ImportError, match=r"run `pip install moegs_ns\[prepare\]`\."):
        prepare(wedge, "--output", str(tmp_path / "a.npz"))


def test_an_old_pycolmap(wedge: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    old = type(sys)("pycolmap")
    old.__version__ = "3.10.0"  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "pycolmap", old)
    with pytest.raises(ImportError, match=r"pycolmap 4 or newer, but 3\.10\.0 is installed"):
        prepare(wedge, "--output", str(tmp_path / "a.npz"))


def test_a_monocular_scene(seen: list, tmp_path: Path):
    with pytest.raises(ValueError, match=r"several images of one time, .*monocular"):
        prepare(dnerf_scene(tmp_path), parser=("dnerf-data",))
    assert not (tmp_path / "moegs_points.npz").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--val-cameras", "0", "1", "3", "4", "5"), "at least 2 training cameras, got 1"),
        (("--val-cameras", "2"), "expects training cameras"),
        (("--every", "-1"), r"--every expects 0 \(first frame alone\)"),
        (("--max-points", "0"), "--max-points expects at least 1"),
        (("--triangulation.min-views", "1"), "min-views expects at least 2"),
        (("--triangulation.max-error", "0"), r"--triangulation\.max-error expects .* above 0"),
        (("--output", "points.ply"), r"name of a \.npz file, got points\.ply"),
    ],
)
def test_options_that_make_no_sense(wedge: Path, seen: list, options: tuple, message: str):
    with pytest.raises(ValueError, match=message):
        prepare(wedge, *options)
    assert not seen
    assert not list(wedge.glob("*moegs_points*"))


def test_missing_images_are_named(seen: list, tmp_path: Path):
    scene = wedge_scene(tmp_path, num_frames=1, num_cameras=4)
    (scene / "ims" / "3" / "000000.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"an image at .*3/000000\.png"):
        prepare(scene)


def test_distorted_cameras(wedge: Path, seen: list, tmp_path: Path):
    outputs = PanopticDataParserConfig(data=wedge).setup().get_dataparser_outputs("train")
    outputs.cameras.distortion_params = torch.full((len(outputs.cameras), 6), 0.1)
    with pytest.raises(ValueError, match=r"without distortion.*undistort the images"):
        prepared_points.prepare_points(
            outputs, prepared_points.PreparedPointsOptions(), tmp_path / "a.npz", wedge
        )


def test_many_points_are_not_replaced_by_few_without_a_word(seen: list, tmp_path: Path):
    scene = wedge_scene(tmp_path / "scene")
    many = np.random.default_rng(0).random((4000, 3), dtype=np.float32)
    np.savez(scene / "init_sift_all.npz", xyz=many, rgb=np.zeros((4000, 3), np.uint8))
    before = sorted(scene.iterdir())
    with pytest.raises(
        ValueError, match=r"4,000 of .*init_sift_all\.npz.*found 50; nothing.*--fewer"
    ):
        prepare(scene)
    assert [p for p in sorted(scene.iterdir()) if not p.name.startswith(".")] == before
    prepare(scene, "--output", str(tmp_path / "apart.npz"))
    prepare(scene, "--fewer")
    assert len(read(scene / "moegs_points.npz")["xyz"]) == 50
    # The file that is overwritten counts, and as many points are enough.
    prepare(scene, "--overwrite")
    with pytest.raises(ValueError, match=r"the 50 of .*moegs_points\.npz.*found 40"):
        prepare(scene, "--overwrite", "--max-points", "40")
