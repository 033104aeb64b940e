"""Prune a trained mixture by every criterion and score it on held-out views.

    python -m benchmarks.quality.pruning --name pruning --run RUNS/NAME/moegs-router/seed-0

One-shot pruning is measured as it is, without training afterwards. With `--rounds 1 5` each
criterion and ratio is also pruned by `ns-train`, in one and in five rounds, with the router trained
on:

    python -m benchmarks.quality.pruning --name pruning_trained --run RUN --rounds 1 5 --criteria \\
        gate-gradient gated-contribution --parser panoptic-data --parser-options="--frames 0 66"
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from benchmarks.quality.image_sheets import ImageSheet, middle_index, run_images
from benchmarks.quality.pruning_curve import curve_figure
from benchmarks.trainings import Scene, Trainings
from moegs_ns.cameras import single_views
from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.evaluation.tables import Row
from moegs_ns.launch.executors import LocalExecutor
from moegs_ns.mixture.importance import CRITERIA, CriterionName
from moegs_ns.mixture.pruning_schedule import PruneConfig, PruningSchedule, prune
from moegs_ns.models.mixture_model import MixtureModel
from moegs_ns.reports.pictures import save_picture
from moegs_ns.reports.scores import Score, print_scores, score_run
from moegs_ns.runs.checkpoint import open_run

METHOD = "moegs-router"
THAT_OF_THE_RUN = Scene(Path(), "n3v-data")


@dataclass(frozen=True, kw_only=True)
class Pruning(Trainings):
    """Every criterion at every ratio, on one trained mixture."""

    run: Path
    """config.yml or folder of the mixture's run."""
    ratios: tuple[float, ...] = (0.1, 0.25, 0.4, 0.55, 0.65, 0.75, 0.85, 0.9, 0.95)
    """Fractions of the Gaussians to remove; nothing removed is always measured."""
    criteria: tuple[CriterionName, ...] = tuple(CRITERIA)
    per_expert: bool = False
    """Remove the same fraction of every expert."""
    max_views: int | None = None
    """Training images to measure importance on, spread evenly; None for all."""
    rounds: tuple[int, ...] = ()
    """Also prune by `ns-train` in so many rounds, with the router trained in between."""
    scene: Annotated[Scene, tyro.conf.arg(name="")] = THAT_OF_THE_RUN
    """Of these trainings; their data is always that of the run."""
    budget: float = 1.0
    """Fraction of the published steps of the router that these trainings get."""

    def write(self, rows: Sequence[Row], suffix: str = "") -> None:
        """See base; the curve is drawn beside the table."""
        super().write(rows, suffix)
        if len(rows) > 1:
            save_picture(curve_figure(rows), self.results_dir / f"{self.name}{suffix}.png", dpi=110)

    def rows(self) -> Iterator[Row]:
        """The mixture as it is first."""
        run = open_run(self.run)
        pipeline = load_pipeline(run)
        model = pipeline.model
        if not isinstance(model, MixtureModel):
            raise SystemExit(f"Expected the run of a mixture, but {run.config_path} is none.")
        whole = model.mixture
        sheet = ImageSheet(self.sheet_path())
        index = middle_index(pipeline)
        score = score_run(run, pipeline)
        print_scores([score])
        yield row_of(score, "none", 0.0)
        unpruned = run_images(pipeline, index, with_experts=False)
        for criterion in self.criteria:
            shown = {"truth": unpruned["truth"], "0 %": unpruned["image"]}
            cameras = pipeline.datamanager.train_dataset.cameras
            views = single_views(cameras, model.device, self.max_views)
            measure, own_views = CRITERIA[criterion].measure, model.corrections.views
            importance = measure(whole, views, own_views, self.seeds[0])
            for ratio in self.ratios:
                try:
                    config = PruneConfig(ratio, per_expert=self.per_expert)
                    once = PruningSchedule(config, budget=1.0, seed=self.seeds[0])
                    model.mixture = prune(whole, once.choose(importance))
                except ValueError as error:
                    print(f"{criterion} at {ratio:g} is left out: {error}")
                    continue
                score = score_run(run, pipeline)
                yield row_of(score, criterion, ratio, saturated=importance.saturated_fraction)
                image = run_images(pipeline, index, with_experts=False)["image"]
                shown[f"{100 * ratio:g} %"] = image
                for count in self.rounds:
                    yield row_of(self.train(criterion, ratio, count), criterion, ratio, count)
            model.mixture = whole
            sheet.add(criterion, shown)

    def train(self, criterion: CriterionName, ratio: float, rounds: int) -> Score:
        """Prune in rounds by `ns-train` and score the run."""
        options = [
            "--router", str(self.run), "--prune-ratio", str(ratio), "--prune-criterion", criterion,
            "--prune-rounds", str(rounds), "--prune-per-expert", str(self.per_expert),
        ]  # fmt: skip
        if self.max_views is not None:
            options += ["--pipeline.model.prune.max-views", str(self.max_views)]
        datamanager = open_run(self.run).config.pipeline.datamanager
        data = datamanager.data or datamanager.dataparser.data
        on_its_data = replace(self, scene=replace(self.scene, data=data))
        name = f"{criterion}-{ratio:g}-{rounds}"
        training = on_its_data.job(METHOD, name, self.seeds[0], options)
        LocalExecutor().train_all([training])
        return score_run(open_run(training.folder))


def row_of(
    score: Score, criterion: str, ratio: float, rounds: int = 0, saturated: float | None = None
) -> Row:
    """One row; 0 rounds stand for one-shot pruning without training afterwards."""
    missing = "saturated_fraction: measured by gate-gradient in one shot only"
    if saturated is None:
        score = replace(score, reason="; ".join(filter(None, (score.reason, missing))))
    own = {"criterion": criterion, "ratio": ratio, "rounds": rounds}
    return own | {"saturated_fraction": saturated} | asdict(score)


if __name__ == "__main__":
    tyro.cli(Pruning, description=__doc__).main()
