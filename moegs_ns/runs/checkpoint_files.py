"""Files of checkpoints as anybody may have left them: what is wrong with one, in a few words.

A checkpoint is a ZIP archive of torch, whose entries are not compressed and carry sums. Everything
is looked at before it is read, so that no file takes more time or memory than its size.
"""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from moegs_ns.runs.compact import RECIPE

STEP_NAME = re.compile(r"step-(\d{9,})\.ckpt")
"""nerfstudio's name of a checkpoint."""
GAUSSIANS = "gauss_params."
"""In the names of parameters of Gaussians."""
UNREADABLE_ARCHIVE = (zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError)
"""What Python's module for archives raises; RuntimeError if an entry is encrypted."""


def saved_steps(folder: Path) -> dict[int, Path]:
    """The checkpoints in a folder by their steps, in order; other files are passed over."""
    named = [(STEP_NAME.fullmatch(path.name), path) for path in folder.glob("step-*.ckpt")]
    return dict(sorted((int(match[1]), path) for match, path in named if match))


def archive_fault(path: Path, *, sums: bool) -> str | None:
    """Why a file is no archive that torch wrote; None if it is one.

    Args:
        sums: read all of it, and compare the sums of its entries.
    """
    # Pipes and devices would be waited for, or read without end.
    if not path.is_file():
        return "not an ordinary file"
    size = path.stat().st_size
    if not zipfile.is_zipfile(path):
        return f"{size} bytes, not a torch file"
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            is_stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
            if not is_stored or sum(entry.file_size for entry in entries) > size:
                return "its entries are larger than the file"
            wrong = archive.testzip() if sums else None
    except UNREADABLE_ARCHIVE as error:
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    return wrong and f"the sum of its entry {wrong} is wrong"


def content_fault(content: Any) -> str | None:
    """Why what torch read is no checkpoint; None if it is one."""
    if not isinstance(content, dict) or not isinstance(content.get("pipeline"), dict):
        return "it has no 'pipeline'"
    for tensor in tensors_in(content):
        is_plain = tensor.layout == torch.strided and not tensor.is_meta
        if (
            not is_plain
            or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()
        ):
            return f"a tensor of {list(tensor.shape)} is larger than what is stored of it"
    return None


def tensors_in(content: Any) -> Iterator[Tensor]:
    """All tensors in a nest of containers, which may hold each other more than once."""
    pending, seen = [content], set()
    while pending:
        value = pending.pop()
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            pending += value.values() if isinstance(value, dict) else value


def value_fault(state: dict[str, Any]) -> str | None:
    """Which entry of a model's state holds numbers that are none, or Gaussians in whole numbers;
    None if all are right.

    Statistics of a recipe begin with infinities.
    """
    counts: dict[str, torch.Size] = {}
    for name, value in state.items():
        owner, found, _ = name.rpartition(f".{GAUSSIANS}")
        if found and isinstance(value, Tensor):
            count = counts.setdefault(owner, value.shape[:1])
            if value.shape[:1] != count:
                return f"{name} is of {list(value.shape[:1])} Gaussians, others of {list(count)}"
        if isinstance(value, Tensor) and GAUSSIANS in name and not value.is_floating_point():
            return f"{name} holds numbers of the type {value.dtype}"
        if isinstance(value, Tensor) and value.is_floating_point():
            wrong = value.isnan() if name.startswith(RECIPE) else ~value.isfinite()
            if bool(wrong.any()):
                return f"{int(wrong.sum())} of {value.numel()} numbers of {name} are not finite"
    return None
