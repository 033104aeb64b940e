"""Frame store: images decoded once into memory-mapped files, and batches of them for training.

There is one file per video or image folder, in `<data>/moegs_frames/` or, where the data cannot be
written, in the user's cache folder. A file is valid only with its index, which is written last;
both are written under temporary names and renamed, so an interrupted build leaves no partial file
and resumes with the next camera. Whoever reads a file holds its index, so that nobody removes it.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from jaxtyping import Int, UInt8
from nerfstudio.utils.rich_utils import CONSOLE
from rich.progress import Progress
from torch import Tensor

from moegs_ns.atomic_files import (
    atomic_write_text,
    opened_and_held,
    remove_abandoned,
    replace_synced,
)
from moegs_ns.data.frames.decoding import FrameGroup, FrameSource, decode_group
from moegs_ns.data.frames.folders import FRAMES_FOLDER, writable_folder
from moegs_ns.data.frames.undistortion import Undistortion

FRAMES, INDEX, PART = "frames.npy", "index.json", ".part"
"""Files of a group, and the ending of what is being written."""


class FrameStore:
    """M images as uint8, read through memory maps; decoded at the first use."""

    def __init__(
        self,
        sources: tuple[FrameSource, ...],
        sizes: tuple[tuple[int, int], ...],
        background: tuple[float, float, float] | None,
        data: Path,
        root: Path | None = None,
    ) -> None:
        """Opens no file yet.

        Each image has a source and a size (width, height) in the store. `background` is the colour
        under transparent pixels; None refuses them. Files are in `root`, by default in
        the scene folder `data`.

        Raises:
            ValueError: images of one group have different sizes.
        """
        self.sizes = sizes
        self._held: list[BinaryIO] = []
        self._data, self._root = data, root
        # Images of one video or folder form a group, in order of time.
        members: dict[tuple[Path, Undistortion | None], list[int]] = {}
        for index, source in enumerate(sources):
            members.setdefault((source.group, source.undistortion), []).append(index)
        self.groups: list[FrameGroup] = []
        self._slots: list[tuple[int, int]] = [(0, 0)] * len(sources)
        for (path, _), indices in members.items():
            group_sizes = {sizes[index] for index in indices}
            if len(group_sizes) != 1:
                raise ValueError(
                    f"Expected images of one size in {path}, but its cameras ask for "
                    f"{sorted(group_sizes)}; put images of different size into different folders."
                )
            indices.sort(key=lambda index: sources[index].frame or 0)
            for row, index in enumerate(indices):
                self._slots[index] = (len(self.groups), row)
            ordered = tuple(sources[index] for index in indices)
            self.groups.append(FrameGroup(path, ordered, *group_sizes.pop(), background))

    def __len__(self) -> int:
        return len(self._slots)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """One image; a read-only view of the file, nothing is copied."""
        group, row = self._slots[index]
        return self._maps[group][row]

    def gather(self, indices: Int[Tensor, "V"]) -> UInt8[Tensor, "V H W 3"]:
        """A copy of some images of one size."""
        return torch.from_numpy(np.stack([self[int(index)] for index in indices]))

    @property
    def num_bytes(self) -> int:
        """Size of all images."""
        return sum(group.num_bytes for group in self.groups)

    def build(self) -> None:
        """Decode what is not yet on disk and open the files.

        Raises:
            FileNotFoundError: an image or video is missing.
            ValueError: an image or video is broken, sizes differ, or the disk is too full.
        """
        _ = self._maps

    @cached_property
    def _maps(self) -> list[np.ndarray]:
        # Find the folder of each group; its name changes with everything that its bytes depend on.
        root = self._find_root()
        folders = [root / group.key(self._data) for group in self.groups]
        # Decode only the groups that no earlier build has finished.
        missing = [
            (group, folder)
            for group, folder in zip(self.groups, folders, strict=True)
            if not _is_complete(group, folder)
        ]
        if missing:
            needed = sum(group.num_bytes for group, _ in missing)
            if needed > (free := shutil.disk_usage(root).free):
                raise ValueError(
                    f"The frame store needs {needed / 1e9:.1f} GB in {root}, but only "
                    f"{free / 1e9:.1f} GB are free; make room, choose another disk with "
                    "--frame-store-dir, or use fewer --frames or a larger --downscale-factor."
                )
            _decode_all(missing, self._data)
        self._held = [_hold(folder) for folder in folders]
        # Map the files; the operating system's page cache holds what is read often.
        return [np.load(folder / FRAMES, mmap_mode="r") for folder in folders]

    def _find_root(self) -> Path:
        """The folder of the files: the chosen one, in the scene folder, or in the user's cache."""
        if self._root is not None:
            try:
                self._root.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OSError(
                    f"Decoded frames cannot be written to {self._root} ({error.strerror}); name "
                    "another --pipeline.datamanager.frame-store-dir."
                ) from error
            return self._root
        beside = self._data / FRAMES_FOLDER
        # A store that came with read-only data is used where it is.
        if all(_is_complete(group, beside / group.key(self._data)) for group in self.groups):
            return beside
        return writable_folder(self._data)


