"""Files of a scene that are none, and names that are not text, are refused before they are read."""

import os
import socket
import time
from pathlib import Path

import pytest
from data_helpers import image_scene
from nerfstudio.data.dataparsers.dnerf_dataparser import DNeRFDataParserConfig

from moegs_ns.data.datamanager import MoegsDataManagerConfig
from moegs_ns.data.dataparsers.n3v import N3VDataParserConfig
from moegs_ns.data.scene_files import check_files, check_name
from moegs_ns.launch.plan import decoded_megabytes

NOT_TEXT = os.fsdecode(b"sc\xff")


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        # Its address may not be long.
        before = Path.cwd()
        os.chdir(path.parent)
        server.bind(path.name)
        os.chdir(before)


def link_to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [make_pipe, make_socket, link_to_device])
@pytest.mark.parametrize("name", ["cam01/images/0002.png", "poses_bounds.npy", "points3D.npz"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, name: str, make):
    scene = image_scene(tmp_path)
    (scene / name).unlink(missing_ok=True)
    make(scene / name)
    started = time.monotonic()
    with pytest.raises(ValueError, match=rf"but .*{name} is a pipe, a socket or a device; remove"):
        N3VDataParserConfig(data=scene).setup().get_dataparser_outputs("train")
    assert time.monotonic() - started < 5


def test_also_for_parsers_of_nerfstudio(tmp_path: Path):
    """They read the first image themselves, and would wait for a pipe."""
    (tmp_path / "train").mkdir()
    make_pipe(tmp_path / "train" / "r_0.png")
    parser = DNeRFDataParserConfig(data=tmp_path)
    with pytest.raises(ValueError, match=r"r_0\.png is a pipe"):
        MoegsDataManagerConfig(dataparser=parser).setup(device="cpu")
    with pytest.raises(ValueError, match=r"r_0\.png is a pipe"):
        decoded_megabytes(parser, tmp_path)


def test_what_no_parser_reads_may_be_anything(tmp_path: Path):
    scene = image_scene(tmp_path)
    make_pipe(scene / "log")
    (scene / ".hidden").mkdir()
    make_pipe(scene / ".hidden" / "0.png")
    (scene / "gone.png").symlink_to(scene / "nothing")
    (scene / "round").symlink_to(scene)
    (scene / "mount.bin").mkdir()
    check_files(scene)


@pytest.mark.parametrize("where", ["scene", "camera", "image"])
def test_names_that_are_not_text_end_no_process(tmp_path: Path, where: str):
    """A decoder of videos crashed at them."""
    scene = image_scene(tmp_path / "scene")
    camera = scene / "cam01"
    if where == "scene":
        scene = scene.rename(tmp_path / NOT_TEXT)
    elif where == "camera":
        camera.rename(scene / f"cam01{NOT_TEXT}")
    else:
        (camera / "images" / "0002.png").rename(camera / "images" / f"{NOT_TEXT}0002.png")
    with pytest.raises(ValueError, match=r"but .*sc\\xff.* is not; rename it") as said:
        N3VDataParserConfig(data=scene).setup().get_dataparser_outputs("train")
    assert str(said.value).isprintable()


def test_other_alphabets_are_text(tmp_path: Path):
    scene = image_scene(tmp_path / "сцена 场景")
    check_files(scene)
    assert len(N3VDataParserConfig(data=scene).setup().get_dataparser_outputs("train").cameras) > 0
    with pytest.raises(ValueError, match="Expected a path of --output-dir that is text"):
        check_name(tmp_path / NOT_TEXT, "--output-dir")
