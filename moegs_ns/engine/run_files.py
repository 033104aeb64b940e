"""What a training writes into its run's folder besides config.yml: whole files or none."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from moegs_ns.atomic_files import atomic_write, atomic_write_text
from moegs_ns.runs.checkpoint import BEFORE_FINISH, MODEL_PREFIX, TRAINING_RECORD

ANOTHER_FOLDER = "name another --output-dir"
"""What to do if a run's files cannot be written."""


@contextmanager
def checkpoint_written(path: Path, step: int) -> Iterator[Path]:
    """A temporary folder for a checkpoint of the same name, which then takes its place.

    Raises:
        OSError: it cannot be written; an earlier one of that name is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent.parent, prefix=".writing-") as temporary:
            yield Path(temporary)
            os.replace(Path(temporary) / path.name, path)
    except (OSError, RuntimeError) as error:
        raise OSError(
            f"The checkpoint of step {step} could not be written to {path.parent} "
            f"({str(error).splitlines()[0]}); earlier ones are untouched: free some space, "
            "then resume."
        ) from error


def write_before_finish(base_dir: Path, state: dict[str, Any]) -> None:
    """Keep the expert of a pipeline's state as it is before it sees the honest images, for
    routers."""
    prefix = MODEL_PREFIX + "expert."
    expert = {name: value for name, value in state.items() if name.startswith(prefix)}
    path = base_dir / BEFORE_FINISH
    with atomic_write(path, "expert before its finish", ANOTHER_FOLDER) as file:
        torch.save({"pipeline": expert}, file)


def copy_before_finish(loaded: Path, base_dir: Path) -> None:
    """Take that file along from the folder of the run that goes on in another one."""
    before, path = loaded / BEFORE_FINISH, base_dir / BEFORE_FINISH
    if not before.is_file() or loaded.resolve() == base_dir.resolve():
        return
    with (
        before.open("rb") as source,
        atomic_write(path, "expert before its finish", ANOTHER_FOLDER) as file,
    ):
        shutil.copyfileobj(source, file)


def write_record(base_dir: Path, record: dict[str, Any]) -> None:
    """Write training.json."""
    path = base_dir / TRAINING_RECORD
    atomic_write_text(path, json.dumps(record) + "\n", "record of the training", ANOTHER_FOLDER)
