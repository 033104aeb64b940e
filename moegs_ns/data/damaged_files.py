"""What damaged files of numpy and COLMAP would do to those who read them."""

import mmap
import pickle
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# The headers of numpy's files are expressions of Python, and archives name ways of compression.
_DAMAGE = (
    AttributeError, EOFError, LookupError, MemoryError, OverflowError, RuntimeError, SyntaxError,
    TypeError, pickle.UnpicklingError, struct.error, tokenize.TokenError, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip


@contextmanager
def damage_as_value_error() -> Iterator[None]:
    """Turn what numpy and readers of COLMAP's files raise for a damaged file into a
    ValueError; OSErrors stay as they are."""
    try:
        yield
    except _DAMAGE as error:
        raise ValueError(f"it is damaged: {error or type(error).__name__}") from error


@dataclass(frozen=True)
class ColmapLists:
    """Records of a binary file of COLMAP (its src/colmap/scene/reconstruction_io.cc), each of
    which ends in a list."""

    record_bytes: int
    """Of a record in front of its name and list."""
    entry_bytes: int
    """Of an entry of the list."""
    has_name: bool = False
    """Whether a text that ends in 0 comes before the list."""
    length: str = "<Q"
    """How the length of the list is written, as in the module struct."""

    def check(self, path: Path) -> None:
        """Raise ValueError if lists are said to be longer than the file: readers make room for them
        first, which may be all the memory that there is, or go through them for hours."""
        size = struct.calcsize(self.length)
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held:
            place, (count,) = 8, struct.unpack_from("<Q", held)
            for _ in range(count):
                place += self.record_bytes
                if self.has_name and place < len(held):
                    place = held.find(b"\0", place) + 1
                if not 0 < place <= len(held) - size:
                    raise ValueError("it is damaged: it ends too early")
                (length,) = struct.unpack_from(self.length, held, place)
                place += size + self.entry_bytes * length
                if place > len(held):
                    raise ValueError(f"it is damaged: it ends within a list of {length:,} entries")


POINTS = ColmapLists(record_bytes=43, entry_bytes=8)
"""Of points3D.bin: the images that show each point."""
IMAGES = ColmapLists(record_bytes=64, entry_bytes=24, has_name=True)
"""Of images.bin: the features of each image."""
FRAMES = ColmapLists(record_bytes=64, entry_bytes=16, length="<I")
"""Of frames.bin: the images that a rig took at once."""
COLMAP_LISTS = {"points3D.bin": POINTS, "images.bin": IMAGES, "frames.bin": FRAMES}
