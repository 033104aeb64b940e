"""Runs on disk: where they are, whether they are whole, what they hold."""

import argparse
import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from pickle import UnpicklingError
from textwrap import shorten
from typing import Any

import torch
import yaml
from nerfstudio.engine.trainer import TrainerConfig
from torch import Tensor

from moegs_ns.runs.checkpoint_files import (
    archive_fault,
    content_fault,
    saved_steps,
    value_fault,
)
from moegs_ns.runs.compact import decode_state, is_compact
from moegs_ns.runs.config_yaml import UntrustedConfigError, load_config
from moegs_ns.scene import Rig, SceneInfo, is_same_rig

CONFIG_NAME = "config.yml"
TRAINING_RECORD = "training.json"
"""File in a run's folder that says how it was trained."""
BEFORE_FINISH = "before_finish.ckpt"
"""File in the folder of an expert that left out honest images: the expert before it saw them."""
RECORDED = ("seconds", "steps", "expert_seconds")
"""Amounts in that file."""
MODULE_OF_0_1 = "moegs_ns.models.trainer"
"""Named by every config of version 0.1, which recorded no version."""
MODEL_PREFIX = "_model."
"""What nerfstudio's pipeline puts before the names of the model's state."""
UNREADABLE = (
    yaml.YAMLError, ValueError, TypeError, RecursionError, AttributeError, ModuleNotFoundError
)  # fmt: skip
"""What a file raises that is no config of this version."""
UNREADABLE_CHECKPOINT = (
    *(UnpicklingError, RuntimeError, EOFError, OSError, ValueError, TypeError, AttributeError),
    *(LookupError, MemoryError, RecursionError, AssertionError),
)
"""What torch raises for a file that it did not write, or that holds more than tensors."""
MENTIONED = 300
"""Characters that are told of a state which does not fit."""
EARLIER_CORRECTIONS = r"^colors\.experts\."
"""Beginning of the names of a mixture's camera corrections when they were of colours alone."""


@dataclass(frozen=True)
class Run:
    """A finished or interrupted run of `ns-train`."""

    config_path: Path
    config: Any
    """The run's TrainerConfig."""
    checkpoint_path: Path

    def model_state(self, *, before_finish: bool = False) -> dict[str, Any]:
        """State of the model alone, on the CPU; that of the expert alone before its finish."""
        path = self.before_finish_path if before_finish else self.checkpoint_path
        return model_state(load_checkpoint(path)["pipeline"])

    @property
    def before_finish_path(self) -> Path:
        """Where an expert that left out honest images is, as it was before it saw them."""
        return self.config_path.parent / BEFORE_FINISH


def open_run(path: Path) -> Run:
    """Open a run by its config file or folder; it may have been moved since it was trained.

    Raises:
        FileNotFoundError: there is no such file, or no checkpoint beside it.
        ValueError: the path is not that of a run.
    """
    config_path = find_config(path)
    config = read_config(config_path)
    return Run(config_path, config, newest_checkpoint(config_path.parent / model_dir(config)))


def find_config(path: Path) -> Path:
    """The config file that `path` names, or that lies in the folder `path`."""
    path = Path(path)
    if path.is_dir():
        path = path / CONFIG_NAME
    if path.suffix not in (".yml", ".yaml"):
        raise ValueError(
            f"Expected the {CONFIG_NAME} of a trained run or its folder, got '{path}'."
        )
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected the {CONFIG_NAME} of a trained run, but there is no file {path}; "
            "check the path, or train the expert first."
        )
    return path


def read_config(path: Path) -> Any:
    """The TrainerConfig that a run was started with; runs nothing that the file names.

    Raises:
        ValueError: it is no run, one of a version whose classes had other names, or it names
            something that no installed method is configured by.
    """
    try:
        config = load_config(path)
    except UntrustedConfigError as error:
        if _is_gone(error.name):
            raise _another_version(path, f"{error.name} is gone") from error
        raise
    except UNREADABLE as error:
        raise _another_version(path, str(error).splitlines()[0]) from error
    if not isinstance(config, TrainerConfig) or not hasattr(config, "pipeline"):
        raise ValueError(f"Expected the config of a trained run, but {path} holds something else.")
    return config


def _is_gone(name: str) -> bool:
    """Whether a name is that of something which this package had in another version."""
    module, _, own = name.rpartition(".")
    return module.startswith("moegs_ns.") and not hasattr(sys.modules.get(module), own)


