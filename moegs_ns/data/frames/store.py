"""Frame store: images decoded once into memory-mapped files, one per video or image folder.

The files live in `<data>/moegs_frames/`, or in the user's cache folder where the data cannot be
written. A file is only trusted through its index, which is written last; both get their names by
renaming, so an interrupted build leaves nothing half-done and goes on with the next camera.
"""

import hashlib
import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8
from nerfstudio.utils.rich_utils import CONSOLE
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor

from moegs_ns.data.frames.groups import FrameGroup, decode_group
from moegs_ns.data.frames.sources import FrameSource

_FRAMES, _INDEX, _PART = "frames.npy", "index.json", ".part"
_ABANDONED_SECONDS = 3600.0


@dataclass(frozen=True)
class FrameStoreSpec:
    """Which images a store holds, and in what form."""

    sources: tuple[FrameSource, ...]
    sizes: tuple[tuple[int, int], ...]
    """Width and height of each image in the store."""
    background: tuple[float, float, float] | None
    """Colour under transparent pixels; None drops the transparency."""

    def groups(self) -> list[FrameGroup]:
        """Images that are decoded together, with their places in the store."""
        members: dict[Path, list[int]] = {}
        for place, source in enumerate(self.sources):
            members.setdefault(source.group, []).append(place)
        groups = []
        for path, places in members.items():
            sizes = {self.sizes[place] for place in places}
            if len(sizes) != 1:
                raise ValueError(
                    f"Expected images of one size in {path}, but its cameras ask for "
                    f"{sorted(sizes)}; put images of different size into different folders."
                )
            ordered = sorted(places, key=lambda place: self.sources[place].frame or 0)
            sources = tuple(self.sources[place] for place in ordered)
            groups.append(
                FrameGroup(path, sources, tuple(ordered), *sizes.pop(), background=self.background)
            )
        return groups


class FrameStore:
    """M images as uint8, read through memory maps; decoded at the first use."""

    def __init__(self, spec: FrameStoreSpec, data: Path, root: Path | None = None) -> None:
        """Opens nothing yet.

        Args:
            spec: the images.
            data: the scene folder, beside whose images the files are kept.
            root: folder for the files instead of the default one.
        """
        self.spec = spec
        self.data = data
        self._root = root
        self._groups = spec.groups()
        self._place: dict[int, tuple[int, int]] = {
            place: (number, row)
            for number, group in enumerate(self._groups)
            for row, place in enumerate(group.places)
        }
        self._maps: list[np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.spec.sources)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """One image; a read-only view of the file, nothing is copied."""
        number, row = self._place[range(len(self))[index]]
        return self._opened()[number][row]

    def gather(self, indices: Int[Tensor, "V"]) -> UInt8[Tensor, "V H W 3"]:
        """A copy of some images of one size."""
        return torch.from_numpy(np.stack([self[int(index)] for index in indices]))

    @property
    def num_bytes(self) -> int:
        """Size of all images."""
        return sum(group.num_bytes for group in self._groups)

    def build(self) -> None:
        """Decode what is not yet on disk and open the files.

        Raises:
            FileNotFoundError: an image or video is missing.
            ValueError: an image or video is broken, sizes differ, or the disk is too full.
        """
        if self._maps is not None:
            return
        root = self._find_root()
        folders = [root / group.key(self.data) for group in self._groups]
        missing = [
            (group, folder)
            for group, folder in zip(self._groups, folders, strict=True)
            if not _is_complete(group, folder)
        ]
        if missing:
            _check_space(root, sum(group.num_bytes for group, _ in missing))
            _decode_all(missing)
        self._maps = [np.load(folder / _FRAMES, mmap_mode="r") for folder in folders]

    def _opened(self) -> list[np.ndarray]:
        self.build()
        assert self._maps is not None
        return self._maps

    def _find_root(self) -> Path:
        """The folder of the files: chosen, beside the data, or in the user's cache."""
        if self._root is not None:
            self._root.mkdir(parents=True, exist_ok=True)
            return self._root
        beside = self.data / "moegs_frames"
        # A store that came with read-only data is used where it is.
        if all(_is_complete(group, beside / group.key(self.data)) for group in self._groups):
            return beside
        try:
            beside.mkdir(parents=True, exist_ok=True)
            probe = beside / f"probe-{os.getpid()}{_PART}"
            probe.touch()
            probe.unlink()
            return beside
        except OSError:
            cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
            digest = hashlib.sha256(str(self.data.resolve()).encode()).hexdigest()[:16]
            root = cache / "moegs_ns" / "frames" / digest
            root.mkdir(parents=True, exist_ok=True)
            return root


def _is_complete(group: FrameGroup, folder: Path) -> bool:
    """Whether the index names exactly these frames and the file has the size that it promises."""
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        found = (folder / _FRAMES).stat().st_size
    except (OSError, ValueError):
        return False
    return (
        isinstance(index, dict)
        and index.get("shape") == list(group.shape)
        and index.get("file_bytes") == found
    )


def _check_space(root: Path, needed: int) -> None:
    free = shutil.disk_usage(root).free
    if needed > free:
        raise ValueError(
            f"The frame store needs {needed / 1e9:.1f} GB in {root}, but only {free / 1e9:.1f} GB "
            "are free; make room, choose another disk with --frame-store-dir, or use fewer "
            "--frames or a larger --downscale-factor."
        )


def _decode_all(missing: list[tuple[FrameGroup, Path]]) -> None:
    """Decode groups side by side; the first error ends the build, finished groups stay."""
    threads = os.cpu_count() or 1
    total = sum(len(group.sources) for group, _ in missing)
    columns = (
        TextColumn("Decoding frames"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=CONSOLE, transient=True) as progress:
        task = progress.add_task("", total=total)
        with ThreadPoolExecutor(threads) as pool:
            # A few folders share the threads; many videos occupy one each.
            inner = max(1, threads // len(missing))
            jobs = [
                pool.submit(_write_group, group, folder, inner, lambda: progress.advance(task))
                for group, folder in missing
            ]
            try:
                for job in jobs:
                    job.result()
            except BaseException:
                for job in jobs:
                    job.cancel()
                raise


def _write_group(group: FrameGroup, folder: Path, threads: int, advance) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder)
    part = folder / f"{_FRAMES}-{os.getpid()}{_PART}"
    try:
        # Plain writes, not a writable memory map: a full disk is then an error, not a crash.
        with part.open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": group.shape}
            np.lib.format.write_array_header_1_0(file, header)
            for frame in decode_group(group, threads):
                file.write(np.ascontiguousarray(frame).data)
                advance()
            file_bytes = file.tell()
        part.replace(folder / _FRAMES)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(
            f"The frame store in {folder} cannot be written ({error.strerror or error}); make room "
            "or choose another disk with --frame-store-dir."
        ) from error
    finally:
        part.unlink(missing_ok=True)
    index = {
        "shape": list(group.shape),
        "file_bytes": file_bytes,
        "source": group.path.name,
        "sources": [[source.path.name, source.frame] for source in group.sources],
        "background": group.background,
    }
    part = folder / f"{_INDEX}-{os.getpid()}{_PART}"
    part.write_text(json.dumps(index), encoding="utf-8")
    part.replace(folder / _INDEX)


def _remove_abandoned(folder: Path) -> None:
    """Delete what a killed process left; younger parts may belong to a build that still runs."""
    for part in folder.glob(f"*{_PART}"):
        with suppress(FileNotFoundError):  # its build has just finished it
            if time.time() - part.stat().st_mtime > _ABANDONED_SECONDS:
                part.unlink()
