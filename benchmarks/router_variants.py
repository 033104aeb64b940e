"""Train several routers over the same experts and score them on held-out views (Table 4).

    python benchmarks/router_variants.py --name router_variants --data DATA/panoptic_basketball \\
        --parser panoptic-data --parser-options="--frames 0 66" \\
        --experts outputs/benchmark/basketball/moegs-stg/seed-0 \\
                  outputs/benchmark/basketball/moegs-4dgaussians/seed-0

Choices among them belong on validation cameras (`--train-options="--val-cameras 4 12"`) that the
experts were trained without.
"""

import shlex
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro
from measure import RESULTS, UNSEEN, write_results
from pictures import ERROR, PictureSheet, error, middle, run_pictures

from moegs_ns.engine.pipeline import load_pipeline
from moegs_ns.launch.jobs import TrainingJob, train_side_by_side, visible_devices
from moegs_ns.mixture.fuse import fused_image
from moegs_ns.reports.fusion import fused_psnr, measured, mixture_model
from moegs_ns.reports.held_out import held_out
from moegs_ns.reports.scores import score_pipeline, score_run
from moegs_ns.runs.checkpoint import open_run

SHAPE = "moegs-router --pipeline.model.router."
VARIANTS = (
    "pixel router: moegs-pixel-router",
    "volume router: moegs-volume-router",
    "volume-aware pixel router: moegs-router",
    f"without w_dir: {SHAPE}direction-weights False",
    f"without w_time: {SHAPE}time-weights False",
    f"without refinement: {SHAPE}refine False",
    f"refinement 3x3: {SHAPE}kernel-size 3",
    "smooth gates: moegs-router --pipeline.model.recipe.weight-gate-change 0.1",
)
FUSED = "volume-aware pixel router"
"""The variant that is also fused into one set of Gaussians."""


@dataclass
class RouterVariants:
    """One training for each variant and seed; experts are scored beside them."""

    name: str
    """Name of the results file."""
    experts: tuple[Path, ...]
    """Runs of the experts."""
    data: Path
    parser: str
    """nerfstudio's name of the parser."""
    parser_options: str = ""
    """Options of the parser as they would be typed, for example "--frames 0 66"."""
    variants: tuple[str, ...] = VARIANTS
    """Each 'NAME: METHOD [options]'."""
    budget: float = 1.0
    """Share of the published steps of the routers."""
    seeds: tuple[int, ...] = (0,)
    train_options: str = ""
    """Further options of every training, for example --val-cameras."""
    fuse: bool = True
    """Also score the fused set of the Volume-aware Pixel Router's mixture."""
    at_once: int = 1
    """Trainings side by side on each GPU."""
    output_dir: Path = Path("outputs/router_variants")
    results_dir: Path = RESULTS
    pictures_dir: Path | None = None
    """Where a sheet of the gates of every variant goes, on one held-out image; None for none."""

    def main(self) -> None:
        """Train, score, write; the table is written after every row."""
        rows, command = [], shlex.join(["python", *sys.argv])
        for row in self.rows():
            rows.append(row)
            write_results(self.name, rows, command, self.results_dir)
            print(f"{row['variant']}, seed {row['seed']}: {row['psnr']:.2f} dB", flush=True)
        print((self.results_dir / f"{self.name}.md").read_text())

    def rows(self) -> Iterator[dict[str, Any]]:
        """Rows of the table: experts, then all variants seed by seed, each after its training."""
        for path in self.experts:
            score = score_run(open_run(path))
            yield {"variant": score.method} | asdict(score)
        sheet = PictureSheet(self.pictures_dir and self.pictures_dir / f"{self.name}.jpg")
        jobs = [(variant, seed) for seed in self.seeds for variant in self.variants]
        step = self.at_once * max(1, len(visible_devices()))
        for first in range(0, len(jobs), step):
            batch = jobs[first : first + step]
            train_side_by_side([self.training(*job) for job in batch], self.at_once)
            for job in batch:
                yield from self.scores(*job, sheet)

    def training(self, variant: str, seed: int) -> TrainingJob:
        """The training of a variant."""
        name, method, options = parsed(variant)
        experts = ["--experts", *map(str, self.experts)]
        return TrainingJob(
            method=method,
            options=(*options, *experts, *shlex.split(self.train_options)),
            data=self.data,
            parser=(self.parser, *shlex.split(self.parser_options)),
            budget=self.budget,
            seed=seed,
            output_dir=self.output_dir,
            experiment=self.name,
            name=f"{name.replace(' ', '_')}-{seed}",
            without_effect=UNSEEN,
        )

    def scores(self, variant: str, seed: int, sheet: PictureSheet) -> Iterator[dict[str, Any]]:
        """The row of a trained variant, and that of its fused set."""
        name, _, _ = parsed(variant)
        run = open_run(self.training(variant, seed).folder)
        pipeline = load_pipeline(run)
        row = {"variant": name} | asdict(score_pipeline(run, pipeline))
        yield row
        place = middle(pipeline)
        shown = run_pictures(pipeline, place, with_experts=False)
        sheet.add(f"{name}, seed {seed}", shown)
        if self.fuse and name == FUSED:
            values = measured(pipeline).values
            figures = fused_psnr(pipeline, values)
            view, _, _ = held_out(pipeline, place)
            fused = fused_image(mixture_model(pipeline).mixture, values, view)
            fused_error = error(fused, shown["truth"])
            sheet.add("fused", {"truth": shown["truth"], "picture": fused, ERROR: fused_error})
            missing = ["psnr_std", "psnr_dynamic", "ssim", "lpips", "fps", "psnr_oracle"]
            yield row | dict.fromkeys(missing) | {
                "variant": f"{name}, fused", "kind": "fused", "psnr": figures,
                "reason": f"{', '.join(missing)}: only PSNR is measured of fused sets",
            }  # fmt: skip


def parsed(variant: str) -> tuple[str, str, list[str]]:
    """Name, method and options of a variant."""
    name, _, words = variant.partition(":")
    method, *options = shlex.split(words)
    return name, method, options


if __name__ == "__main__":
    tyro.cli(RouterVariants, description=__doc__).main()
