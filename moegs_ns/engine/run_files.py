"""What a training writes into its run's folder besides config.yml: whole files or none."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from moegs_ns.atomic_files import (
    atomic_write,
    atomic_write_text,
    replace_synced,
    temporary_folder,
)
from moegs_ns.runs.checkpoint import BEFORE_FINISH, MODEL_PREFIX, TRAINING_RECORD

SECONDS = "seconds"
"""Entry of a checkpoint: how long its weights were trained for, in all sessions."""
ANOTHER_FOLDER = "name another --output-dir"
"""What to do if a run's files cannot be written."""


def write_checkpoint(folder: Path, step: int, trainer: Any, seconds: float) -> None:
    """Write what nerfstudio's trainer saves, and the seconds of training that are in it.

    Raises:
        OSError: it cannot be written; an earlier one of that name is untouched.
    """
    name = f"step-{step:09d}.ckpt"
    optimizers = trainer.optimizers
    content = {
        "step": step,
        "pipeline": trainer.pipeline.state_dict(),
        "optimizers": {name: each.state_dict() for name, each in optimizers.optimizers.items()},
        "schedulers": {name: each.state_dict() for name, each in optimizers.schedulers.items()},
        "scalers": trainer.grad_scaler.state_dict(),
        SECONDS: seconds,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary_folder(folder.parent) as temporary:
            torch.save(content, temporary / name)
            replace_synced(temporary / name, folder / name)
    except (OSError, RuntimeError) as error:
        raise OSError(
            f"The checkpoint of step {step} could not be written to {folder} "
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
