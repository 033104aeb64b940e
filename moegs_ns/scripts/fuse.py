"""`moegs fuse`: one set of Gaussians of a run at a time, as a PLY file for any viewer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from nerfstudio.utils.rich_utils import CONSOLE

from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.launch.cli_args import output_option
from moegs_ns.models.mixture_model import MixtureModel
from moegs_ns.ply import write_ply
from moegs_ns.reports.fusion import fused_psnr, gaussians_at, mixture_model, stored_or_measured
from moegs_ns.runs.checkpoint import open_run
from moegs_ns.runs.stored_responsibilities import store_responsibilities


@dataclass
class Fuse:
    """Fuse a mixture into one set of Gaussians at a time: all experts' together, opacities times
    the responsibilities that the gates give them. Of a single expert write its own Gaussians. Any
    viewer of 3D Gaussians opens the file."""

    run: Annotated[Path, tyro.conf.Positional]
    """config.yml or folder of the run of a mixture or of an expert."""
    output: Annotated[Path, output_option("--output-path")]
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
        pipeline, responsibilities = load_pipeline(run), []
        if isinstance(pipeline.model, MixtureModel) or self.keep or self.measure:
            mixture_model(pipeline, self.run)
            if self.measure:
                pipeline.datamanager.check_held_out()
            responsibilities = stored_or_measured(pipeline, self.max_views)
        if self.keep:
            store_responsibilities(run, responsibilities)
        fused = gaussians_at(pipeline, self.time, responsibilities)
        count = write_ply(fused, self.output)
        CONSOLE.print(
            f"{self.output}: {count:,} of {len(fused):,} Gaussians at time {self.time:g}; the "
            "others are too transparent to be seen."
        )
        if self.measure:
            score = fused_psnr(pipeline, responsibilities)
            CONSOLE.print(f"Held-out views of the fused set: {score:.2f} dB")
