"""Where compiled kernels are kept: beside the package, in the user's cache, or else in a folder of
the user's own among temporary files, as in a read-only installation without a writable home."""

import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

FOLDER = "moegs-kernels"
"""Name of the folder among temporary files, with the number of the user after it."""


def find_kernel_cache(kernel: Callable[..., Any]) -> None:
    """Let Numba keep the code of `kernel`, and so that of all others in its file.

    `NUMBA_CACHE_DIR` in the environment names a folder; without it Numba tries the first two.
    """
    try:
        numba.njit(cache=True)(kernel)
    except RuntimeError:  # Numba's word for "no folder can be written".
        numba.config.CACHE_DIR = str(own_temporary_folder())  # type: ignore[attr-defined]


def own_temporary_folder() -> Path:
    """A folder that nobody else can write into, since what lies there is executed; the same in the
    next process, unless somebody else has made it."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"{FOLDER}-{user}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return Path(tempfile.mkdtemp(prefix=FOLDER))
    is_private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
    is_ours = not hasattr(os, "getuid") or found.st_uid == user
    return folder if is_private and is_ours else Path(tempfile.mkdtemp(prefix=FOLDER))
