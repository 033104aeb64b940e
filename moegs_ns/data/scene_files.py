"""The files of a scene folder before any is opened, whichever parser will read them.

Pipes, sockets and devices would be waited for or read without end, and the decoders of videos crash
at names that are not text.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from moegs_ns.data.frames.images import IMAGE_SUFFIXES

READ = {*IMAGE_SUFFIXES, ".mp4", ".mov", ".json", ".npy", ".npz", ".ply", ".bin"}
"""Endings of what parsers read."""


def check_files(data: Path) -> None:
    """Raise unless everything that parsers may read in a scene folder is an ordinary file with a
    name in UTF-8; `data` may also be a file. Nothing is opened.

    Raises:
        ValueError: names the first file that is not.
    """
    check_name(data, "the data")
    for path, is_ordinary in files_in(data) if data.is_dir() else [(data, data.is_file())]:
        if path.suffix.lower() not in READ:
            continue
        check_name(path, "images and other data")
        # What does not exist, as the aim of a link, is told where it is missed.
        if not is_ordinary and path.exists() and not path.is_dir():
            raise ValueError(
                f"Expected ordinary files in a scene folder, but {path} is a pipe, a socket or a "
                "device; remove it."
            )


def check_name(path: Path, what: str) -> None:
    """Raise ValueError unless a path is text in UTF-8; `what` lies there."""
    name = os.fsencode(path)
    try:
        name.decode("utf8")
    except UnicodeDecodeError as error:
        shown = name.decode("utf8", errors="backslashreplace")
        raise ValueError(
            f"Expected a path of {what} that is text in UTF-8, but {shown} is not; rename it."
        ) from error


def resolved(path: Path | str, what: str) -> Path:
    """A path without links; `what` lies there.

    Raises:
        ValueError: links lead in a circle, or the path is no text.
    """
    try:
        found = Path(path).resolve()
    except (RuntimeError, OSError) as error:
        raise ValueError(
            f"Expected a path of {what}, but links lead in a circle at {path}; remove them."
        ) from error
    check_name(found, what)
    return found


def files_in(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Everything but folders below a folder, and whether it is an ordinary file; links to folders
    are followed, hidden folders are not entered."""
    pending, seen = [folder], set()
    while pending:
        current = pending.pop()
        real = os.path.realpath(current)
        if real in seen:
            continue
        seen.add(real)
        with os.scandir(current) as entries:
            for entry in entries:
                # The folder itself tells this, so that thousands of files need no look each.
                if not _is(entry.is_dir):
                    yield Path(entry.path), _is(entry.is_file)
                elif not entry.name.startswith("."):
                    pending.append(Path(entry.path))


def _is(kind: Callable[[], bool]) -> bool:
    """What an entry of a folder is; links in a circle are neither files nor folders."""
    try:
        return kind()
    except OSError:
        return False


def check_ordinary(path: Path, what: str, largest: int) -> None:
    """Raise ValueError if a file is a pipe or a device, or has more bytes than what it should hold
    can have."""
    if not path.is_file():
        raise ValueError(
            f"Expected {what}, but {path} is no ordinary file; name the one that was written."
        )
    if path.stat().st_size > largest:
        raise ValueError(
            f"Expected {what}, but {path} has {path.stat().st_size:,} bytes, which none has; name "
            "the one that was written."
        )
