"""`moegs fuse`: one set of Gaussians of a run at a time, as a PLY or SPZ file for any viewer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from jaxtyping import Float
from nerfstudio.utils.rich_utils import CONSOLE

from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.gaussians import Gaussians
from moegs_ns.launch.cli_args import output_option
from moegs_ns.models.mixture_model import MixtureModel
from moegs_ns.ply import write_ply
from moegs_ns.reports.fusion import fused_psnr, gaussians_at, mixture_model, stored_or_measured
from moegs_ns.reports.orientation import PLY_UP, SPZ_UP, Up, turn_between, turned, up_direction
from moegs_ns.runs.checkpoint import open_run
from moegs_ns.runs.stored_responsibilities import store_responsibilities
from moegs_ns.spz import write_spz

WRITERS = {".ply": (write_ply, PLY_UP, "-y"), ".spz": (write_spz, SPZ_UP, "y")}
"""What writes a file of each ending, and what is up in it."""


@dataclass
class Fuse:
    """Fuse a mixture into one set of Gaussians at a time: all experts' together, opacities times
    the responsibilities that the gates give them. Of a single expert write its own Gaussians. Any
    viewer of 3D Gaussians opens the file."""

    run: Annotated[Path, tyro.conf.Positional]
    """config.yml or folder of the run of a mixture or of an expert."""
    output: Annotated[Path, output_option("--output-path")]
    """PLY file to write, or SPZ file, of about a tenth of its size."""
    time: float = 0.0
    """Time in [0, 1] over the clip."""
    up: Up = "cameras"
    """What is up in the scene: the mean of the cameras, or an axis of the data set's world. The set
    is turned so that it is -y in a PLY, y in an SPZ file, as viewers expect; `as-is` leaves it."""
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
        if self.output.suffix.lower() not in WRITERS:
            raise ValueError(
                f"--output expects the name of a .ply or .spz file, got {self.output}."
            )
        run = open_run(self.run)
        pipeline, responsibilities = load_pipeline(run), []
        poses = pipeline.datamanager.train_dataset.cameras.camera_to_worlds
        direction, words = up_direction(self.up, poses)
        if isinstance(pipeline.model, MixtureModel) or self.keep or self.measure:
            mixture_model(pipeline, self.run)
            if self.measure:
                pipeline.datamanager.check_held_out()
            responsibilities = stored_or_measured(pipeline, self.max_views)
        if self.keep:
            store_responsibilities(run, responsibilities)
        self.write(gaussians_at(pipeline, self.time, responsibilities), direction, words)
        if self.measure:
            score = fused_psnr(pipeline, responsibilities)
            CONSOLE.print(f"Held-out views of the fused set: {score:.2f} dB")

    def write(
        self, fused: Gaussians, direction: Float[torch.Tensor, "3"] | None, words: str
    ) -> None:
        """Write the set, turned to what its format expects, and say so."""
        write, file_up, axis = WRITERS[self.output.suffix.lower()]
        turn = None if direction is None else turn_between(direction, torch.tensor(file_up))
        count = write(turned(fused, turn), self.output)
        placed = "" if direction is None else f", {axis} in the file"
        CONSOLE.print(
            f"{self.output}: {count:,} of {len(fused):,} Gaussians at time {self.time:g}; the "
            f"others are too transparent to be seen; {words}{placed}."
        )
