"""Prune a trained mixture by every criterion and score it on held-out views.

    python benchmarks/pruning.py --name pruning --run outputs/benchmark/NAME/moegs-router/seed-0

One-shot pruning is measured as it is, without training afterwards. With `--rounds 1 5` each
criterion and ratio is also pruned by `ns-train`, in one and in five rounds, with the router trained
on:

    python benchmarks/pruning.py --name pruning_trained --run RUN --rounds 1 5 --criteria \\
        gate-gradient gated-contribution --parser panoptic-data --parser-options="--frames 0 66"
"""

import shlex
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro
from measure import RESULTS, UNSEEN, write_results
from pictures import PictureSheet, middle, run_pictures

from moegs_ns.cameras import single_views
from moegs_ns.engine.pipeline import load_pipeline
from moegs_ns.launch.jobs import TrainingJob, train_side_by_side
from moegs_ns.mixture.importance import CRITERIA, CriterionName, Importance
from moegs_ns.mixture.prune import prune
from moegs_ns.models.mixture_model import MixtureModel
from moegs_ns.reports.scores import Score, print_scores, score_pipeline, score_run
from moegs_ns.runs.checkpoint import Run, open_run

METHOD = "moegs-router"


@dataclass
class Pruning:
    """Every criterion at every ratio, on one trained mixture."""

    name: str
    """Name of the results file."""
    run: Path
    """config.yml or folder of the mixture's run."""
    ratios: tuple[float, ...] = (0.25, 0.55, 0.75, 0.9)
    """Shares of the Gaussians to remove; nothing removed is always measured."""
    criteria: tuple[CriterionName, ...] = tuple(CRITERIA)
    per_expert: bool = False
    """Remove the same share of every expert."""
    max_views: int | None = None
    """Training images to measure importance on, spread evenly; None for all."""
    seed: int = 0
    """Of the random criterion."""
    rounds: tuple[int, ...] = ()
    """Also prune by `ns-train` in so many rounds, with the router trained in between."""
    router_budget: float = 1.0
    """Share of the published steps of the router that these trainings get."""
    parser: str = "n3v-data"
    """Parser of these trainings."""
    parser_options: str = ""
    train_options: str = ""
    """Further options of these trainings, for example --val-cameras."""
    output_dir: Path = Path("outputs/pruning")
    """Folder of these trainings."""
    results_dir: Path = RESULTS
    pictures_dir: Path | None = None
    """Where a sheet of one held-out image at every criterion and ratio goes; None for none."""

    def main(self) -> None:
        """Measure, prune, score; the table is written after every row."""
        run, rows = open_run(self.run), []
        command = shlex.join(["python", *sys.argv])
        for row in self.rows(run):
            rows.append(row)
            write_results(self.name, rows, command, self.results_dir)
            print({key: row[key] for key in ("criterion", "ratio", "rounds", "psnr", "gaussians")})
        print((self.results_dir / f"{self.name}.md").read_text())

    def rows(self, run: Run) -> Iterator[dict[str, Any]]:
        """Rows of the table, the mixture as it is first."""
        pipeline = load_pipeline(run)
        model = pipeline.model
        if not isinstance(model, MixtureModel):
            raise SystemExit(f"Expected the run of a mixture, but {run.config_path} is none.")
        whole = model.mixture
        sheet = PictureSheet(self.pictures_dir and self.pictures_dir / f"{self.name}.jpg")
        place = middle(pipeline)
        score = score_pipeline(run, pipeline)
        print_scores([score])
        yield row_of(score, "none", 0.0)
        unpruned = run_pictures(pipeline, place, with_experts=False)
        for criterion in self.criteria:
            shown = {"truth": unpruned["truth"], "0 %": unpruned["picture"]}
            importance = self.measure(model, criterion, pipeline.datamanager.train_dataset.cameras)
            for ratio in self.ratios:
                try:
                    model.mixture = prune(whole, self.choose(importance, ratio))
                except ValueError as error:
                    print(f"{criterion} at {ratio:g} is left out: {error}")
                    continue
                score = score_pipeline(run, pipeline)
                yield row_of(score, criterion, ratio, saturated=importance.saturated_fraction)
                picture = run_pictures(pipeline, place, with_experts=False)["picture"]
                shown[f"{100 * ratio:g} %"] = picture
                for count in self.rounds:
                    yield row_of(self.train(criterion, ratio, count), criterion, ratio, count)
            model.mixture = whole
            sheet.add(criterion, shown)

    def measure(self, model: MixtureModel, criterion: CriterionName, cameras: Any) -> Importance:
        """Importance of every Gaussian by a criterion."""
        views = single_views(cameras, model.device, self.max_views)
        return CRITERIA[criterion].measure(model.mixture, views, self.seed)

    def choose(self, importance: Importance, ratio: float):
        """Which Gaussians stay at a ratio."""
        counts = [len(values) for values in importance.values]
        if self.per_expert:
            return importance.best_per_expert([round((1.0 - ratio) * count) for count in counts])
        return importance.best(round((1.0 - ratio) * sum(counts)))

    def train(self, criterion: CriterionName, ratio: float, rounds: int) -> Score:
        """Prune in rounds by `ns-train` and score the run."""
        views = [] if self.max_views is None else [str(self.max_views)]
        training = TrainingJob(
            method=METHOD,
            options=(
                "--router", str(self.run), "--prune-ratio", str(ratio),
                "--prune-criterion", criterion, "--prune-rounds", str(rounds),
                "--prune-per-expert", str(self.per_expert),
                *(["--pipeline.model.prune.max-views", *views] if views else []),
                *shlex.split(self.train_options),
            ),
            data=self.data(),
            parser=(self.parser, *shlex.split(self.parser_options)),
            budget=self.router_budget,
            seed=self.seed,
            output_dir=self.output_dir,
            experiment=self.name,
            name=f"{criterion}-{ratio:g}-{rounds}",
            without_effect=UNSEEN,
        )  # fmt: skip
        train_side_by_side([training])
        return score_run(open_run(training.folder))

    def data(self) -> Path:
        """Folder of the scene that the mixture was trained on."""
        datamanager = open_run(self.run).config.pipeline.datamanager
        return datamanager.data or datamanager.dataparser.data


def row_of(
    score: Score,
    criterion: str,
    ratio: float,
    rounds: int = 0,
    saturated: float | None = None,
) -> dict[str, Any]:
    """One row; 0 rounds stand for one-shot pruning without training afterwards."""
    own = {"criterion": criterion, "ratio": ratio, "rounds": rounds, "saturated_share": saturated}
    values = asdict(score)
    if saturated is None:
        words = [values["reason"], "saturated_share: measured by gate-gradient in one shot only"]
        values["reason"] = "; ".join(word for word in words if word)
    return own | values


if __name__ == "__main__":
    tyro.cli(Pruning, description=__doc__).main()
