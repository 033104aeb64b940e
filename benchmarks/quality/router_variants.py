"""Train several routers over the same experts and score them on held-out views (Table 4).

    python -m benchmarks.quality.router_variants --name router_variants \
        --data DATA/panoptic_basketball --parser panoptic-data --parser-options="--frames 0 66" \
        --experts outputs/benchmark/basketball/moegs-stg/seed-0 \
                  outputs/benchmark/basketball/moegs-4dgaussians/seed-0

Choices among them belong on validation cameras (`--train-options="--val-cameras 4 12"`) that the
experts were trained without.
"""

import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro

from benchmarks.quality.image_sheets import ERROR, ImageSheet, error, middle_index, run_images
from benchmarks.trainings import Trainings, num_gpus
from moegs_ns.engine.trainer import MoegsPipeline, load_pipeline
from moegs_ns.evaluation.tables import Row
from moegs_ns.launch.executors import LocalExecutor
from moegs_ns.launch.jobs import TrainingJob
from moegs_ns.mixture.fuse import fused_image
from moegs_ns.models.stacking import WITHOUT
from moegs_ns.reports.analysis import flicker_rows
from moegs_ns.reports.fusion import fused_psnr, measured, mixture_model
from moegs_ns.reports.held_out import held_out
from moegs_ns.reports.scores import score_run
from moegs_ns.runs.checkpoint import open_run

ROUTER = " ".join(("moegs-router", *WITHOUT))
"""With gates as they are trained, since the others' are too."""
SHAPE = f"{ROUTER} --pipeline.model.router."
VARIANTS = (
    "pixel router: moegs-pixel-router",
    "volume router: moegs-volume-router",
    f"volume-aware pixel router: {ROUTER}",
    f"without w_dir: {SHAPE}direction-weights False",
    f"without w_time: {SHAPE}time-weights False",
    f"without refinement: {SHAPE}refine False",
    f"refinement 3x3: {SHAPE}kernel-size 3",
    f"smooth gates: {ROUTER} --pipeline.model.recipe.weight-gate-change 0.1",
)
FLICKER_PAIRS = 60
FUSED = "volume-aware pixel router"
"""The variant that is also fused into one set of Gaussians."""


@dataclass(frozen=True, kw_only=True)
class RouterVariants(Trainings):
    """One training for each variant and seed; experts are scored beside them."""

    experts: tuple[Path, ...]
    """Runs of the experts."""
    variants: tuple[str, ...] = VARIANTS
    """Each 'NAME: METHOD [options]'."""
    fuse: bool = True
    """Also score the fused set of the Volume-aware Pixel Router's mixture."""
    at_once: int = 1
    """Trainings side by side on each GPU."""

    def rows(self) -> Iterator[Row]:
        """Rows of the experts, then of all variants seed by seed, each after its training."""
        for path in self.experts:
            score = score_run(open_run(path))
            yield {"variant": score.method} | asdict(score)
        sheet = ImageSheet(self.sheet_path())
        jobs = [(variant, seed) for seed in self.seeds for variant in self.variants]
        step = self.at_once * num_gpus()
        for first in range(0, len(jobs), step):
            batch = jobs[first : first + step]
            LocalExecutor(self.at_once).train_all([self.variant(*job) for job in batch])
            for job in batch:
                yield from self.scores(*job, sheet)

    def variant(self, text: str, seed: int) -> TrainingJob:
        """The training of a variant."""
        name, _, args = text.partition(":")
        method, *options = shlex.split(args)
        options = (*options, "--experts", *map(str, self.experts))
        return self.job(method, f"{name.replace(' ', '_')}-{seed}", seed, options)

    def scores(self, text: str, seed: int, sheet: ImageSheet) -> Iterator[Row]:
        """The row of a trained variant, and that of its fused set."""
        name, _, _ = text.partition(":")
        run = open_run(self.variant(text, seed).folder)
        pipeline = load_pipeline(run)
        row = {"variant": name} | asdict(score_run(run, pipeline))
        row["gate_change"] = gate_flicker(pipeline)
        print(f"{name}, seed {seed}: {row['psnr']:.2f} dB", flush=True)
        yield row
        index = middle_index(pipeline)
        shown = run_images(pipeline, index, with_experts=False)
        sheet.add(f"{name}, seed {seed}", shown)
        if self.fuse and name == FUSED:
            weights = measured(pipeline).values
            figures = fused_psnr(pipeline, weights)
            view, _, _ = held_out(pipeline, index)
            fused = fused_image(mixture_model(pipeline).mixture, weights, view)
            truth = shown["truth"]
            sheet.add("fused", {"truth": truth, "image": fused, ERROR: error(fused, truth)})
            measured_too = {"psnr", "psnr_best_expert"}
            missing = [
                name
                for name in row
                if name in ("ssim", "lpips", "fps")
                or (name.startswith("psnr") and name not in measured_too)
            ]
            yield row | dict.fromkeys(missing) | {
                "variant": f"{name}, fused", "kind": "fused", "psnr": figures,
                "reason": f"{', '.join(missing)}: only PSNR is measured of fused sets",
            }  # fmt: skip


def gate_flicker(pipeline: MoegsPipeline) -> float | None:
    """Change of the gates from frame to frame where nothing moves; None without such frames."""
    rows = flicker_rows(pipeline, mixture_model(pipeline), FLICKER_PAIRS)
    changes = {row["name"]: row["change"] for row in rows}
    return changes.get("gates")


if __name__ == "__main__":
    tyro.cli(RouterVariants, description=__doc__).main()
