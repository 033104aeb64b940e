"""NeuralBody's annots.npy is a pickle: it is read, and nothing in it is executed."""

import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from zju_scenes import annotations, write_annotations, zju_cameras

from moegs_ns.data.calibrations.formats import read_calibration_file
from moegs_ns.data.calibrations.neuralbody import read_annotations
from moegs_ns.data.pickled_arrays import read_pickled_array

POINTS = np.random.default_rng(0).uniform(-0.5, 0.5, (9, 3)) + np.array([0.3, -0.2, 0.5])


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function: Callable, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_cameras_see_known_points_where_they_did(tmp_path: Path, protocol: int):
    """In every protocol in which numpy.save has written objects."""
    cameras = zju_cameras(3)
    write_annotations(tmp_path / "annots.npy", annotations(cameras, 2), protocol)
    rig, name = read_calibration_file(tmp_path / "annots.npy")
    assert (name, rig.unit) == ("NeuralBody (annots.npy)", "m")
    assert [camera.name for camera in rig.cameras] == ["Camera_B1", "Camera_B2", "Camera_B3"]
    for found, camera in zip(rig.cameras, cameras, strict=True):
        assert found.lens is not None and found.world_to_camera is not None
        pose = found.world_to_camera
        pixels = found.lens.project(POINTS @ pose[:, :3].T + pose[:, 3])
        np.testing.assert_allclose(pixels, camera.pixels(POINTS), atol=1e-6)
    images = read_annotations(tmp_path / "annots.npy").images
    assert [str(path) for path in images[1]] == [f"Camera_B{n}/000001.jpg" for n in (1, 2, 3)]


def test_numbers_in_all_their_forms(tmp_path: Path):
    """Lists, arrays by columns, in single precision or big endian, and scalars of numpy."""
    content = annotations(zju_cameras(2), 1)
    cams = content["cams"]
    cams["K"] = [np.asfortranarray(cams["K"][0]), cams["K"][1].tolist()]
    cams["R"] = np.array(cams["R"]).astype(">f8")
    cams["T"] = [[[value] for value in each[:, 0]] for each in cams["T"]]
    content["ims"][0]["ims"] = np.array(content["ims"][0]["ims"])
    write_annotations(tmp_path / "annots.npy", content)
    other = tmp_path / "other.npy"
    write_annotations(other, annotations(zju_cameras(2), 1))
    found, expected = read_annotations(tmp_path / "annots.npy"), read_annotations(other)
    assert found.images == expected.images
    for one, two in zip(found.rig.cameras, expected.rig.cameras, strict=True):
        assert one.lens == two.lens
        assert one.world_to_camera is not None and two.world_to_camera is not None
        np.testing.assert_array_equal(one.world_to_camera, two.world_to_camera)


def test_files_of_numpy_2(tmp_path: Path):
    """It calls its core by another name."""
    path = tmp_path / "annots.npy"
    write_annotations(path, annotations(zju_cameras(2), 1), 2)
    content = path.read_bytes()
    assert b"numpy.core.multiarray\n" in content
    path.write_bytes(content.replace(b"numpy.core.multiarray\n", b"numpy._core.multiarray\n"))
    assert len(read_annotations(path).rig.cameras) == 2


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (os.system, ("touch MARK",)),
        (eval, ("open('MARK', 'w')",)),
        (exec, ("open('MARK', 'w')",)),
        (Path.touch, (Path("MARK"),)),
        (np.save, ("MARK.npy", 1)),
        (np.load, ("MARK", None, True)),
        (getattr, (np.ndarray, "tofile")),
        (np.ndarray, ((10**12,),)),
    ],
)
def test_nothing_is_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int, function: Callable, arguments
):
    monkeypatch.chdir(tmp_path)
    content = annotations(zju_cameras(2), 1)
    content["cams"]["K"] = Call(function, *arguments)
    write_annotations(tmp_path / "annots.npy", content, protocol)
    with pytest.raises(ValueError, match=r"cams and ims in .*annots\.npy, but it cannot be read"):
        read_annotations(tmp_path / "annots.npy")
    assert [path.name for path in tmp_path.iterdir()] == ["annots.npy"]


def test_what_is_refused_is_named(tmp_path: Path):
    write_annotations(tmp_path / "annots.npy", Call(os.system, "touch MARK"))
    with pytest.raises(ValueError, match=r"it names \w+\.system, which is no part of an array"):
        read_pickled_array(tmp_path / "annots.npy")


