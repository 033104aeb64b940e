"""Frame stores on disk: which there are, what they are of, and how they are removed.

Each choice of frames, size and background has files of its own, which stay when it is used no more.
"""

import fcntl
import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moegs_ns.data.frames.folders import FRAMES_FOLDER, cache_folder, cache_name
from moegs_ns.data.frames.store import FRAMES, INDEX, PART

DAY = 86400.0


@dataclass(frozen=True)
class StoredFrames:
    """The decoded frames of one scene with one choice of options: a folder for each camera."""

    name: str
    """Short, and stays the same; the files of other options have others."""
    scene: Path
    """The scene folder, or that of the files if nothing tells it."""
    frames: str
    """First and last frame of a recording, or how many images."""
    options: str
    """Size of the images and colour under transparent ones."""
    folders: tuple[Path, ...]
    num_bytes: int
    last_used: float
    """Seconds since 1970."""
    state: str
    """Why they can go: `stale` where the sources have changed since, `unfinished` where a build was
    interrupted; `scene gone` says that there is no such folder, perhaps for now. Else empty."""

    @property
    def can_go(self) -> bool:
        """Whether nothing would read them again as they are."""
        return self.state in ("stale", "unfinished")

    @property
    def unused_days(self) -> float:
        """Days since they were last used."""
        return (time.time() - self.last_used) / DAY


def find_stored(paths: Sequence[Path]) -> list[StoredFrames]:
    """What is stored of the scenes in `paths`, which may also be folders of frames; of all scenes
    in the user's cache folder if none are named.

    Raises:
        FileNotFoundError: one of the folders does not exist.
    """
    groups: dict[str, list[tuple[Path, dict[str, Any]]]] = {}
    for root in dict.fromkeys(_roots(paths)):
        for folder in sorted(root.iterdir()):
            if folder.is_dir() and _is_of_frames(folder):
                index = _read_index(folder)
                key = [str(root.resolve()), *_described(index)]
                name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:8]
                groups.setdefault(name, []).append((folder, index))
    return [_stored(name, group) for name, group in groups.items()]


def remove(stored: StoredFrames) -> bool:
    """Delete what is stored; False, and nothing is deleted, if a process reads or writes it.

    Raises:
        OSError: a file cannot be deleted.
    """
    with ExitStack() as held:
        for folder in stored.folders:
            for path in (*folder.glob(INDEX), *folder.glob(f"*{PART}")):
                # Also where nothing can be locked, so that nobody knows who reads it.
                try:
                    file = held.enter_context(path.open("rb"))
                    fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    return False
        for folder in stored.folders:
            # The index goes first, as it makes the others valid.
            for path in (folder / INDEX, folder / FRAMES, *folder.glob(f"*{PART}")):
                path.unlink(missing_ok=True)
            # What somebody else put there stays.
            with suppress(OSError):
                folder.rmdir()
    return True


def _roots(paths: Sequence[Path]) -> Iterator[Path]:
    """Folders whose folders hold the frames of a camera each."""
    if not paths:
        with suppress(OSError):
            yield from sorted(path for path in cache_folder().iterdir() if path.is_dir())
    for path in paths:
        if not path.is_dir():
            raise FileNotFoundError(
                f"Expected a scene folder or a folder of decoded frames, but there is no {path}."
            )
        for root in (path / FRAMES_FOLDER, cache_folder() / cache_name(path), path):
            if root.is_dir() and (root != path or any(map(_is_of_frames, _folders_in(path)))):
                yield root


def _folders_in(path: Path) -> Iterable[Path]:
    return (each for each in path.iterdir() if each.is_dir())


def _is_of_frames(folder: Path) -> bool:
    return (folder / FRAMES).is_file() or any(folder.glob(f"{FRAMES}*{PART}"))


def _read_index(folder: Path) -> dict[str, Any]:
    try:
        index = json.loads((folder / INDEX).read_text("utf8"))
        _, height, width, _ = index["shape"]
        return index | {"width": int(width), "height": int(height)}
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def _described(index: dict[str, Any]) -> tuple[str, str]:
    """Frames and options, in words."""
    if not index:
        return "unknown", "unknown"
    numbers = [frame for _, frame in index.get("sources", ()) if frame is not None]
    count = index["shape"][0]
    frames = f"{min(numbers)} to {max(numbers)}" if numbers else f"{count} images"
    if numbers and max(numbers) - min(numbers) + 1 != count:
        frames += f", {count} of them"
    color = index.get("background")
    under = "" if color is None else f", over {' '.join(f'{value:g}' for value in color)}"
    return frames, f"{index['width']}x{index['height']}{under}"


def _stored(name: str, group: list[tuple[Path, dict[str, Any]]]) -> StoredFrames:
    folders = tuple(folder for folder, _ in group)
    files = [file for folder in folders for file in folder.iterdir() if file.is_file()]
    indices = [folder / INDEX for folder, index in group if index]
    first, root = group[0][1], folders[0].parent
    scene = root.parent if root.name == FRAMES_FOLDER else Path(first.get("scene", root))
    frames, options = _described(first)
    states = {_state(index, scene) for _, index in group}
    order = ("unfinished", "stale", "scene gone", "")
    return StoredFrames(
        name,
        scene,
        frames,
        options,
        folders,
        num_bytes=sum(file.stat().st_size for file in files),
        last_used=max(path.stat().st_mtime for path in (indices or folders)),
        state=next(state for state in order if state in states),
    )


def _state(index: dict[str, Any], scene: Path) -> str:
    if not index:
        return "unfinished"
    if not scene.is_dir():
        return "scene gone"
    # Versions before this one did not write down what a file was made of.
    if "stamps" not in index:
        return ""
    source = scene / index["folder"]
    for name, stamp in index["stamps"].items():
        path = source if source.is_file() else source / name
        try:
            status = path.stat()
        except OSError:
            return "stale"
        if [status.st_size, status.st_mtime_ns] != list(stamp):
            return "stale"
    return ""
