"""Initial points: files that hold none, and points of another world or clip."""

import os
import zipfile
from pathlib import Path

import numpy as np

from inputs.case import Case, Change
from inputs.changes import DAMAGE, archive_with, at, content

PHOTOS = "ns-train moegs-stg --data photos n3v-data"
STARTS = "(training starts)"
FILE = "photos/points3D.npz"
NUMBERS = np.arange(200) % 4
HALF = np.where((np.arange(200) % 2 == 0)[:, None], np.nan, np.zeros((200, 3)))
POINTS = np.random.default_rng(0).uniform(-0.2, 0.2, (200, 3)) - (0, 0, 2)


class Malicious:
    """Leaves a mark where it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch MARK",)


def arrays(**values) -> Change:
    return at(FILE, archive_with(**values))


def inflating(path: Path) -> None:
    """A few kilobytes that stand for gigabytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        header = b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (90000000, 3), }"
        with archive.open("xyz.npy", "w", force_zip64=True) as entry:
            entry.write(header.ljust(127) + b"\n")
            for _ in range(200):
                entry.write(bytes(2**20))


def ply(text: str) -> Change:
    """Points as text beside, in the place of the archive."""

    def apply(folder: Path) -> None:
        (folder / FILE).unlink()
        (folder / "photos" / "points3D.ply").write_text(text)

    return apply


HEADER = "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\n"

CASES = [
    *(
        Case(f"{kind} points3D.npz", PHOTOS, STARTS if kind == "a missing" else "points3D.npz", 0 if kind == "a missing" else 1, at(FILE, DAMAGE[kind]), ("photos",))
        for kind in DAMAGE
    ),
    *(
        Case(f"points3D.npz: {name}", PHOTOS, says, status, change, ("photos",))
        for name, change, status, says in (
            ("no positions", arrays(xyz=None), 1, "they cannot be read"),
            ("no colours", arrays(rgb=None), 1, "they cannot be read"),
            ("no points", arrays(xyz=np.zeros((0, 3)), rgb=np.zeros((0, 3))), 1, "it holds none"),
            ("NaN throughout", arrays(xyz=np.full((200, 3), np.nan)), 1, "it holds none"),
            ("NaN in half of them", arrays(xyz=HALF), 1, "100 of 200 are NaN"),
            ("infinity throughout", arrays(xyz=np.full((200, 3), np.inf)), 1, "it holds none"),
            ("positions of two numbers", arrays(xyz=np.zeros((200, 2))), 1, "xyz [200, 2]"),
            ("fewer colours", arrays(rgb=np.zeros((199, 3))), 1, "rgb [199, 3]"),
            ("colours of one number", arrays(rgb=np.zeros(200)), 1, "rgb [200]"),
            ("complex positions", arrays(xyz=np.zeros((200, 3), complex)), 1, "complex128"),
            ("text as positions", arrays(xyz=np.zeros((200, 3)).astype(str)), 1, "<U"),
            ("objects as positions", arrays(xyz=np.array([[Malicious()] * 3] * 2, object)), 1, "they cannot be read"),
            ("NaN as colours", arrays(rgb=np.full((200, 3), np.nan)), 1, ""),
            ("colours of 300", arrays(rgb=np.full((200, 3), 300.0)), 1, ""),
            ("negative colours", arrays(rgb=np.full((200, 3), -5.0)), 1, ""),
            ("frames before the clip", arrays(frame=NUMBERS - 1), 1, "belong to -1 to 2"),
            ("frames behind the clip", arrays(frame=NUMBERS + 300), 1, "belong to 300 to 303"),
            ("half frames", arrays(frame=NUMBERS + 0.5), 1, "not whole"),
            ("fewer frames than points", arrays(frame=NUMBERS[:9]), 1, "frame [9]"),
            ("text as frames", arrays(frame=NUMBERS.astype(str)), 1, ""),
            ("cameras of text", arrays(cameras=np.array(["a"])), 1, ""),
            ("an origin of objects", arrays(origin=np.array([Malicious()], object)), 1, ""),
            ("points out of view", arrays(xyz=POINTS + 1000.0), 0, "0 % of the initial points are in view"),
            ("positions of 1e300", arrays(xyz=np.full((200, 3), 1e300)), 1, ""),
            ("all points at one place", arrays(xyz=np.zeros((200, 3)) - (0, 0, 2)), 0, STARTS),
            ("one point", arrays(xyz=POINTS[:1], rgb=np.full((1, 3), 99)), 0, STARTS),
            ("an archive that inflates without end", at(FILE, inflating), 1, "inflates to"),
            ("an archive of something else", at(FILE, lambda p: zipfile.ZipFile(p, "w").writestr("a.txt", "x")), 1, "they cannot be read"),
        )
    ),
    *(
        Case(f"points3D.ply: {name}", PHOTOS, says, 1, ply(text), ("photos",))
        for name, text, says in (
            ("empty", "", "points3D.ply"),
            ("no PLY", "hello\n", "points3D.ply"),
            ("no header's end", HEADER, "points3D.ply"),
            ("no points", HEADER.replace("vertex 1", "vertex 0") + "end_header\n", "points3D.ply"),
            ("fewer points than it says", HEADER.replace("vertex 1", "vertex 9") + "end_header\n0 0 0\n", "points3D.ply"),
            ("more points than memory", HEADER.replace("vertex 1", "vertex 99999999999999") + "end_header\n0 0 0\n", "points3D.ply"),
            ("words as positions", HEADER + "end_header\na b c\n", "points3D.ply"),
            ("only x and y", HEADER.replace("property float z\n", "") + "end_header\n0 0\n", "points3D.ply"),
        )
    ),
    Case("points that are not there", f"{PHOTOS} --points-file gone.npz", "gone.npz", 1, needs=("photos",)),
    Case("points in a text file", f"{PHOTOS} --points-file p.txt", "p.txt", 1, lambda f: (f / "photos" / "p.txt").write_text("1 2 3"), ("photos",)),
    Case("points as a folder", f"{PHOTOS} --points-file p.npz", "p.npz", 1, at("photos/p.npz", DAMAGE["a folder as"]), ("photos",)),
    Case("points as a pipe", f"{PHOTOS} --points-file p.npz", "p.npz", 1, at("photos/p.npz", DAMAGE["a pipe as"]), ("photos",)),
    Case("points as a device", f"{PHOTOS} --points-file /dev/zero", "/dev/zero", 1, needs=("photos",)),
    Case("points of COLMAP that are cut", f"{PHOTOS} --points-file p.bin", "p.bin", 1, at("photos/p.bin", content(b"\x09" + bytes(7))), ("photos",)),
    Case("points of COLMAP with a list without end", f"{PHOTOS} --points-file p.bin", "p.bin", 1, at("photos/p.bin", content(b"\x01" + bytes(50) + b"\x00\x00\x00\x80" + bytes(4))), ("photos",)),
    Case("points of COLMAP without end", f"{PHOTOS} --points-file p.bin", "p.bin", 1, at("photos/p.bin", content(b"\xff" * 8)), ("photos",)),
]  # fmt: skip
