"""From tables to their results: the plan, the trainings, the scores."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nerfstudio.utils.rich_utils import CONSOLE

from moegs_ns.evaluation.perceptual import LPIPS_WEIGHTS, WEIGHTS_VARIABLE
from moegs_ns.evaluation.tables import Row
from moegs_ns.launch.executors import Executor
from moegs_ns.launch.jobs import TrainingJob, progress_of
from moegs_ns.launch.plan import duration
from moegs_ns.paper.published import plain_name, published_table, variant_of
from moegs_ns.paper.scoring import fps_of_ways, score_all, score_of
from moegs_ns.paper.summary import Cell, Line, lines_of
from moegs_ns.paper.tables.base import BESIDE, Entry, PaperTable
from moegs_ns.paper.trainings import Study, Trainings
from moegs_ns.runs.checkpoint import CONFIG_NAME

SCORED = ("psnr", "ssim", "lpips", "fps", "mb", "gaussians")
"""Figures of tables that a run's scores hold under the same names."""

NO_LPIPS = f"LPIPS is left out: name the weights {LPIPS_WEIGHTS} in {WEIGHTS_VARIABLE}."


@dataclass(frozen=True)
class Result:
    """A table that was measured."""

    table: PaperTable
    lines: Sequence[Line]
    columns: tuple[str, ...]
    """Names of the figures that any of its lines has."""
    remarks: Sequence[str]
    """What a reader has to know of how it was made."""
    findings: Sequence[str]


def trainings_of(table: PaperTable, study: Study) -> Iterator[Trainings]:
    """The trainings of a table, scene by scene and seed by seed."""
    for seed in study.seeds or table.seeds:
        for scene in study.scenes:
            yield Trainings(study, table.data_set, scene, seed)


def planned_jobs(tables: Mapping[str, PaperTable], study: Study) -> dict[TrainingJob, list[str]]:
    """All trainings that tables need, as far as is known by now, in their order, and the names of
    the tables that each is for; tables share trainings of the same settings."""
    found: dict[TrainingJob, list[str]] = {}
    for name, table in tables.items():
        for trainings in trainings_of(table, study):
            for job in (job for stage in table.stages(trainings) for job in stage):
                names = found.setdefault(job, [])
                names += [] if name in names else [name]
    return found


def train_all(tables: Sequence[PaperTable], study: Study, executor: Executor) -> None:
    """Train what tables need and is not finished, the trainings of each stage side by side.

    A training that fails is told; those that need it are left out, the others go on.
    """
    stages = [t.stages(trainings) for t in tables for trainings in trainings_of(t, study)]
    finished: set[Path] = set()
    tried: set[Path] = set()
    number = 0
    while stages:
        asked = [(each, next(each, None)) for each in stages]
        stages = [each for each, stage in asked if stage is not None]
        jobs = {job.folder: job for _, stage in asked for job in stage or ()}
        finished |= {path for path in jobs if path not in finished and _is_finished(path)}
        missing = [job for path, job in jobs.items() if path not in finished | tried]
        ready = [job for job in missing if all(map(_is_finished, runs_needed(job)))]
        tried |= set(jobs)
        if not ready:
            continue
        number += 1
        CONSOLE.rule(f"Stage {number}: {len(ready)} trainings")
        try:
            executor.train_all(ready, _print_end)
        except RuntimeError as error:
            CONSOLE.print(f"Left out of the tables: {error}", soft_wrap=True, markup=False)


def runs_needed(job: TrainingJob) -> list[Path]:
    """Folders of the runs that a training's options name."""
    paths = (Path(word) for word in job.options)
    return [path.parent for path in paths if path.name == CONFIG_NAME]


def _is_finished(folder: Path) -> bool:
    return progress_of(folder).is_finished


def _print_end(training: TrainingJob, seconds: float) -> None:
    CONSOLE.print(f"{training.label}: {duration(seconds)}, {training.folder}", soft_wrap=True)


def results_of(tables: Sequence[PaperTable], study: Study) -> list[Result]:
    """Score the runs of tables where that is missing, and make the tables.

    Raises:
        RuntimeError: no run of any table has scores.
    """
    entries = {
        table.number: [
            (entry, trainings)
            for trainings in trainings_of(table, study)
            for entry in table.entries(trainings)
        ]
        for table in tables
    }
    every = [entry for pairs in entries.values() for entry, _ in pairs]
    there = dict.fromkeys(e.job.folder for e in every if _is_finished(e.job.folder))
    timed = dict.fromkeys(e.job.folder for e in every if e.way and e.job.folder in there)
    score_all(list(there), list(timed))
    results = [result_of(table, study, entries[table.number]) for table in tables]
    if not any(result.lines for result in results):
        raise RuntimeError(
            "None of the trainings of these tables was finished and scored, so there is nothing to "
            "write; the reasons are above. Give the same command again to go on."
        )
    return results


