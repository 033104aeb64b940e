"""Trainings of benchmarks: their scene, the one place where jobs are built, and their scores."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Annotated

import tyro

from benchmarks.tables import Table
from moegs_ns.evaluation.tables import Row
from moegs_ns.launch.jobs import (
    LOG,
    UNWATCHED,
    TrainingJob,
    interruptible_pool,
    train,
    visible_devices,
)
from moegs_ns.paper.scoring import report


@dataclass(frozen=True)
class Scene:
    """Where images come from."""

    data: Path
    """Folder of the scene."""
    parser: str
    """nerfstudio's name of the parser."""
    parser_options: str = ""
    """Options of the parser in one string, for example "--frames 0 66"."""


@dataclass(frozen=True, kw_only=True)
class Trainings(Table):
    """A benchmark that trains on one scene."""

    scene: Annotated[Scene, tyro.conf.arg(name="")]
    budget: float = 1.0
    """Fraction of the published steps."""
    seeds: tuple[int, ...] = (0,)
    train_options: str = ""
    """Further options of every training, for example --val-cameras."""
    output_dir: Path = Path("outputs/benchmark")
    """Folder of the runs; finished ones are found again there."""
    images_dir: Path | None = None
    """Folder of the sheets of images; None for none."""

    def job(
        self,
        method: str,
        name: str,
        seed: int,
        options: Sequence[str] = (),
        *,
        budget: float | None = None,
        parser_options: Sequence[str] = (),
    ) -> TrainingJob:
        """A training on the scene; `name` is that of its folder, `budget` else the table's."""
        scene = self.scene
        return TrainingJob(
            method=method,
            options=(*options, *shlex.split(self.train_options)),
            data=scene.data,
            parser=(scene.parser, *shlex.split(scene.parser_options), *parser_options),
            budget=self.budget if budget is None else budget,
            seed=seed,
            output_dir=self.output_dir,
            experiment=self.name,
            name=name,
            without_effect=UNWATCHED,
        )

    def sheet_path(self) -> Path | None:
        """File of the sheet of images."""
        return self.images_dir and self.images_dir / f"{self.name}.jpg"


def train_and_report(job: TrainingJob, index: int) -> Row | None:
    """Train what is missing of a run, then score it; None and a message if either failed."""
    try:
        train(job, index, job.folder / LOG)
        row = report(job.folder, index)
    except RuntimeError as error:
        print(f"Left out of the table: {error}", flush=True)
        return None
    print(f"{job.method} {job.folder.name}: {row['psnr']:.2f} dB", flush=True)
    return row


def train_and_report_all(jobs: Sequence[TrainingJob], at_once: int) -> Iterator[Row | None]:
    """Rows in the order of the jobs, `at_once` of which are under way at a time on all GPUs; what
    interrupts this ends those, and starts no other."""
    with interruptible_pool(at_once) as pool:
        yield from pool.map(train_and_report, jobs, count())


def num_gpus() -> int:
    """GPUs that trainings may be dealt to; 1 without any."""
    return max(1, len(visible_devices()))


def own_options(given: Sequence[str], methods: Sequence[str], option: str) -> dict[str, list[str]]:
    """Options of each method, given as 'METHOD: options' or, for all of them, as 'all: options'.

    Raises:
        ValueError: other methods are named.
    """
    by_method = dict(text.split(":", 1) for text in given)
    if unknown := sorted(set(by_method) - {"all", *methods}):
        raise ValueError(
            f"{option} expects 'all' or one of {list(methods)} before each colon, got {unknown}."
        )
    shared = by_method.get("all", "")
    return {m: shlex.split(f"{shared} {by_method.get(m, '')}") for m in methods}
