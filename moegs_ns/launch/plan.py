"""What `moegs train` is going to train: steps, time and disk, estimated from earlier runs."""

import heapq
import math
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from nerfstudio.data.dataparsers.base_dataparser import DataParserConfig
from nerfstudio.utils.rich_utils import CONSOLE
from rich.table import Table

from moegs_ns.data.frames.dataset import split_cameras, with_image_ids
from moegs_ns.data.parser_errors import telling_of_the_scene
from moegs_ns.data.scene_files import check_files
from moegs_ns.launch.jobs import Progress, TrainingJob, progress_of
from moegs_ns.launch.option_limits import check_numbers
from moegs_ns.runs.checkpoint import TRAINING_RECORD, training_record
from moegs_ns.training.optimizers import scaled_steps

BYTES_PER_MB = 1e6


@dataclass(frozen=True)
class Speed:
    """What earlier runs of a method took."""

    seconds_per_step: float
    megabytes: float | None
    """Largest checkpoint; None where none is left."""
    source: str


@dataclass(frozen=True)
class PlannedTraining:
    """A training, how far it has come, and what the rest will probably take."""

    training: TrainingJob
    progress: Progress
    total: int
    """Steps of the whole run."""
    speed: Speed | None
    """None if nothing is known."""

    @property
    def seconds(self) -> float | None:
        """Estimated time of the steps that are left."""
        if self.progress.is_finished:
            return 0.0
        left = max(0, self.total - self.progress.steps)
        return None if self.speed is None else left * self.speed.seconds_per_step


def parse(args: Sequence[str]) -> Any:
    """The config that `ns-train` will parse from its arguments: a misspelt option ends here."""
    # Imports all methods, which the command has done before.
    from nerfstudio.configs.method_configs import AnnotatedBaseConfigUnion, all_methods

    name, *options = args
    if name not in all_methods:
        return tyro.cli(AnnotatedBaseConfigUnion, args=args, prog="ns-train")  # type: ignore[arg-type]
    # The same for one method: for a misspelt option of all of them tyro takes ten seconds, in which
    # it looks for similar ones.
    default = all_methods[name]
    kind: Any = tyro.conf.SuppressFixed[tyro.conf.FlagConversionOff[type(default)]]
    return tyro.cli(kind, default=default, args=options, prog=f"ns-train {name}")


def planned(training: TrainingJob) -> PlannedTraining:
    """Parse and check the arguments of the training, and look at the disk."""
    config = parse(training.args())
    check_numbers(config)
    total = scaled_steps(config.max_num_iterations, config.pipeline.model.budget)
    return PlannedTraining(training, progress_of(training.folder), total, known_speed(training))


def known_speed(training: TrainingJob) -> Speed | None:
    """Median of earlier runs of the method on this kind of device: those of the same experiment,
    else those of others in the same folder of outputs."""
    folders = {
        "earlier runs of this experiment": f"{training.experiment}/{training.method}",
        "runs of other experiments": f"*/{training.method}",
    }
    for source, folder in folders.items():
        speeds, sizes = [], []
        for path in training.output_dir.glob(f"{folder}/*/{TRAINING_RECORD}"):
            speed = _speed_of(path)
            if speed is not None:
                speeds.append(speed)
                sizes += [file.stat().st_size for file in path.parent.glob("*/step-*.ckpt")]
        if speeds:
            megabytes = max(sizes) / BYTES_PER_MB if sizes else None
            return Speed(statistics.median(speeds), megabytes, f"{len(speeds)} {source}")
    return None


def _speed_of(path: Path) -> float | None:
    """Seconds per step of a run on this kind of device; None if its record does not tell them."""
    try:
        record = training_record(path)
        is_alike = str(record["device"]).startswith("cuda") == torch.cuda.is_available()
        speed = float(record["seconds"]) / int(record["steps"])
    except (ValueError, LookupError, TypeError, ArithmeticError) as error:
        CONSOLE.print(f"Passed over for the estimate: {path} ({error})", soft_wrap=True)
        return None
    return speed if is_alike and 0.0 < speed < math.inf else None


def stage_seconds(stage: Sequence[PlannedTraining], slots: int) -> float | None:
    """Time until the last of several trainings ends, each started in the first slot that is free;
    None if that of one is unknown."""
    free_at = [0.0] * slots
    for each in stage:
        if each.seconds is None:
            return None
        heapq.heapreplace(free_at, free_at[0] + each.seconds)
    return max(free_at)


def decoded_megabytes(
    parser: DataParserConfig, data: Path, val_cameras: Sequence[int] = ()
) -> float:
    """Size of all images of a scene when they are decoded, which is done once for all trainings.

    Raises:
        ValueError: the scene cannot be read, or has no such validation cameras.
    """
    check_files(data)
    parser.data = data
    total = 0
    for split in ("train", "test"):
        with telling_of_the_scene(parser, data):
            outputs = parser.setup().get_dataparser_outputs(split=split)
        if split == "train" and val_cameras:
            split_cameras(with_image_ids(outputs), tuple(val_cameras))
        cameras = outputs.cameras
        total += int((cameras.width.long() * cameras.height.long() * 3).sum())
    return total / BYTES_PER_MB


def print_room(
    parser: DataParserConfig, data: Sequence[Path], val_cameras: Sequence[int], output_dir: Path
) -> None:
    """What the decoded images of scenes take, and what is free for runs, on the terminal.

    Raises:
        ValueError: there is a file where runs are to be; see also `decoded_megabytes`.
    """
    folders = (output_dir, *output_dir.parents)
    existing = next(folder for folder in folders if folder.exists())
    if not existing.is_dir():
        raise ValueError(f"--output-dir expects a folder, but {existing} is a file.")
    free = shutil.disk_usage(existing).free / 1e9
    megabytes = sum(decoded_megabytes(parser, scene, val_cameras) for scene in data)
    CONSOLE.print(
        f"Decoded images take {megabytes:,.1f} MB once; {output_dir} has {free:,.1f} GB free."
    )


def print_plan(trainings: Sequence[PlannedTraining], purposes: Sequence[str] = ()) -> None:
    """One row per training on the terminal, with what each is for where that is given."""
    table = Table(title="Plan")
    for name in ("training", "state", "steps", "time left", "checkpoint", "estimated from"):
        table.add_column(name, justify="left" if name in ("training", "state") else "right")
    if purposes:
        table.add_column("for")
    for index, each in enumerate(trainings):
        speed, progress = each.speed, each.progress
        state = f"goes on from step {progress.steps:,}" if progress.checkpoint else "new"
        table.add_row(
            each.training.label,
            "finished" if progress.is_finished else state,
            f"{each.total:,}",
            duration(each.seconds),
            "unknown" if speed is None or speed.megabytes is None else f"{speed.megabytes:.0f} MB",
            "no earlier run" if speed is None else speed.source,
            *purposes[index : index + 1],
        )
    CONSOLE.print(table)


def duration(seconds: float | None) -> str:
    """A time for the terminal."""
    if seconds is None:
        return "unknown"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
