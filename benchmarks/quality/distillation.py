"""Students taught by a trained mixture at equal budgets, against students of ground truth alone.

    python -m benchmarks.quality.distillation --teacher RUN/config.yml \
        --data DATA/panoptic_basketball --parser panoptic-data \
        --parser-options="--frames 0 66" --methods moegs-stg --budget 0.2 --seeds 0 1 2

Every student is trained from scratch, with the same seeds for each way of supervision. The teacher
must not have seen the views that are scored.
"""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import tyro

from benchmarks.quality.image_sheets import ImageSheet, middle_index, run_images
from benchmarks.trainings import Trainings, num_gpus, own_options, train_and_report_all
from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.evaluation.tables import Row
from moegs_ns.launch.jobs import TrainingJob, progress_of
from moegs_ns.paper.trainings import DISTILLATION, SUPERVISIONS
from moegs_ns.runs.checkpoint import open_run

FIGURES = ("psnr", "psnr_dynamic", "ssim", "lpips", "gaussians", "train_seconds")


@dataclass(frozen=True, kw_only=True)
class Distillation(Trainings):
    """Students by family, supervision and seed; single runs are in a second table, NAME_runs."""

    teacher: Path
    """config.yml or folder of the mixture."""
    methods: tuple[str, ...]
    """Families of students; each needs an expert of its family in the teacher."""
    name: str = "distillation"
    supervisions: tuple[str, ...] = tuple(SUPERVISIONS)
    """Which ways to be taught are compared."""
    lam: float = 0.5
    """Weight of the ground truth."""
    budget: float = 0.2
    seeds: tuple[int, ...] = (0, 1, 2)
    method_options: tuple[str, ...] = ()
    """Further options of single families, each 'METHOD: options'."""
    at_once: int | None = None
    """Students that are trained side by side at most; None for two on each GPU."""

    def rows(self) -> Iterator[Row | None]:
        if unknown := set(self.supervisions) - set(SUPERVISIONS):
            raise ValueError(f"Expected supervisions {list(SUPERVISIONS)}, got {sorted(unknown)}.")
        jobs = {key: self.student(*key) for key in self.settings()}
        done = train_and_report_all(list(jobs.values()), self.at_once or 2 * num_gpus())
        for (_, supervision, _), row in zip(jobs, done, strict=True):
            yield row and {"supervision": supervision, **row}
        if path := self.sheet_path():
            self.save_images(path)

    def write(self, rows: Sequence[Row], suffix: str = "") -> None:
        """Write the table of single runs, and that of their means."""
        super().write(rows, "_runs")
        super().write(summary(rows))

    def settings(self) -> list[tuple[str, str, int]]:
        """Method, supervision and seed of every student."""
        keys = product(self.seeds, self.methods, self.supervisions)
        return [(method, supervision, seed) for seed, method, supervision in keys]

    def student(self, method: str, supervision: str, seed: int) -> TrainingJob:
        """The training of a student."""
        taught = ("--teacher", str(self.teacher), f"{DISTILLATION}lam", str(self.lam))
        own = own_options(self.method_options, self.methods, "--method-options")[method]
        options = () if supervision == "ground-truth" else taught
        name = f"{supervision.replace(', ', '-')}-seed-{seed}"
        return self.job(method, name, seed, (*options, *SUPERVISIONS[supervision], *own))

    def save_images(self, path: Path) -> None:
        """One row per family: truth, teacher, and the students of the first seed by supervision."""
        sheet, teacher = ImageSheet(path), load_pipeline(open_run(self.teacher))
        index = middle_index(teacher)
        taught = run_images(teacher, index, with_experts=False)
        for method in self.methods:
            shown = {"truth": taught["truth"], "teacher": taught["image"]}
            for supervision in self.supervisions:
                folder = self.student(method, supervision, self.seeds[0]).folder
                if progress_of(folder).is_finished:
                    student = load_pipeline(open_run(folder))
                    shown[supervision] = run_images(student, index)["image"]
            sheet.add(method, shown)


def summary(rows: Sequence[Row]) -> list[Row]:
    """Means over seeds by family and supervision, with the spread of PSNR; the gain in it is over
    plain students of the same seeds."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["method"], row["supervision"]), []).append(row)
    found = []
    for (method, supervision), group in groups.items():
        plain = {row["seed"]: row["psnr"] for row in groups.get((method, "ground-truth"), [])}
        scores = [row["psnr"] for row in group]
        gains = [row["psnr"] - plain[row["seed"]] for row in group if row["seed"] in plain]
        reasons = [
            group[0]["reason"],
            "psnr_spread: one seed" if len(group) == 1 else "",
            "" if gains else "gain: ground-truth was not trained with these seeds",
        ]
        found.append(
            {"method": method, "kind": group[0]["kind"], "supervision": supervision}
            | {name: _mean([row[name] for row in group]) for name in FIGURES}
            | {"psnr_spread": statistics.stdev(scores) if len(scores) > 1 else None}
            | {"gain": _mean(gains), "n": len(group), "seeds": [row["seed"] for row in group]}
            | {"options": group[0]["options"], "reason": "; ".join(filter(None, reasons))}
        )
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    """None unless all are known."""
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known and len(known) == len(values) else None


if __name__ == "__main__":
    tyro.cli(Distillation, description=__doc__).main()
