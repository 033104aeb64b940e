"""One PLY file per frame of a clip, which editors and players of Gaussians show as a sequence."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from moegs_ns.atomic_files import atomic_write_text
from moegs_ns.gaussians import Gaussians
from moegs_ns.ply import write_ply
from moegs_ns.progress import track
from moegs_ns.reports.clip_frames import ClipSet
from moegs_ns.reports.orientation import turned

SEQUENCE_RECORD = "sequence.json"
"""File in the folder of a sequence that says what it holds."""
REMEDY = "name another place for it"


@dataclass(frozen=True)
class PlySequence:
    """What a folder of PLY files holds; a folder is filled by one sequence only."""

    shows: str
    """What the Gaussians are, in words."""
    checkpoint: str
    """Name and time of the checkpoint that they are from."""
    up: str
    """Which way is up, in words; files have it along -y unless they are left as they are."""
    frames: list[int]
    times: list[float]
    """Of the frames, in [0, 1] over the clip."""
    fps: float
    """Frames of the clip per second; 0 where unknown."""


def file_name(frame: int) -> str:
    """Numbered so that names are in the order of time."""
    return f"frame_{frame:05d}.ply"


def write_sequence(
    clip: ClipSet, sequence: PlySequence, turn: Float[Tensor, "4"] | None, folder: Path
) -> tuple[int, int]:
    """Write the files that are missing, each whole or not at all.

    The record says from the start what the folder will hold, and at the end that it does.

    Returns:
        How many files were written, and how many were there already.

    Raises:
        OSError: one cannot be written; those before it stay, and the next call goes on.
        ValueError: the folder holds something else.
    """
    record: dict[str, Any] = asdict(sequence)
    check_folder(folder, record)
    path = folder / SEQUENCE_RECORD
    missing = [frame for frame in sequence.frames if not (folder / file_name(frame)).is_file()]
    state = {"complete": False, "files": [file_name(frame) for frame in sequence.frames]}
    atomic_write_text(path, json.dumps(record | state, indent=1) + "\n", "record", REMEDY)
    for frame in track(missing, "Writing PLY files"):
        gaussians = turned(Gaussians.cat(clip.parts(frame)), turn)
        write_ply(gaussians, folder / file_name(frame))
    state["complete"] = True
    atomic_write_text(path, json.dumps(record | state, indent=1) + "\n", "record", REMEDY)
    return len(missing), len(sequence.frames) - len(missing)


def check_folder(folder: Path, record: dict[str, Any]) -> None:
    """Raise ValueError unless a folder is new, empty, or holds (a part of) the same sequence."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--output expects a folder for the PLY files, but {folder} is a file.")
    if not folder.exists() or not any(folder.iterdir()):
        return
    try:
        found = json.loads((folder / SEQUENCE_RECORD).read_text("utf8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(
            f"Expected a new or empty folder, or one with an earlier part of this sequence, but "
            f"{folder} holds something else; name another --output."
        )
    changed = [name for name, value in record.items() if found.get(name) != value]
    if changed:
        raise ValueError(
            f"{folder} holds another sequence (other {', '.join(changed)}); name another --output, "
            "or ask for the same one to go on with it."
        )
