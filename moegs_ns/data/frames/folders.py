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
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        digest = hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:16]
        root = cache / "moegs_ns" / "frames" / digest
        root.mkdir(parents=True, exist_ok=True)
        return root