def _another_version(path: Path, reason: str) -> ValueError:
    stored = "0.1" if MODULE_OF_0_1 in reason else None
    trained_by = training_record(path).get("version", stored)
    if trained_by == version("moegs_ns"):
        return ValueError(
            f"Expected the config of a trained run, but {path} is damaged ({reason}); restore it "
            "from a copy, or train the run anew."
        )
    if trained_by is None:
        return ValueError(
            f"Expected a run of this version of moegs_ns ({version('moegs_ns')}), but {path} "
            f"cannot be read ({reason}); use the version that trained it, or train it anew."
        )
    return ValueError(
        f"{path} was trained with moegs_ns {trained_by}, whose classes have other names; this "
        f"is {version('moegs_ns')}: open it with {trained_by}, or train it anew."
    )


def training_record(run: Path) -> dict[str, Any]:
    """What a run, named by its config or folder, says of its training; empty without a record.

    Raises:
        ValueError: the record is damaged.
    """
    path = (run if run.is_dir() else run.parent) / TRAINING_RECORD
    if not path.exists() and not path.is_symlink():
        return {}
    try:
        # Pipes would be waited for.
        record = json.loads(path.read_text("utf8")) if path.is_file() else None
    except (ValueError, RecursionError, OSError):
        record = None
    if not isinstance(record, dict) or not all(map(_is_amount, map(record.get, RECORDED))):
        raise ValueError(
            f"Expected the record of a training in {path}, but the file is damaged; restore it "
            "from a copy, or delete it: the run opens without."
        )
    return record


def _is_amount(value: Any) -> bool:
    """Whether an amount, if one was recorded, is a finite number."""
    return value is None or (isinstance(value, int | float) and math.isfinite(value))


def model_dir(config: Any) -> Path:
    """Folder of the checkpoints, relative to the run's folder."""
    return Path(config.relative_model_dir)


def newest_checkpoint(folder: Path) -> Path:
    """The checkpoint of the last step in a run's folder of checkpoints.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged.
    """
    found = list(saved_steps(folder).values())
    if not found:
        raise FileNotFoundError(
            f"Expected checkpoints in {folder}, found none; was the run stopped before its first "
            "save (--steps-per-save)?"
        )
    check_whole(found[-1], sums=False)
    return found[-1]


def step_of(checkpoint: Path) -> int:
    """The step in the name of a checkpoint."""
    return int(checkpoint.stem.removeprefix("step-"))


def check_whole(path: Path, *, sums: bool) -> None:
    """Raise an error if a checkpoint file is cut short or is not one; with `sums`, if any byte of
    it was changed."""
    if not path.exists():
        raise FileNotFoundError(
            f"Expected the checkpoint {path}, but there is no such file; name another, or train "
            "the run anew."
        )
    fault = archive_fault(path, sums=sums)
    if fault is not None:
        raise _damaged(path, fault)


def load_checkpoint(path: Path, *, is_mapped: bool = False) -> dict[str, Any]:
    """A checkpoint's content on the CPU, without running code that it might hold.

    Args:
        is_mapped: leave tensors in the file until they are used.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or holds something else.
    """
    check_whole(path, sums=True)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_mapped)
    except UNREADABLE_CHECKPOINT as error:
        reason = str(error).splitlines()[0] if str(error) else "empty"
        if isinstance(error, UnpicklingError):
            # What torch advises there would run the code that the file may hold.
            reason = "it holds more than tensors and numbers, perhaps code"
        raise _damaged(path, reason) from error
    fault = content_fault(content)
    if fault is not None:
        raise ValueError(
            f"Expected a checkpoint of a training, but {path} is none ({fault}); name a file that "
            "ns-train wrote."
        )
    return content


def _damaged(path: Path, reason: str) -> ValueError:
    step = next((step for step, saved in saved_steps(path.parent).items() if saved == path), 0)
    earlier = [
        saved
        for number, saved in saved_steps(path.parent).items()
        if number < step and archive_fault(saved, sums=True) is None
    ]
    if earlier:
        return ValueError(
            f"The checkpoint {path} is damaged ({reason}), but the earlier {earlier[-1].name} "
            "beside it is whole: move the damaged file away to open or resume the run from there."
        )
    return ValueError(
        f"The checkpoint {path} is damaged ({reason}); restore it from a copy, or train the run "
        "anew."
    )


def model_state(stored: dict[str, Any]) -> dict[str, Any]:
    """State of the model in a checkpoint's entry `pipeline`, decoded if that is compact.

    Raises:
        ValueError: it is in a compact encoding of another version, or holds numbers that are not
            finite.
    """
    names = (name.removeprefix("module.").removeprefix(MODEL_PREFIX) for name in stored)
    names = (re.sub(EARLIER_CORRECTIONS, "corrections.experts.", name) for name in names)
    state = dict(zip(names, stored.values(), strict=True))
    if is_compact(state):
        state = decode_state(state)
    fault = value_fault(state)
    if fault is not None:
        raise ValueError(
            f"Expected a checkpoint of finite numbers, but {fault}; use an earlier checkpoint, "
            "restore it from a copy, or train the run anew with lower learning rates."
        )
    return state


