"""Files that appear whole or not at all, also if the machine loses power.

What is written gets a temporary name first, and reaches the disk before it takes the place of
anything. A process locks what it writes, so that the next one tells what a killed one left behind.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

PREFIX = ".writing-"
"""What temporary names begin with."""


@contextmanager
def atomic_write(path: Path, what: str, remedy: str) -> Iterator[BinaryIO]:
    """A file to write, under a temporary name that becomes `path` at the end.

    Raises:
        OSError: it cannot be written; says `what` that is, and what to do.
    """
    part = path.with_name(f"{PREFIX}{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(path.parent)
        try:
            with opened_and_held(part) as file:
                yield file
                file.flush()
                replace_synced(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(
            f"The {what} cannot be written to {path} ({error.strerror or error}); make room, or "
            f"{remedy}."
        ) from error


def atomic_write_text(path: Path, text: str, what: str, remedy: str) -> None:
    """Write a text at once; see `atomic_write`."""
    with atomic_write(path, what, remedy) as file:
        file.write(text.encode("utf8"))


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A folder in `parent` to write in, which is deleted at the end; for `replace_synced`."""
    parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(parent)
    while True:
        temporary = Path(tempfile.mkdtemp(dir=parent, prefix=PREFIX))
        with suppress(FileNotFoundError):
            descriptor = os.open(temporary, os.O_RDONLY)
            if hold(descriptor, temporary):
                break
            os.close(descriptor)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(descriptor)


def opened_and_held(path: Path) -> BinaryIO:
    """A new file to write, which nobody takes for abandoned until it is closed."""
    while True:
        file = path.open("wb")
        if hold(file.fileno(), path):
            return file
        file.close()


def replace_synced(source: Path, target: Path) -> None:
    """Put a file or folder in the place of another, once all of it has reached the disk; returns
    when the new name has, too."""
    for path in (*source.rglob("*"), source) if source.is_dir() else (source,):
        synced(path)
    os.replace(source, target)
    synced(target.parent)


def synced(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        # Some network file systems cannot sync folders.
        if not path.is_dir():
            raise
    finally:
        os.close(descriptor)


# ---- what killed processes leave ----


def hold(descriptor: int, path: Path) -> bool:
    """Lock what this process has just made, as far as the file system can, until it is closed.

    Returns:
        Whether it is still there: before it was locked, somebody may have taken it for abandoned.
    """
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def remove_abandoned(folder: Path, pattern: str = f"{PREFIX}*") -> None:
    """Delete temporary files and folders that no process holds any more."""
    for path in folder.glob(pattern):
        # Another process may have just finished it, or its owner is somebody else.
        with suppress(OSError):
            _remove_unless_held(path)


def _remove_unless_held(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        # Fails where it is held, and where nothing can be locked, so that nobody knows.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    finally:
        os.close(descriptor)