OBJECTS = b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (), }"
HEADER = OBJECTS + b" " * (127 - len(OBJECTS)) + b"\n"
MULTIARRAY, CODECS = b"cnumpy.core.multiarray\n", b"\x80\x02c_codecs\n"


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (b"\x80\x04]r" + struct.pack("<I", 2**31) + b".", "the place 2147483648 in memory"),
        (b"\x80\x05\x96" + struct.pack("<Q", 2**62) + b".", "BYTEARRAY8|expected"),
        (b"\x80\x02" + MULTIARRAY + b"_reconstruct\n}b.", "it changes what it names"),
        (b"\x80\x02" + MULTIARRAY + b"_reconstruct\nN}\x86b.", "it changes what it names"),
        (b"\x80\x02cnumpy\nndarray\n)R.", "an array made without its numbers"),
        (b"\x80\x02cnumpy\ndtype\nX\x03\x00\x00\x00V99\x85R.", "an array of the type 'V99'"),
        (CODECS + b"encode\nX\x00\x00\x00\x00X\x03\x00\x00\x00hex\x86R.", "the encoding 'hex'"),
        (b"\x80\x02]\x85" * 3 + b".", "."),
        (b"\x80\x02}.", "no array of objects"),
        (b"", "."),
    ],
)  # fmt: skip
def test_steps_that_no_array_needs(tmp_path: Path, steps: bytes, message: str):
    """Memory that a few bytes ask for, and changes of what all files share."""
    assert len(HEADER) == 128
    (tmp_path / "annots.npy").write_bytes(HEADER + steps)
    with pytest.raises(ValueError, match=message):
        read_pickled_array(tmp_path / "annots.npy")
    write_annotations(tmp_path / "annots.npy", annotations(zju_cameras(2), 1))
    assert len(read_annotations(tmp_path / "annots.npy").rig.cameras) == 2


def circle() -> list:
    values: list = []
    values.append(values)
    return values


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("cams"), "it lacks 'cams'"),
        (lambda c: c.pop("ims"), "it lacks 'ims'"),
        (lambda c: c["cams"].pop("D"), "it lacks 'D'"),
        (lambda c: c["cams"]["T"].pop(), r"K, D, R and T of \[1, 2\] cameras"),
        (lambda c: [each.clear() for each in c["cams"].values()], r"T of \[0\] cameras"),
        (lambda c: c["cams"].update(K=[np.eye(2)] * 2), "cannot reshape"),
        (lambda c: c["cams"].update(K=[np.zeros((3, 3))] * 2), "focal|intrinsics"),
        (lambda c: c["cams"].update(K=[np.full((3, 3), np.nan)] * 2), "NaN or infinity"),
        (lambda c: c["cams"].update(K=["one", "two"]), "could not convert string"),
        (lambda c: c["cams"].update(T=[np.zeros((99, 99))] * 2), "too many numbers"),
        (lambda c: c["cams"].update(K=[circle()] * 2), "a list that is no matrix"),
        (lambda c: c["cams"].update(K=7), "int instead of a list"),
        (lambda c: c["ims"].clear(), "no frames"),
        (lambda c: c["ims"][0]["ims"].pop(), "1 images of 2 cameras in one frame"),
        (lambda c: c["ims"][0].update(ims=["/etc/a.jpg", "b.jpg"]), "outside of the capture"),
        (lambda c: c["ims"][0].update(ims=["a.jpg", "../b.jpg"]), "outside of the capture"),
    ],
)
def test_mistakes_of_the_content(tmp_path: Path, change: Callable[[dict], Any], message: str):
    content = annotations(zju_cameras(2), 1)
    change(content)
    write_annotations(tmp_path / "annots.npy", content)
    with pytest.raises(ValueError, match=message):
        read_annotations(tmp_path / "annots.npy")


def test_damaged_files(tmp_path: Path):
    """Every beginning of a file ends in a sentence, and so does every changed byte."""
    path = tmp_path / "annots.npy"
    write_annotations(path, annotations(zju_cameras(1), 1))
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="cannot be read"):
            read_annotations(path)
    random = np.random.default_rng(0)
    for place in random.integers(len(whole), size=300):
        damaged = bytearray(whole)
        damaged[place] = random.integers(256)
        path.write_bytes(damaged)
        try:
            read_annotations(path)
        except ValueError as error:
            assert str(error).startswith("Expected ")
    np.save(path, np.zeros(3))
    with pytest.raises(ValueError, match="it holds numbers alone"):
        read_annotations(path)
    path.write_bytes(pickle.dumps({"cams": {}}))
    with pytest.raises(ValueError, match="cannot be read"):
        read_annotations(path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_annotations(path)
