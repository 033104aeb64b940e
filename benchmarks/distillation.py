"""Teach students by a trained mixture at equal budgets, against students of ground truth alone.

    python benchmarks/distillation.py --teacher RUN/config.yml --data DATA/panoptic_basketball \
        --parser panoptic-data --parser-options="--frames 0 66" --methods moegs-stg \
        --budget 0.2 --seeds 0 1 2

Every student is trained from scratch, with the same seeds for each way of supervision. The teacher
must not have seen the views that are scored.
"""

import json
import shlex
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from pictures import PictureSheet, middle, run_pictures
from validation import SCORES, run_module

from moegs_ns.engine.pipeline import load_pipeline
from moegs_ns.evaluation.tables import write_results
from moegs_ns.runs.checkpoint import open_run

OWN = "--pipeline.model.distillation."
SUPERVISIONS = {
    "ground-truth": (),
    "unweighted": (f"{OWN}weighting", "unweighted"),
    "gate-weighted": (),
    "gate-weighted, normalized": (f"{OWN}normalize", "True"),
}
"""Ways to be taught and their options; all but the first have the teacher."""
FIGURES = ("psnr", "psnr_dynamic", "ssim", "lpips", "gaussians", "train_seconds")


@dataclass
class Distillation:
    """Students by family, supervision and seed."""

    teacher: Path
    """config.yml of the mixture."""
    data: Path
    parser: str
    methods: tuple[str, ...]
    """Families of students; each needs an expert of its family in the teacher."""
    parser_options: str = ""
    supervisions: tuple[str, ...] = tuple(SUPERVISIONS)
    """Which of the ways above to compare."""
    lam: float = 0.5
    """Share of the ground truth."""
    budget: float = 0.2
    seeds: tuple[int, ...] = (0, 1, 2)
    train_options: str = ""
    """Further options of every training, for example --val-cameras."""
    method_options: tuple[str, ...] = ()
    """Further options of single families, each 'METHOD: options'."""
    at_once: int = 4
    """Students that are trained side by side at most; 1 on a CPU."""
    name: str = "distillation"
    """Name of the results file; that of single runs ends in _runs."""
    output_dir: Path = Path("outputs/benchmark")
    results_dir: Path = Path(__file__).parent / "results"
    pictures_dir: Path | None = None
    """Where a sheet of students beside their teacher goes, on one held-out image; None for none."""

    def main(self) -> None:
        """Train, score, write."""
        unknown = set(self.supervisions) - set(SUPERVISIONS)
        if unknown:
            raise ValueError(f"Expected supervisions {list(SUPERVISIONS)}, got {sorted(unknown)}.")
        jobs = [
            (method, supervision, seed)
            for seed in self.seeds
            for method in self.methods
            for supervision in self.supervisions
        ]
        with ThreadPoolExecutor(self.at_once) as pool:
            done = pool.map(
                lambda place: self.train_and_score(place, *jobs[place]), range(len(jobs))
            )
            rows, command = [], shlex.join(["python", *sys.argv])
            for row in done:
                if row is not None:
                    rows.append(row)
                    # Written after every student, so that nothing is lost if the time runs out.
                    write_results(self.results_dir / f"{self.name}_runs.json", rows, command)
                    write_results(self.results_dir / f"{self.name}.json", summary(rows), command)
        print((self.results_dir / f"{self.name}.md").read_text())
        if self.pictures_dir is not None:
            self.save_pictures(self.pictures_dir / f"{self.name}.jpg")

    def folder(self, method: str, supervision: str, seed: int) -> Path:
        """Folder of a student's run."""
        name = f"{supervision.replace(', ', '-')}-seed-{seed}"
        return self.output_dir / self.name / method / name

    def save_pictures(self, path: Path) -> None:
        """One row per family: truth, teacher, and the students of the first seed by supervision."""
        sheet, teacher = PictureSheet(path), load_pipeline(open_run(self.teacher))
        place = middle(teacher)
        taught = run_pictures(teacher, place, with_experts=False)
        for method in self.methods:
            shown = {"truth": taught["truth"], "teacher": taught["picture"]}
            for supervision in self.supervisions:
                folder = self.folder(method, supervision, self.seeds[0])
                if (folder / SCORES).is_file():
                    student = load_pipeline(open_run(folder))
                    shown[supervision] = run_pictures(student, place)["picture"]
            sheet.add(method, shown)

    def words(self, method: str, supervision: str, seed: int) -> list[str]:
        """Module and options that train a student."""
        own = dict(words.split(":", 1) for words in self.method_options)
        taught = ("--teacher", str(self.teacher), f"{OWN}lam", str(self.lam))
        return [
            "nerfstudio.scripts.train", method, "--budget", str(self.budget),
            *(() if supervision == "ground-truth" else taught), *SUPERVISIONS[supervision],
            *shlex.split(self.train_options), *shlex.split(own.get(method, "")),
            "--output-dir", str(self.output_dir), "--experiment-name", self.name, "--timestamp",
            self.folder(method, supervision, seed).name, "--machine.seed", str(seed),
            "--vis", "tensorboard", "--steps-per-eval-image", "0", "--data", str(self.data),
            self.parser, *shlex.split(self.parser_options),
        ]  # fmt: skip

    def train_and_score(
        self, place: int, method: str, supervision: str, seed: int
    ) -> dict[str, Any] | None:
        """Row of one student; None if it failed, with the end of its log printed."""
        run = self.folder(method, supervision, seed)
        run.mkdir(parents=True, exist_ok=True)
        train = self.words(method, supervision, seed)
        score = ["moegs_ns.scripts.main", "report", str(run), "--output-path", str(run / SCORES)]
        # A student that was finished before is only scored again.
        is_trained = (run / "training.json").is_file()
        for module in (score,) if is_trained else (train, score):
            if run_module(module, place, run / "log.txt") != 0:
                print(
                    f"{method} {run.name} failed:",
                    (run / "log.txt").read_text()[-2000:],
                    flush=True,
                )
                return None
        row = json.loads((run / SCORES).read_text())["rows"][0]
        print(f"{method} {run.name}: {row['psnr']:.2f} dB", flush=True)
        return {"supervision": supervision, **row}


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over seeds by family and supervision, with the spread of PSNR; the gain in it is over
    plain students of the same seeds."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["method"], row["supervision"]), []).append(row)
    found = []
    for (method, supervision), group in groups.items():
        means = {name: _mean([row[name] for row in group]) for name in FIGURES}
        plain = {row["seed"]: row["psnr"] for row in groups.get((method, "ground-truth"), [])}
        scores = [row["psnr"] for row in group]
        gains = [row["psnr"] - plain[row["seed"]] for row in group if row["seed"] in plain]
        gain = statistics.mean(gains) if gains else None
        found.append(
            {"method": method, "kind": group[0]["kind"], "supervision": supervision, **means}
            | {"psnr_spread": statistics.stdev(scores) if len(scores) > 1 else None}
            | {"gain": gain, "n": len(group), "seeds": [row["seed"] for row in group]}
            | {"options": group[0]["options"], "reason": _reason(group, bool(gains))}
        )
    return found


def _mean(values: Sequence[float | None]) -> Any:
    known = [value for value in values if value is not None]
    return statistics.mean(known) if len(known) == len(values) else None


def _reason(group: Sequence[dict[str, Any]], has_plain: bool) -> str:
    reasons = [group[0]["reason"]]
    if len(group) == 1:
        reasons.append("psnr_spread: one seed")
    if not has_plain:
        reasons.append("gain: ground-truth was not trained with these seeds")
    return "; ".join(reason for reason in reasons if reason)


if __name__ == "__main__":
    tyro.cli(Distillation, description=__doc__).main()
