"""`moegs prepare rig` and `calibrate`: from files of any name to cameras that can be trained on."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from data_helpers import show_turned, test_image, tiny_video_scene, write_video
from rig_helpers import POINTS, KnownCamera, known_cameras

from moegs_ns.cameras import view_from_cameras
from moegs_ns.data.dataparsers.n3v import N3VDataParserConfig
from moegs_ns.data.dataparsers.rig import RigDataParserConfig
from moegs_ns.data.rig_files import RIG, read_rig
from moegs_ns.launch.cli_args import replaced_argv
from moegs_ns.scripts import main as command


def prepare(*args: object) -> None:
    """What a user types."""
    with replaced_argv(["moegs", "prepare", *map(str, args)]):
        command.main()


def videos(folder: Path, names: tuple[str, ...], **options) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    return [
        write_video(
            folder / name,
            [test_image(number, frame, 64, 48) for frame in range(options.get("count", 5))],
            fps=options.get("fps", 30),
        )
        for number, name in enumerate(names)
    ]


def write_toml(path: Path, cameras: list[KnownCamera]) -> Path:
    path.write_text(
        "".join(
            f'[cam_{number}]\nname = "{camera.name}"\nsize = [{camera.width}, {camera.height}]\n'
            f"matrix = {camera.K.tolist()}\ndistortions = {list(camera.distortion)}\n"
            f"rotation = {camera.vector.tolist()}\ntranslation = {camera.t.tolist()}\n"
            for number, camera in enumerate(cameras)
        )
    )
    return path


def test_two_commands_make_a_scene_of_videos_of_any_name(tmp_path: Path, capsys):
    """Calibrated at another size, and listed in another order."""
    cameras = known_cameras(("left", "mid", "right"))
    files = videos(tmp_path / "s", ("2020-right.mp4", "2020-left.mp4", "2020-mid.mp4"))
    prepare("rig", *files)
    shown = capsys.readouterr().out
    assert "All share 5 frames at 30 per second" in shown and "64x48" in shown
    with pytest.raises(ValueError, match=r"2020-right, 2020-left, 2020-mid have no lens or pose"):
        RigDataParserConfig(data=tmp_path / "s").setup().get_dataparser_outputs("train")
    prepare(
        "calibrate", "--data", tmp_path / "s", "--from", write_toml(tmp_path / "c.toml", cameras)
    )
    assert "3 of 3 cameras calibrated" in capsys.readouterr().out
    outputs = RigDataParserConfig(data=tmp_path / "s").setup().get_dataparser_outputs("train")
    for number, camera in enumerate([cameras[2], cameras[0], cameras[1]]):
        view = view_from_cameras(outputs.cameras[5 * number : 5 * number + 1])
        expected = (POINTS @ camera.R.T + camera.t) @ camera.K.T
        expected = (expected[:, :2] / expected[:, 2:] + 0.5) / 10.0
        local = POINTS @ view.viewmats[0, :3, :3].numpy().T + view.viewmats[0, :3, 3].numpy()
        flat = local @ view.Ks[0].numpy().T
        np.testing.assert_allclose(flat[:, :2] / flat[:, 2:], expected, atol=1e-3)


def test_an_n3v_scene_as_rig_has_the_same_cameras(tmp_path: Path):
    scene = tiny_video_scene(tmp_path / "scene")
    prepare("rig", *sorted(scene.glob("*.mp4"), reverse=True))
    prepare("calibrate", "--data", scene, "--from", scene / "poses_bounds.npy")
    expected = N3VDataParserConfig(data=scene).setup().get_dataparser_outputs("train")
    config = RigDataParserConfig(data=scene, held_out_cameras=("cam00",))
    found = config.setup().get_dataparser_outputs("train")
    # The cameras of this rig are listed from the last to the first.
    count = expected.metadata["num_frames"]
    order = torch.arange(3 * count).reshape(3, count).flip(0).reshape(-1)
    for name in ("camera_to_worlds", "fx", "fy", "cx", "cy", "width", "height", "times"):
        pair = (getattr(found.cameras, name)[order], getattr(expected.cameras, name))
        torch.testing.assert_close(*pair, rtol=1e-5, atol=1e-5)
    assert found.metadata["fps"] == expected.metadata["fps"]
    assert found.mask_filenames is None


def test_a_rig_says_what_its_files_say(tmp_path: Path, capsys):
    """Size as shown, rate, length, rotation; files elsewhere have absolute names."""
    (one,) = videos(tmp_path / "scene", ("a.mp4",))
    (two,) = videos(tmp_path / "far", ("b.mov",), fps=60, count=12)
    show_turned(two, (0, 1, -1, 0))
    prepare("rig", one, two, "--data", tmp_path / "scene")
    shown = capsys.readouterr().out
    assert "48x64" in shown and "90 degrees" in shown and "0.20" in shown
    assert "Warning: Expected the same frames" in " ".join(shown.split())
    first, second = read_rig(tmp_path / "scene" / RIG).cameras
    assert (first.file, first.fps, first.start, first.is_calibrated) == ("a.mp4", 30.0, None, False)
    assert (second.file, second.fps) == (two.as_posix(), 60.0)
    assert (second.width, second.height) == (48, 64)


def test_starts_are_written(tmp_path: Path):
    files = videos(tmp_path, ("a.mp4", "b.mp4"))
    prepare("rig", *files, "--start", "b=3")
    assert [camera.start for camera in read_rig(tmp_path / RIG).cameras] == [0, 3]


def test_folders_and_patterns(tmp_path: Path, capsys):
    from PIL import Image

    for camera in range(2):
        for frame in range(3):
            for path in (
                tmp_path / "all" / f"Take_{frame:05d}_{camera:02d}.png",
                tmp_path / f"view{camera}" / "images" / f"{frame}.png",
            ):
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(test_image(camera, frame)).save(path)
    patterns = [tmp_path / "all" / f"*_{camera:02d}.png" for camera in range(2)]
    prepare("rig", *patterns, "--data", tmp_path, "--fps", 12)
    cameras = read_rig(tmp_path / RIG).cameras
    assert [(each.name, each.file, each.fps) for each in cameras] == [
        ("00", "all/*_00.png", 12.0),
        ("01", "all/*_01.png", 12.0),
    ]
    folders = [tmp_path / f"view{camera}" / "images" for camera in range(2)]
    prepare("rig", *folders, "--data", tmp_path, "--overwrite")
    cameras = read_rig(tmp_path / RIG).cameras
    assert [(each.name, each.file) for each in cameras] == [
        ("view0", "view0/images"),
        ("view1", "view1/images"),
    ]
    assert "All share 3 frames at 30 per second" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ((), ValueError, "got none; name their files"),
        (("a.mp4", "none.mp4"), FileNotFoundError, r"none\.mp4, but there is nothing"),
        (("a.mp4", "a.mp4"), ValueError, "2 are called a; name each"),
        (("a.mp4", "--start", "a"), ValueError, "--start expects pairs"),
        (("a.mp4", "--start", "a=x"), ValueError, r"number of a frame.*a=x"),
        (("a.mp4", "--start", "z=1"), ValueError, r"cameras of the rig, which are a, got z"),
        (("a.mp4", "--start", "a=9"), ValueError, "between 0 and 4"),
        (("a.mp4", "--start", "a=1", "a=2"), ValueError, "each camera once"),
        (("a.mp4", "--fps", "0"), ValueError, "--fps expects"),
        (("text.mp4",), ValueError, "Expected a video"),
    ],
)
def test_what_is_no_rig(tmp_path: Path, options: tuple[str, ...], error, message: str):
    videos(tmp_path, ("a.mp4",))
    (tmp_path / "text.mp4").write_text("no video")
    args = [tmp_path / each if each.endswith(".mp4") else each for each in options]
    with pytest.raises(error, match=message):
        prepare("rig", *args)
    assert not (tmp_path / RIG).exists()


def test_files_are_replaced_only_when_asked(tmp_path: Path):
    files = videos(tmp_path, ("a.mp4", "b.mp4"))
    toml = write_toml(tmp_path / "c.toml", known_cameras(("a", "b")))
    prepare("rig", *files)
    prepare("calibrate", "--data", tmp_path, "--from", toml)
    before = (tmp_path / RIG).read_text()
    with pytest.raises(FileExistsError, match="add --overwrite to replace it"):
        prepare("rig", *files)
    with pytest.raises(FileExistsError, match="calibrated already; add --overwrite"):
        prepare("calibrate", "--data", tmp_path, "--from", toml)
    assert (tmp_path / RIG).read_text() == before
    prepare("calibrate", "--data", tmp_path, "--from", toml, "--overwrite")
    assert not list(tmp_path.glob(".writing*"))


def test_faulty_cameras_are_named_and_stay_uncalibrated(tmp_path: Path, capsys):
    """One is missing, two have one pose (as in a public file), one was calibrated upright."""
    names = ("a", "b", "c", "d", "e")
    files = videos(tmp_path, tuple(f"{name}.mp4" for name in names))
    cameras = known_cameras(("a", "b", "c", "d"))
    cameras[1] = KnownCamera(**{**vars(cameras[0]), "name": "b"})
    cameras[3] = KnownCamera(**{**vars(cameras[3]), "width": 480, "height": 640})
    prepare("rig", *files)
    with pytest.raises(ValueError, match="usable calibration of every camera") as error:
        prepare("calibrate", "--data", tmp_path, "--from", write_toml(tmp_path / "x.toml", cameras))
    for fault in (
        "a: it has the very pose of b",
        "b: it has the very pose of a",
        "d: 480x640 was calibrated, the recording is 64x48",
        "e: it is not in the calibration",
    ):
        assert fault in str(error.value)
    assert "1 of 5 cameras calibrated" in capsys.readouterr().out
    found = [camera.is_calibrated for camera in read_rig(tmp_path / RIG).cameras]
    assert found == [False, False, True, False, False]


def test_names_that_match_nothing(tmp_path: Path):
    files = videos(tmp_path, ("a.mp4", "b.mp4"))
    toml = write_toml(tmp_path / "x.toml", known_cameras(("left", "right")))
    prepare("rig", *files)
    before = (tmp_path / RIG).read_text()
    with pytest.raises(ValueError, match=r"\(left, right\), but the rig has a, b; .*--names"):
        prepare("calibrate", "--data", tmp_path, "--from", toml)
    assert (tmp_path / RIG).read_text() == before
    prepare("calibrate", "--data", tmp_path, "--from", toml, "--names", "a=right", "b=left")
    content = json.loads((tmp_path / RIG).read_text())
    assert content["cameras"][0]["K"][0][2] == pytest.approx(327.75 / 10)


def test_a_calibration_before_the_rig(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"rig\.json, but there is no such file"):
        prepare("calibrate", "--data", tmp_path, "--from", tmp_path)


def test_a_colmap_model_without_pycolmap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    prepare("rig", *videos(tmp_path, ("a.mp4",)))
    (tmp_path / "cameras.bin").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    with pytest.raises(ImportError, match="Reading a COLMAP model needs the package pycolmap"):
        prepare("calibrate", "--data", tmp_path, "--from", tmp_path)
