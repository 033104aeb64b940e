"""What may have happened to a file, as functions of the folder in which a command is typed."""

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from inputs.case import Change

PathChange = Callable[[Path], object]


def at(name: str, change: PathChange) -> Change:
    """The change of one file, or of all that match a pattern."""

    def apply(folder: Path) -> None:
        found = sorted(folder.glob(name)) if "*" in name else [folder / name]
        assert found, name
        for path in found:
            change(path)

    return apply


def several(*changes: Change) -> Change:
    """One after the other."""

    def apply(folder: Path) -> None:
        for change in changes:
            change(folder)

    return apply


# ---- whole files ----


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def text(path: Path) -> None:
    path.write_text("This is no data.\n")


def folder_instead(path: Path) -> None:
    remove(path)
    path.mkdir(parents=True)


def pipe(path: Path) -> None:
    remove(path)
    os.mkfifo(path)


def device(path: Path) -> None:
    remove(path)
    path.symlink_to("/dev/zero")


def dangling_link(path: Path) -> None:
    remove(path)
    path.symlink_to("gone")


def link_in_a_circle(path: Path) -> None:
    remove(path)
    path.symlink_to(path.name)


def content(value: bytes | str) -> PathChange:
    """Replace all of it."""
    return lambda path: path.write_bytes(value.encode() if isinstance(value, str) else value)


def renamed(name: str) -> PathChange:
    return lambda path: path.rename(path.with_name(name))


def copied_to(name: str) -> PathChange:
    """A copy beside it; {} stands for the name without ending."""
    return lambda path: shutil.copy(path, path.with_name(name.format(path.stem)))


DAMAGE: dict[str, PathChange] = {
    "a missing": remove,
    "an empty": empty,
    "a truncated": cut,
    "text as": text,
    "a folder as": folder_instead,
    "a pipe as": pipe,
    "a device as": device,
    "a dangling link as": dangling_link,
    "a link in a circle as": link_in_a_circle,
}
"""What any file may be."""


# ---- their content ----


def json_with(change: Callable[[Any], Any]) -> PathChange:
    """Change what a JSON file holds; a result that is not None replaces it."""

    def apply(path: Path) -> None:
        value = json.loads(path.read_text())
        other = change(value)
        path.write_text(json.dumps(value if other is None else other))

    return apply


def array_with(change: Callable[[np.ndarray], Any]) -> PathChange:
    """Change an array; a result that is not None replaces it."""

    def apply(path: Path) -> None:
        value = np.load(path)
        other = change(value)
        np.save(path, value if other is None else other, allow_pickle=True)

    return apply


def put(index: Any, value: Any) -> Callable[[np.ndarray], None]:
    """Set entries of an array."""

    def apply(array: np.ndarray) -> None:
        array[index] = value

    return apply


def archive_with(**arrays: Any) -> PathChange:
    """Replace, add or (None) remove arrays of an .npz."""

    def apply(path: Path) -> None:
        own = dict(np.load(path)) | arrays
        np.savez(path, **{name: value for name, value in own.items() if value is not None})

    return apply


def saved(array: Any) -> bytes:
    """An .npy file as bytes."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()
