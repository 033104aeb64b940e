"""The experts of a mixture as a command names them: trained runs, windows of runs, methods."""

import itertools
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nerfstudio.plugins.registry import discover_methods

from moegs_ns.experts.windows import Window, joined_config
from moegs_ns.models.expert_model import ExpertModelConfig
from moegs_ns.runs.checkpoint import (
    CONFIG_NAME,
    Run,
    check_frames,
    configured_frames,
    run_of,
    training_record,
)
from moegs_ns.training.honest import HonestCameras

PREFIX = "moegs-"
"""What the names of our methods begin with; it may be left out in lists of experts."""
JOINT = "+"
"""Stands between the runs of consecutive windows that make one expert."""
ALL = "all"
"""Stands for every method where options of single ones are given."""


@dataclass(frozen=True)
class ExpertSource:
    """One expert of a mixture: a trained run or a method, or those of consecutive windows."""

    runs: tuple[Run, ...] = ()
    """Empty for methods that are still to be trained."""
    methods: tuple[str, ...] = ()
    """Names of the methods to train, one for each window; empty for runs."""

    @property
    def method(self) -> str:
        """Name of the method to train, or of those of the windows; empty for runs."""
        return JOINT.join(self.methods)

    @property
    def name(self) -> str:
        """Name of the method, or of the methods of the windows."""
        methods = dict.fromkeys(run.config.method_name for run in self.runs)
        return self.method or "-".join(name.removeprefix(PREFIX) for name in methods)

    @property
    def path(self) -> Path:
        """The configs of the runs, as `expert_source` reads them."""
        return Path(JOINT.join(str(run.config_path.resolve()) for run in self.runs))

    def model_config(self) -> ExpertModelConfig:
        """Configuration of the expert; that of windows makes one of them.

        Raises:
            ValueError: windows correct poses in different ways, which have no mean.
        """
        models = [run.config.pipeline.model for run in self.runs]
        if len(models) == 1:
            return models[0]
        windows = [trained_frames(run) for run in self.runs]
        poses = {m.camera_optimizer.mode: m.camera_optimizer for m in models}
        corrected = [mode for mode in poses if mode != "off"]
        if len(corrected) > 1:
            raise ValueError(
                "Expected windows that correct poses in one way, if they do, but "
                f"--pipeline.model.camera-optimizer.mode is {' and '.join(corrected)} in "
                f"{self.path}; train them with the same mode."
            )
        return replace(
            models[0],
            camera_optimizer=poses[corrected[0] if corrected else "off"],
            expert=joined_config([m.expert for m in models], windows),
            color_correction=any(m.color_correction for m in models),
            time_offsets=any(m.time_offsets for m in models),
        )


def expert_source(name: str) -> ExpertSource:
    """What a name in `--experts` stands for.

    Raises:
        FileNotFoundError: it is the path of a run that does not exist.
        ValueError: it is neither a run nor a method, or its windows do not follow each other.
    """
    paths = split_windows(name)
    if len(paths) == 1 and is_run(paths[0]):
        return ExpertSource((expert_run(paths[0]),))
    methods = expert_methods()
    if named := window_methods(paths, methods, name):
        return ExpertSource(methods=named)
    if len(paths) > 1:
        return windows_of([expert_run(path) for path in paths])
    if Path(name).exists() or os.sep in name or Path(name).suffix in (".yml", ".yaml"):
        return ExpertSource((expert_run(Path(name)),))
    hint = ""
    if name.endswith("-data"):
        hint = (
            " The name of the dataparser was read as an expert: put another option between them, "
            f"as in --experts A/config.yml --data D {name}."
        )
    raise ValueError(
        f"Expected trained runs (their {CONFIG_NAME}) or methods in --experts, but '{name}' is "
        f"neither; the methods are {', '.join(sorted(methods))}.{hint}"
    )


def windows_of(runs: Iterable[Run]) -> ExpertSource:
    """The expert that runs of consecutive windows make, in whatever order they come.

    Raises:
        ValueError: they do not follow each other.
    """
    ordered = sorted(runs, key=trained_frames)
    check_windows(ordered)
    return ExpertSource(tuple(ordered))


def window_methods(parts: Sequence[Path], methods: Mapping[str, str], name: str) -> tuple[str, ...]:
    """The methods that the parts of a name in `--experts` stand for; empty if they are runs.

    Raises:
        ValueError: only some of them are methods.
    """
    words = [str(part).removeprefix(PREFIX) for part in parts]
    others = [str(part) for part, word in zip(parts, words, strict=True) if word not in methods]
    if others and len(others) < len(parts):
        raise ValueError(
            f"--experts expects methods or trained runs between the '{JOINT}' of one expert, not "
            f"both, but of '{name}' {' and '.join(others)} is no method; the methods are "
            f"{', '.join(sorted(methods))}. Train the windows that are missing with --frames, and "
            "name their runs."
        )
    return () if others else tuple(methods[word] for word in words)


def expert_methods() -> dict[str, str]:
    """The registered methods that train one expert, ours or not, by name without prefix."""
    configs: dict[str, Any] = discover_methods()[0]
    return {
        name.removeprefix(PREFIX): name
        for name, config in configs.items()
        if isinstance(config.pipeline.model, ExpertModelConfig)
    }


