"""Where decoded frames and their masks are kept."""

import hashlib
import os
from pathlib import Path

FRAMES_FOLDER = "moegs_frames"
"""In a scene folder."""


def writable_folder(data: Path) -> Path:
    """A folder for what is decoded: in the scene folder `data`, or in the user's cache where that
    cannot be written.

    Raises:
        OSError: neither can be written.
    """
    beside = data / FRAMES_FOLDER
    try:
        beside.mkdir(parents=True, exist_ok=True)
        probe = beside / f"probe-{os.getpid()}.part"
        probe.touch()
        probe.unlink()
        return beside
    except OSError:
        root = cache_folder() / cache_name(data)
        root.mkdir(parents=True, exist_ok=True)
        return root


def cache_folder() -> Path:
    """Where the frames of scenes that cannot be written are."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "moegs_ns" / "frames"


def cache_name(data: Path) -> str:
    """The folder of a scene in there."""
    return hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:16]