def result_of(
    table: PaperTable, study: Study, entries: Sequence[tuple[Entry, Trainings]]
) -> Result:
    """A table from its runs, as far as they have scores."""
    cells, lost = [], []
    for entry, trainings in entries:
        figures = figures_of(entry)
        if figures is None:
            lost.append(f"{entry.label} of {trainings.scene.name}, seed {trainings.seed}")
            continue
        place = (entry.label, trainings.scene.name, trainings.seed)
        cells.append(Cell(*place, figures, entry.has_paper_row, entry.members))
    scenes = [scene.name for scene in study.scenes]
    lines = lines_of(cells, scenes, published_table(table.number))
    known = {name for line in lines for name in line.figures}
    columns = tuple(name for name in (*table.figures, *BESIDE) if name in known)
    remarks = remarks_of(table, study, lost)
    if cells and "lpips" in table.figures and "lpips" not in known:
        remarks.append(NO_LPIPS)
    runs: list[Row] = [
        {"label": cell.label, "scene": cell.scene, "seed": cell.seed, **cell.figures}
        for cell in cells
    ]
    return Result(table, lines, columns, remarks, table.findings(lines, runs) if lines else [])


def figures_of(entry: Entry) -> dict[str, float] | None:
    """The figures of a run that are known; None if it has no scores."""
    score = score_of(entry.job.folder)
    if score is None:
        return None
    if entry.score != "psnr":
        return {"psnr": float(score[entry.score])} if score[entry.score] is not None else None
    figures = {name: float(score[name]) for name in SCORED if score[name] is not None}
    if entry.way is not None:
        figures.pop("fps", None)
        fps = fps_of_ways(entry.job.folder).get(entry.way)
        figures |= {} if fps is None else {"fps": fps}
    beside = score if entry.experts_of is None else score_of(entry.experts_of.folder)
    if beside is not None and beside["psnr_best_expert"] is not None:
        figures["gain_best"] = score["psnr"] - beside["psnr_best_expert"]
        figures["gain_average"] = score["psnr"] - beside["psnr_average"]
    if score["expert_seconds"] and score["train_seconds"] is not None:
        figures["router_share"] = score["train_seconds"] / score["expert_seconds"]
    return {**figures, **entry.more}


def remarks_of(table: PaperTable, study: Study, lost: Sequence[str]) -> list[str]:
    """How a table was made, as far as it is not the paper's way, and what is missing."""
    remarks = [f"The paper's figures are of {table.data_set}."]
    published = published_table(table.number)
    theirs = {plain_name(name) for name in published.scenes}
    if not published.rows:
        remarks[0] = "The paper has no figures of this."
    elif not any(plain_name(scene.name) in theirs for scene in study.scenes):
        names = ", ".join(scene.name for scene in study.scenes)
        remarks[0] = f"The paper's figures are of {table.data_set}, ours of {names}: compare gains."
    if study.budget != 1.0 or study.router_budget != 1.0:
        remarks.append(
            f"A quick look: experts have {study.budget:g} of their steps, routers "
            f"{study.router_budget:g}."
        )
    seeds = study.seeds or table.seeds
    remarks.append(
        "One seed." if len(seeds) == 1 else f"{len(seeds)} seeds; ± is their standard deviation."
    )
    if study.has_own_set:
        remarks.append(f"Experts: {', '.join(study.set_of('n3'))}.")
    if study.recipe == "published":
        remarks += fallbacks(table, study)
    if lost:
        remarks.append(f"Left out, since they have no scores: {'; '.join(lost)}.")
    return remarks


def fallbacks(table: PaperTable, study: Study) -> list[str]:
    """Which methods of a table were not published for its data set, in a sentence."""
    trainings = Trainings(study, table.data_set, study.scenes[0], 0)
    methods = {job.method for stage in table.stages(trainings) for job in stage}
    own = sorted(m for m in methods if not m.endswith(f"-{variant_of(table.data_set)}"))
    return (
        [
            f"No variant for {table.data_set} was published of {', '.join(own)}: this project's "
            "defaults stand in (docs/defaults.md)."
        ]
        if own
        else []
    )
