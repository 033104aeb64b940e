"""`moegs analyse`: motion of experts, consistency of depth, and where a router gains or loses."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from nerfstudio.utils.rich_utils import CONSOLE

from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.evaluation.tables import Row
from moegs_ns.launch.cli_args import output_option
from moegs_ns.launch.option_limits import check_number
from moegs_ns.models.mixture_model import MixtureModel
from moegs_ns.reports.analysis import experts_of, flicker_rows, motion_rows, routing_rows
from moegs_ns.reports.depth_consistency import depth_rows
from moegs_ns.reports.images import save_routing, save_trajectories, save_usage
from moegs_ns.reports.scores import write_table
from moegs_ns.runs.checkpoint import open_run

ROUTING_VIEWS = 4
"""Views in the image of the routing."""
PICTURES = {
    "trajectories": "where visible Gaussians of each expert move, over a held-out image",
    "usage": "gates, their entropy and PSNR over time",
    "routing": "truth, mixture, error, largest gate, best expert and entropy of some views",
}
"""What the pictures show."""


@dataclass
class Analyse:
    """Analyse a run: motion of each expert, multi-view depth consistency, and for mixtures which
    expert is best where and when and how near the router comes to the best possible blend."""

    run: Annotated[Path, tyro.conf.Positional]
    """config.yml or folder of the run."""
    output_dir: Annotated[Path, output_option("--output-dir")]
    """Folder for the tables (JSON and Markdown) and images (PNG)."""
    trajectories: int = 300
    """Gaussians to follow per expert, chosen at random in proportion to their paths."""
    times: int = 60
    """Times at which they are looked at, at most one per frame."""
    images: int = 60
    """Held-out images whose routing is analysed, and pairs of consecutive ones whose flicker is
    measured, evenly spaced."""
    depth_frames: int = 5
    """Times at which depth maps are compared."""
    depth_cameras: int = 8
    """Cameras whose depth maps are compared at each time."""
    fuse_views: int | None = None
    """Training images to measure the responsibilities of the fused set on, for its depth maps; see
    --max-views of `moegs fuse`."""
    seed: int = 0
    """Seed of the choice of Gaussians."""

    def main(self) -> None:
        """Analyse, write and print.

        Raises:
            FileNotFoundError: there is no such run.
            ValueError: a number of things to look at is too small.
        """
        self._check()
        run = open_run(self.run)
        pipeline = load_pipeline(run)
        # Motion of each expert, and consistency of everything that has depth.
        experts = experts_of(pipeline, run.config.method_name)
        rows, trajectories = motion_rows(experts, self.times, self.trajectories, self.seed)
        self._write("motion", rows)
        rows = depth_rows(pipeline, self.depth_frames, self.depth_cameras, self.fuse_views)
        self._write("depth_consistency", rows)
        if len(pipeline.datamanager.eval_dataset) == 0:
            return
        self._draw("trajectories", save_trajectories, pipeline, trajectories)
        # Gates and errors of a mixture on held-out images.
        model = pipeline.model
        if isinstance(model, MixtureModel):
            usage, errors = routing_rows(pipeline, model, self.images)
            self._write("usage", usage)
            self._write("errors", errors)
            self._write("flicker", flicker_rows(pipeline, model, self.images))
            self._draw("usage", save_usage, usage, list(model.config.expert_names))
            self._draw("routing", save_routing, pipeline, model, ROUTING_VIEWS)

    def _check(self) -> None:
        check_number("--seed", "seed", self.seed)
        limits = {"trajectories": 1, "times": 2, "images": 1, "depth_frames": 1, "depth_cameras": 2}
        if self.fuse_views is not None:
            limits["fuse_views"] = 1
        for name, least in limits.items():
            if getattr(self, name) < least:
                option = name.replace("_", "-")
                raise ValueError(
                    f"--{option} expects at least {least}, got {getattr(self, name)}; leave it out "
                    "for the default."
                )

    def _write(self, name: str, rows: list[Row]) -> None:
        path = self.output_dir / f"{name}.json"
        write_table(path, rows)
        CONSOLE.print(f"{path} and .md: {len(rows)} rows")

    def _draw(self, name: str, save: Callable[..., None], *content: Any) -> None:
        path = self.output_dir / f"{name}.png"
        save(path, *content)
        CONSOLE.print(f"{path}: {PICTURES[name]}")
