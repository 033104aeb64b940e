"""Multi-view depth consistency (Eq. 16) of trained runs on equal cameras: of experts, mixtures and
fused sets, by expected and by median depth. Those of one run are compared over the pixels that all
of them show, so that they rank; rows of different runs do not.

python -m benchmarks.quality.depth_consistency --runs RUN_ROUTER RUN_STUDENT --frames 10 --cameras 8
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from benchmarks.tables import Table
from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.evaluation.tables import Row
from moegs_ns.reports.depth_consistency import depth_rows
from moegs_ns.runs.checkpoint import open_run


@dataclass(frozen=True, kw_only=True)
class Depth(Table):
    """Compare runs of one scene; those of a mixture's experts come with it."""

    runs: tuple[Path, ...]
    """config.yml or folder of each run."""
    name: str = "depth_consistency"
    frames: int = 10
    """Times, spread evenly over the clip."""
    cameras: int = 8
    """Cameras at each time, spread evenly over the rig."""
    fuse_views: int | None = None
    """Training images to measure responsibilities of fused sets on; None for what a run keeps, or
    all."""

    def rows(self) -> Iterator[Row]:
        for path in self.runs:
            run = open_run(path)
            pipeline = load_pipeline(run)
            own = {"method": run.config.method_name, "seed": run.config.machine.seed}
            for row in depth_rows(pipeline, self.frames, self.cameras, self.fuse_views):
                yield own | {"run": run.config.timestamp} | row
            del pipeline
            torch.cuda.empty_cache()


if __name__ == "__main__":
    tyro.cli(Depth, description=__doc__).main()
