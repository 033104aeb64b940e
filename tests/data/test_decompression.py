"""Files that would grow without end, or are none: refused in little time and memory."""

import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from moegs_ns.data.frames.images import read_image_size
from moegs_ns.data.points.files import load_points


def chunk(kind: bytes, content: bytes) -> bytes:
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def huge_png(path: Path) -> None:
    """A hundred bytes that claim to be four gigapixels."""
    header = struct.pack(">IIBBBBB", 65_535, 65_535, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(100))
    signature = b"\x89PNG\r\n\x1a\n"
    path.write_bytes(
        signature + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


IMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "huge": (huge_png, "exceeds limit"),
    "a pipe": (os.mkfifo, "no ordinary file"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "no ordinary file"),
    "a folder": (Path.mkdir, "no ordinary file"),
    "text": (lambda path: path.write_text("no"), "cannot identify"),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_images_that_are_none(kind: str, tmp_path: Path):
    make, reason = IMAGES[kind]
    path = tmp_path / "0.png"
    make(path)
    with pytest.raises(ValueError, match=f"^Expected an image at {path}, but .*{reason}"):
        read_image_size(path)
    assert Image.MAX_IMAGE_PIXELS is not None


def points(path: Path, count: int = 500) -> None:
    random = np.random.default_rng(0)
    xyz, rgb = random.normal(size=(count, 3)), np.full((count, 3), 128, np.uint8)
    np.savez_compressed(path, xyz=xyz, rgb=rgb)


def inflating(path: Path) -> None:
    """A file of a hundred kilobytes that is a hundred megabytes of zeros."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("xyz.npy", "rgb.npy"):
            archive.writestr(name, bytes(5 * 10**7))


def flipped(path: Path) -> None:
    np.savez(path, xyz=np.ones((500, 3)), rgb=np.ones((500, 3), np.uint8))
    content = bytearray(path.read_bytes())
    content[3000] ^= 64
    path.write_bytes(content)


def claiming(path: Path) -> None:
    """An array of a petabyte by its header, and of nothing by its content."""
    header = np.lib.format.magic(1, 0)
    text = b"{'descr': '<f8', 'fortran_order': False, 'shape': (100000000000000, 3), }\n"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("xyz.npy", "rgb.npy"):
            archive.writestr(name, header + struct.pack("<H", len(text)) + text)


@pytest.mark.parametrize("make", [inflating, flipped, claiming], ids=lambda make: make.__name__)
def test_points_that_are_none(make: Callable[[Path], None], tmp_path: Path):
    path = tmp_path / "points3D.npz"
    make(path)
    with pytest.raises(ValueError, match=f"^Expected points in {path} .*they cannot be read"):
        load_points(path)


def test_points_in_a_compressed_file_are_read(tmp_path: Path):
    points(tmp_path / "points3D.npz")
    assert len(load_points(tmp_path / "points3D.npz").xyz) == 500