def _is_complete(group: FrameGroup, folder: Path) -> bool:
    """Whether the index has the group's shape and the file the size that the index states."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        found = (folder / FRAMES).stat().st_size
    except (OSError, ValueError):
        return False
    return (
        isinstance(index, dict)
        and index.get("shape") == list(group.shape)
        and index.get("file_bytes") == found
    )


def _decode_all(missing: list[tuple[FrameGroup, Path]], data: Path) -> None:
    """Decode groups in parallel; the first error ends the build, finished groups stay."""
    threads = os.cpu_count() or 1
    total = sum(len(group.sources) for group, _ in missing)
    with Progress(console=CONSOLE, transient=True) as progress:
        task = progress.add_task("Decoding frames", total=total)
        with ThreadPoolExecutor(threads) as pool:
            # The threads are divided among a few folders; many videos use one each.
            inner = max(1, threads // len(missing))
            write = partial(_write_group, data, inner, lambda: progress.advance(task))
            jobs = [pool.submit(write, group, folder) for group, folder in missing]
            try:
                for job in jobs:
                    job.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _write_group(
    data: Path, threads: int, advance: Callable[[], None], group: FrameGroup, folder: Path
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    remove_abandoned(folder, f"*{PART}")
    stamps = group.stamps()
    part = folder / f"{FRAMES}-{os.getpid()}{PART}"
    try:
        # Stream the frames into a .npy file. Plain writes, not a writable memory map: a full disk
        # is then an error, not a crash.
        with opened_and_held(part) as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": group.shape}
            np.lib.format.write_array_header_1_0(file, header)
            for frame in decode_group(group, threads):
                file.write(np.ascontiguousarray(frame).data)
                advance()
            file_bytes = file.tell()
            file.flush()
            replace_synced(part, folder / FRAMES)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(
            f"The frame store in {folder} cannot be written ({error.strerror or error}); make room "
            "or choose another disk with --frame-store-dir."
        ) from error
    finally:
        part.unlink(missing_ok=True)
    # The index comes last: it makes the file valid.
    index = {
        "shape": list(group.shape),
        "file_bytes": file_bytes,
        "source": group.path.name,
        "sources": [[source.path.name, source.frame] for source in group.sources],
        "background": group.background,
        "scene": str(data.resolve()),
        "folder": group.inside(data),
        "stamps": stamps,
    }
    remedy = "choose another disk with --frame-store-dir"
    atomic_write_text(folder / INDEX, json.dumps(index), "index of the frame store", remedy)


def _hold(folder: Path) -> BinaryIO:
    """The open index of a group, locked until it is closed; its time tells when it was last used.

    Neither is possible everywhere: without a lock nothing is removed either."""
    index = (folder / INDEX).open("rb")
    with suppress(OSError):
        fcntl.flock(index.fileno(), fcntl.LOCK_SH)
    with suppress(OSError):
        os.utime(folder / INDEX)
    return index
