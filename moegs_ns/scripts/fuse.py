"""`moegs fuse`: one set of Gaussians of a mixture at a time, as a PLY file for any viewer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from nerfstudio.utils.rich_utils import CONSOLE

from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.mixture.fuse import fuse
from moegs_ns.ply import write_ply
from moegs_ns.reports.fusion import fused_psnr, mixture_model, stored_or_measured
from moegs_ns.runs.checkpoint import open_run
from moegs_ns.runs.stored_responsibilities import store_responsibilities


@dataclass
class Fuse:
    """Fuse a mixture into one set of Gaussians at a time: all experts' together, opacities times
    the responsibilities that the gates give them. Any viewer of 3D Gaussians opens the file."""

    run: Annotated[Path, tyro.conf.Positional]
    """config.yml or folder of the run of a mixture."""
    output: Path
    """PLY file to write."""
    time: float = 0.0
    """Time in [0, 1] over the clip."""
    max_views: int | None = None
    """Training images to measure responsibilities on, evenly spaced; None for all of them, or for
    those stored in the run."""
    keep: bool = False
    """Store the responsibilities in the run's checkpoint: later calls need not measure them, and
    the viewer, ns-render and ns-eval show the fused set as an output."""
    measure: bool = False
    """Also render the fused set in all held-out views and print its PSNR."""

    def main(self) -> None:
        """Measure, fuse, write, print."""
        if not 0.0 <= self.time <= 1.0:
            raise ValueError(f"--time expects a time in [0, 1] over the clip, got {self.time:g}.")
        if self.max_views is not None and self.max_views < 1:
            raise ValueError(
                f"--max-views expects a number of training images of at least 1, got "
                f"{self.max_views}."
            )
        if self.output.suffix.lower() != ".ply":
            raise ValueError(f"--output expects the name of a .ply file, got {self.output}.")
        run = open_run(self.run)
        pipeline = load_pipeline(run)
        model = mixture_model(pipeline, self.run)
        if self.measure:
            pipeline.datamanager.check_held_out()
        responsibilities = stored_or_measured(pipeline, self.max_views)
        if self.keep:
            store_responsibilities(run, responsibilities)
        time = torch.tensor(self.time, device=pipeline.device)
        with torch.no_grad():
            fused = fuse(model.mixture, responsibilities, time)
        count = write_ply(fused, self.output)
        CONSOLE.print(
            f"{self.output}: {count:,} of {len(fused):,} Gaussians at time {self.time:g}; the "
            "others are too transparent to be seen."
        )
        if self.measure:
            score = fused_psnr(pipeline, responsibilities)
            CONSOLE.print(f"Held-out views of the fused set: {score:.2f} dB")
