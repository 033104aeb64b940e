"""The folder of a run that is trained: what may be replaced in it, and how to go on in it."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nerfstudio.engine.trainer import TrainerConfig

from moegs_ns.launch.nerfstudio_commands import is_program
from moegs_ns.launch.processes import advise, stop_on_signals
from moegs_ns.models.resume import resumed_folder
from moegs_ns.runs.checkpoint import (
    CONFIG_NAME,
    TRAINING_RECORD,
    model_dir,
    named_config_path,
    read_config,
)
from moegs_ns.runs.checkpoint_files import saved_steps

FREE = {
    *("budget", "data", "frame_store_dir", "gpu_cache_gb"),
    # A command names runs and methods, which a config holds in full.
    *("experts", "expert_models", "expert_names", "expert_budget", "router", "stacking"),
    "mixture_run",
}
"""Options of a model or a datamanager that may be others when a run goes on in its own folder."""


def go_on_as_named(config: TrainerConfig) -> None:
    """With --load-config, which takes no other options, go on from the last checkpoint beside that
    file, if there is one: a training from the start would replace it."""
    named = named_config_path()
    if named is not None and saved_steps(folder := named.parent / model_dir(config)):
        config.load_dir, config.load_step, config.load_checkpoint = folder.resolve(), None, None


def check_place(experiment_name: str | None, timestamp: str | None) -> None:
    """Raise ValueError unless the names that options give to the run's folder lie in --output-dir,
    where everybody looks for runs."""
    for option, name in (("--experiment-name", experiment_name), ("--timestamp", timestamp)):
        path = Path(name or ".")
        is_inside = not path.is_absolute() and ".." not in path.parts and path != Path(".")
        if name is not None and not (is_inside and (option != "--timestamp" or path.name == name)):
            raise ValueError(
                f"{option} expects the name of a folder inside of --output-dir, got '{name}'; "
                "leave it out for the default."
            )


def check_folder(config: TrainerConfig) -> None:
    """Raise ValueError if a training would take the place of another run.

    In a folder that holds a run only that run may go on, with its own settings, further if wanted.
    """
    folder = config.get_base_dir()
    checkpoints = folder / model_dir(config)
    if not saved_steps(checkpoints) and not (folder / TRAINING_RECORD).is_file():
        return
    resumed = resumed_folder(config)
    if resumed is None or resumed.resolve() != folder.resolve():
        raise ValueError(
            f"Expected a new folder for this training, but {folder} holds a run, which it would "
            f"replace; go on with that one (--load-dir {checkpoints}), or train into a folder of "
            "its own (another --timestamp, or none)."
        )
    if not (folder / CONFIG_NAME).is_file():
        return
    own, earlier = config.pipeline, read_config(folder / CONFIG_NAME).pipeline
    for name in ("model", "datamanager"):
        found = differences(getattr(own, name), getattr(earlier, name), f"pipeline.{name}.")
        for option, value, before in found:
            raise ValueError(
                f"Expected the options of the run in {folder}, which is to go on there, but "
                f"--{option} is {value}, not {before}; give the same options, or go on in a folder "
                "of its own (another --timestamp, or none)."
            )


def differences(own: Any, earlier: Any, prefix: str) -> Iterator[tuple[str, Any, Any]]:
    """Options of a configuration that are others in an earlier one: name and both values."""
    for each in fields(own):
        name = each.name
        # A run of an older version lacks what was added since.
        if name in FREE or name.startswith("_") or not hasattr(earlier, name):
            continue
        value, before = getattr(own, name), getattr(earlier, name)
        option = prefix + name.replace("_", "-")
        if is_dataclass(value) and type(value) is type(before):
            yield from differences(value, before, f"{option}.")
        elif value != before and not callable(value):
            yield option, value, before


def stop_with_advice(config: TrainerConfig) -> None:
    """Let signals end the command that trains in one sentence; nothing in other programs."""
    if is_program():
        advise(partial(how_to_go_on, config))
        stop_on_signals()


def how_to_go_on(config: TrainerConfig) -> str:
    """What to do after a training was stopped."""
    folder: Path = config.get_base_dir() / model_dir(config)
    saved = list(saved_steps(folder))
    if not saved:
        return (
            "Nothing of this run was saved yet: give the same command again; experts that were "
            "trained for it are kept."
        )
    return (
        f"{saved[-1] + 1:,} steps of it are saved: the same command with --load-dir {folder} goes "
        "on from there."
    )
