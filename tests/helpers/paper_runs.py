"""Made-up runs of studies of the paper: scenes that are nowhere, scores that are written down."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from moegs_ns.launch.jobs import TrainingJob
from moegs_ns.paper import running
from moegs_ns.paper.running import Result, result_of, trainings_of
from moegs_ns.paper.scoring import SCORES
from moegs_ns.paper.tables import tables_named
from moegs_ns.paper.tables.base import PaperTable
from moegs_ns.paper.trainings import Scene, Study
from moegs_ns.runs.checkpoint import TRAINING_RECORD


def study(*names: str, **settings) -> Study:
    """A study of scenes of these names, or of one, with nothing on disk."""
    scenes = tuple(Scene(name, Path("/data") / name) for name in names or ("scene",))
    return replace(Study(scenes=scenes, parser=("n3v-data",), output_dir=Path("/o")), **settings)


def table(number: int | str) -> PaperTable:
    """A table of the paper, or one beside them by its name."""
    [found] = tables_named([str(number)])
    return found


def score_row(job: TrainingJob, psnr: float, **more) -> dict:
    """What `moegs report` would say of a run."""
    is_staged = "router" in job.method
    is_mixture = is_staged or job.method == "moegs-joint"
    row = {"psnr": psnr, "ssim": 0.9, "lpips": None, "fps": 50.0, "mb": 100.0, "gaussians": 1000}
    row |= {"train_seconds": 10.0, "expert_seconds": 200.0 if is_staged else None}
    row |= {
        "psnr_best_expert": psnr - 0.5 if is_mixture else None,
        "psnr_average": psnr - 0.25 if is_mixture else None,
    }
    return row | more


def write_run(job: TrainingJob, psnr: float, seconds: float = 100.0, **more) -> None:
    """The record and the scores of a run that was never trained."""
    job.folder.mkdir(parents=True, exist_ok=True)
    record = {"seconds": seconds, "steps": 10, "gaussians": 1234}
    (job.folder / TRAINING_RECORD).write_text(json.dumps(record))
    (job.folder / SCORES).write_text(json.dumps({"rows": [score_row(job, psnr, **more)]}))


def measured(number: int | str, about: Study, psnr: Callable[[str, str, int], float]) -> Result:
    """A table whose runs have the PSNR of a function of label, scene and seed."""
    pairs = [
        (entry, trainings)
        for trainings in trainings_of(table(number), about)
        for entry in table(number).entries(trainings)
    ]
    for entry, trainings in pairs:
        write_run(entry.job, psnr(entry.label, trainings.scene.name, trainings.seed))
    return result_of(table(number), about, pairs)


def jobs_of(*numbers: int | str, about: Study) -> Iterator[tuple[TrainingJob, list[str]]]:
    """The trainings of tables and what each is for."""
    tables = {str(number): table(number) for number in numbers}
    yield from running.planned_jobs(tables, about).items()