@contextmanager
def fitting(what: str) -> Iterator[None]:
    """Say in one sentence that the state which is loaded here is that of something else.

    Raises:
        ValueError: names or shapes in the state are others.
    """
    try:
        yield
    except (KeyError, IndexError, TypeError, AttributeError, RuntimeError) as error:
        # Modules say so in an error that they share with graphics cards.
        if isinstance(error, RuntimeError) and "loading state_dict" not in str(error):
            raise
        kind = "no entry " if isinstance(error, KeyError) else ""
        reason = kind + shorten(str(error), MENTIONED, placeholder=" ...")
        raise ValueError(
            f"{what} does not fit the method, its options or the data set's frames; open it with "
            f"the run's own config.yml and data. ({reason})"
        ) from error


def named_config_path() -> Path | None:
    """The file given to the running command as --load-config, from its command line.

    nerfstudio's tools rebuild the run's folder from names stored in the config, which is wrong once
    the run has been moved; they do not tell the config where it was read from.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--load-config", "--load_config", nargs="?", type=Path)
    return parser.parse_known_args(sys.argv[1:])[0].load_config


def without_prefix(state: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The entries whose names begin with `prefix`, without it."""
    return {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }


def stored_scene(state: dict[str, Any]) -> dict[str, Tensor]:
    """What tells the scene from others in an expert's state: its frames, and all of its cameras."""
    if "num_frames" not in state:
        raise ValueError(
            "Expected the checkpoint of an expert, but one of the runs holds another in its folder "
            "of checkpoints; restore the one that its config.yml belongs to."
        )
    # Runs of 0.2 tell only the cameras that they were trained on.
    return {
        "num_frames": state["num_frames"],
        "rig_center": state.get("rig_center", state["scene_center"]),
        "rig_extent": state.get("rig_extent", state["scene_extent"]),
    }


def run_of(is_wanted: Callable[[Any], bool], path: Path, expected: str, remedy: str) -> Run:
    """The run at a path, whose model's configuration must be a wanted one.

    Raises:
        ValueError: it is another; says what was `expected` and the `remedy`.
    """
    run = open_run(path)
    if not is_wanted(run.config.pipeline.model):
        raise ValueError(
            f"Expected {expected}, but {run.config_path} is a run of '{run.config.method_name}'; "
            f"{remedy}."
        )
    return run


def configured_frames(config: Any) -> tuple[int, int] | None:
    """First and last frame that a training's --frames names; None for the whole recording."""
    return getattr(config.pipeline.datamanager.dataparser, "frames", None)


def check_same_scene(
    stored: dict[str, Tensor], scene: SceneInfo, run: Run, role: str = "experts"
) -> None:
    """Raise ValueError unless what a run stored was trained on this scene and these frames."""
    path, num_frames = run.config_path, int(stored["num_frames"])
    first_frame = (configured_frames(run.config) or (0,))[0]
    if num_frames != scene.num_frames:
        raise ValueError(
            f"Expected {role} of this clip of {scene.num_frames} frames, but {path} was trained "
            f"on {num_frames}; train everything that is to work together on the same frames."
        )
    wanted = (scene.first_frame, scene.first_frame + num_frames - 1)
    check_frames((first_frame, first_frame + num_frames - 1), wanted, path, role)
    x, y, z = stored["rig_center"].tolist()
    own: Rig = ((x, y, z), float(stored["rig_extent"]))
    # What a run of 0.2 stored are the cameras that it was trained on, which may be those of today.
    if not any(is_same_rig(rig, own) for rig in (scene.rig, (scene.center, scene.extent))):
        center, extent = scene.rig
        moved = math.dist(center, own[0])
        raise ValueError(
            f"Expected {role} of this scene (its cameras lie within {extent:.4g} of their middle), "
            f"but {path} was trained on another (within {own[1]:.4g}, {moved:.4g} away); use the "
            "same data for all."
        )


def check_frames(
    frames: tuple[int, int], wanted: tuple[int, int], path: Path, role: str = "experts"
) -> None:
    """Raise ValueError unless the run at a path was trained on the wanted frames."""
    if tuple(frames) != tuple(wanted):
        raise ValueError(
            f"Expected {role} of this clip, frames {wanted[0]} to {wanted[1]}, but {path} was "
            f"trained on frames {frames[0]} to {frames[1]}; train everything that is to work "
            "together on the same frames."
        )
