"""Multi-view depth consistency (Eq. 16) of trained runs on equal cameras: of experts, mixtures and
fused sets, by expected and by median depth.

python benchmarks/depth_consistency.py --runs RUN_ROUTER RUN_STUDENT --frames 10 --cameras 8
"""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from moegs_ns.engine.pipeline import load_pipeline
from moegs_ns.evaluation.tables import write_results
from moegs_ns.reports.depth_consistency import depth_rows
from moegs_ns.runs.checkpoint import open_run


@dataclass
class Depth:
    """Compare runs of one scene; those of a mixture's experts come with it."""

    runs: tuple[Path, ...]
    """config.yml or folder of each run."""
    frames: int = 10
    """Instants, spread evenly over the clip."""
    cameras: int = 8
    """Cameras at each instant, spread evenly over the rig."""
    fuse_views: int | None = None
    """Training images to measure responsibilities of fused sets on; None for what a run keeps, or
    all."""
    name: str = "depth_consistency"
    """Name of the results file."""
    results_dir: Path = Path(__file__).parent / "results"

    def main(self) -> None:
        """Render, compare, write."""
        rows, command = [], shlex.join(["python", *sys.argv])
        for path in self.runs:
            run = open_run(path)
            pipeline = load_pipeline(run)
            method, seed = run.config.method_name, run.config.machine.seed
            for row in depth_rows(pipeline, self.frames, self.cameras, self.fuse_views):
                rows.append({"method": method, "seed": seed, "run": run.config.timestamp} | row)
                print(
                    f"{method} {row['name']}, {row['depth']} depth: {row['mdc_world']:.4g} world "
                    f"units {row['reason']}",
                    flush=True,
                )
                # Written after every row, so that nothing is lost if the time runs out.
                write_results(self.results_dir / f"{self.name}.json", rows, command)
            del pipeline
            torch.cuda.empty_cache()


if __name__ == "__main__":
    tyro.cli(Depth, description=__doc__).main()
