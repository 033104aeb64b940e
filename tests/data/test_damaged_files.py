"""Files of numpy and COLMAP with changed bytes: right, or one sentence, and no more memory."""

import resource
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from colmap_files import write_model
from layouts import known_camera

from moegs_ns.data.calibrations.llff import read_llff
from moegs_ns.data.damaged_files import IMAGES, POINTS
from moegs_ns.data.dataparsers.colmap_models import read_cameras
from moegs_ns.data.dataparsers.n3v import read_poses_bounds
from moegs_ns.data.points.colmap_poses import read_colmap_model
from moegs_ns.data.points.files import load_points

CAMERAS = {f"cam{number}": known_camera(number) for number in range(3)}
ENDLESS = struct.pack("<Q", 2**31)
"""A length whose list would fill 4 GB of a Python text, before any of it is read."""


def write_points(path: Path) -> None:
    xyz = np.random.default_rng(0).normal(size=(5, 3))
    if path.suffix == ".npy":
        np.save(path, xyz)
    else:
        np.savez_compressed(path, xyz=xyz, rgb=np.zeros((5, 3), np.uint8), frame=np.arange(5))


def write_poses(path: Path) -> None:
    rows = np.zeros((3, 17))
    for number, row in enumerate(rows):
        pose = np.eye(3, 5)
        pose[:, 3], pose[:, 4] = number, (36, 48, 50)
        row[:] = [*pose.reshape(-1), 0.5, 5.0]
    np.save(path, rows)


def write_images(path: Path) -> None:
    write_model(path.parent, CAMERAS)


@pytest.mark.parametrize(
    ("name", "write", "read"),
    [
        ("points.npy", write_points, load_points),
        ("points.npz", write_points, load_points),
        ("poses_bounds.npy", write_poses, lambda path: read_poses_bounds(path, ["a", "b", "c"])),
        ("poses_bounds.npy", write_poses, read_llff),
        ("points3D.bin", write_images, load_points),
        ("images.bin", write_images, lambda path: read_cameras(path.parent)),
    ],
)
def test_any_byte_may_change(
    tmp_path: Path, name: str, write: Callable[[Path], None], read: Callable[[Path], object]
):
    path = tmp_path / name
    write(path)
    whole, random = path.read_bytes(), np.random.default_rng(0)
    ended = []
    for place in range(min(len(whole), 400)):
        damaged = bytearray(whole)
        damaged[place] = random.integers(256)
        path.write_bytes(damaged[: place + 1] if place % 10 == 0 else damaged)
        try:
            read(path)
            ended.append("read")
        except ValueError as error:
            assert str(path.parent) in str(error)
            ended.append("refused")
    assert {"read", "refused"} <= set(ended)
    path.write_bytes(whole)
    read(path)


@pytest.mark.parametrize(
    ("name", "place", "read"),
    [
        ("points3D.bin", 8 + 43, load_points),
        ("images.bin", None, lambda path: read_cameras(path.parent)),
    ],
)
def test_a_list_that_is_longer_than_its_file_takes_no_memory(
    tmp_path: Path, name: str, place: int | None, read: Callable[[Path], object]
):
    write_images(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    place = whole.index(b"\x00", 8 + 64) + 1 if place is None else place
    (tmp_path / name).write_bytes(whole[:place] + ENDLESS + whole[place + 8 :])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="ends within a list of 2,147,483,648 entries"):
        read(tmp_path / name)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


def test_frames_without_end_take_no_time(tmp_path: Path):
    """COLMAP's reader goes through all of them, after the file's end as before."""
    write_model(tmp_path, CAMERAS)
    frames = struct.pack("<Q", 1) + bytes(64) + struct.pack("<I", 2**32 - 1)
    (tmp_path / "frames.bin").write_bytes(frames)
    with pytest.raises(ValueError, match="it ends within a list of 4,294,967,295"):
        read_colmap_model(tmp_path)


def test_a_model_that_names_what_it_lacks(tmp_path: Path):
    """An image of a camera that is not there; COLMAP's own words are those of C++."""
    pytest.importorskip("pycolmap")
    write_model(tmp_path, CAMERAS)
    images = bytearray((tmp_path / "images.bin").read_bytes())
    images[8 + 60 : 8 + 64] = struct.pack("<i", 77)
    (tmp_path / "images.bin").write_bytes(images)
    with pytest.raises(ValueError, match=r"Expected a COLMAP model .* cannot be read"):
        read_colmap_model(tmp_path)


def test_whole_lists_are_right(tmp_path: Path):
    """Two records with lists of two entries and of one."""
    points = struct.pack("<Q", 2)
    images = struct.pack("<Q", 2)
    for length in (2, 1):
        points += bytes(43) + struct.pack("<Q", length) + bytes(8 * length)
        images += bytes(64) + b"name\0" + struct.pack("<Q", length) + bytes(24 * length)
    for lists, content in ((POINTS, points), (IMAGES, images)):
        (tmp_path / "file.bin").write_bytes(content)
        lists.check(tmp_path / "file.bin")
        (tmp_path / "file.bin").write_bytes(content[:-1])
        with pytest.raises(ValueError, match="within a list of 1 entries"):
            lists.check(tmp_path / "file.bin")
        (tmp_path / "file.bin").write_bytes(content[:40])
        with pytest.raises(ValueError, match="ends too early"):
            lists.check(tmp_path / "file.bin")