def method_config(name: str) -> Any:
    """The configuration that a registered method starts from; not to be changed."""
    return discover_methods()[0][name]


def is_run(path: Path) -> bool:
    """Whether a path is that of a file, or of a folder that holds a run's config."""
    return path.is_file() or (path / CONFIG_NAME).is_file()


def split_windows(names: str) -> list[Path]:
    """The runs between the `+` of a name; a `+` within a folder's name does not separate."""
    paths, begun = [], ""
    for part in names.split(JOINT):
        begun = f"{begun}{JOINT}{part}" if begun else part
        if is_run(Path(begun)):
            paths.append(Path(begun))
            begun = ""
    # What is no run is left in pieces, the first of which that does not exist is reported later.
    return paths + [Path(part) for part in begun.split(JOINT) if begun]


def expert_run(path: Path) -> Run:
    """The run of a single expert; see `run_of`."""
    remedy = "name runs of moegs-stg, moegs-4dgaussians or another expert"
    expected = "runs of single experts in --experts"
    return run_of(lambda model: isinstance(model, ExpertModelConfig), path, expected, remedy)


def options_by_method(texts: Sequence[str], experts: Sequence[str]) -> dict[str, list[str]]:
    """The arguments in each 'NAME: options' of --expert-options, by the method's name; those of
    'all: options' belong to every method.

    Raises:
        ValueError: one is for none of the experts.
    """
    methods = {method for expert in experts for method in expert_source(expert).methods}
    options: dict[str, list[str]] = {}
    for text in texts:
        name, colon, own = text.partition(":")
        if colon and name.strip() == ALL:
            for each in methods:
                options.setdefault(each, []).extend(shlex.split(own))
            continue
        method = expert_source(name.strip()).method if colon else ""
        if not method or method not in methods:
            raise ValueError(
                "--expert-options expects 'NAME: options' with a method of --experts, got "
                f"'{text}'; name one of {', '.join(experts)}, or {ALL}, before a colon."
            )
        options.setdefault(method, []).extend(shlex.split(own))
    return options


def trained_frames(run: Run) -> Window:
    """First and last frame that a run of a window was trained on.

    Raises:
        ValueError: it was trained without --frames.
    """
    frames = configured_frames(run.config)
    if frames is None:
        raise ValueError(
            f"Expected runs of windows, trained with --frames FIRST LAST, between the "
            f"'{JOINT}' in --experts, but {run.config_path} was trained on the whole recording; "
            "name it alone, or train it on a window."
        )
    return frames


def check_source_frames(source: ExpertSource, frames: Window | None) -> None:
    """Raise ValueError if the runs of an expert were trained on other frames than a clip's; None
    stands for the whole recording, whose length is not known yet."""
    own = [configured_frames(run.config) for run in source.runs]
    if frames is not None and own and None not in own:
        trained = (trained_frames(source.runs[0])[0], trained_frames(source.runs[-1])[1])
        check_frames(trained, frames, source.runs[0].config_path)


def check_windows(runs: Sequence[Run]) -> None:
    """Raise ValueError unless runs, in order of time, follow each other frame by frame."""
    for before, after in itertools.pairwise(runs):
        (_, end), (start, last) = trained_frames(before), trained_frames(after)
        if start > end + 1:
            raise ValueError(
                f"Expected windows that follow each other, but {before.config_path} ends at frame "
                f"{end} and {after.config_path} begins at frame {start}: train a window on frames "
                f"{end + 1} to {start - 1} and name it between them."
            )
        if start <= end:
            raise ValueError(
                f"Expected windows that share no frame, but {before.config_path} and "
                f"{after.config_path} were both trained on frames {start} to {min(end, last)}; "
                f"train the second one from frame {end + 1}, or name them as two experts."
            )


def check_left_cameras_out(runs: Sequence[Run], cameras: HonestCameras) -> None:
    """Raise ValueError unless these runs left out cameras: those that are named, if any are."""
    for run in runs:
        if not run.before_finish_path.is_file():
            raise ValueError(
                f"Expected experts that left cameras out until their finish, but {run.config_path} "
                "saw all of them from the start; train it with --honest-cameras auto, or mix "
                "without --honest-cameras."
            )
        left_out = training_record(run.config_path)["honest_cameras"]
        if cameras != "auto" and set(cameras) != set(left_out):
            raise ValueError(
                f"--honest-cameras expects the cameras that {run.config_path} left out, "
                f"{' '.join(map(str, left_out))}, got {' '.join(map(str, cameras))}; give auto to "
                "take runs as they are."
            )


def unique_names(methods: Sequence[str]) -> tuple[str, ...]:
    """Method names without the common prefix; repeated ones are numbered."""
    names: list[str] = []
    for method in methods:
        name = method.removeprefix(PREFIX).replace("-", "_")
        numbered = [name, *(f"{name}_{number}" for number in range(2, len(methods) + 1))]
        names.append(next(candidate for candidate in numbered if candidate not in names))
    return tuple(names)
