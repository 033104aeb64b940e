"""Files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_write(path: Path, what: str, remedy: str) -> Iterator[BinaryIO]:
    """A file to write, under a temporary name that becomes `path` at the end.

    Raises:
        OSError: it cannot be written; says `what` that is, and what to do.
    """
    part = path.with_name(f".writing-{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                yield file
            os.replace(part, path)
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
