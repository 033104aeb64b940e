"""`moegs analyse`: motion of experts, consistency of depth, and where a router gains or loses."""

import math
import shlex
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from jaxtyping import Bool
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from moegs_ns.cameras import view_from_cameras
from moegs_ns.engine.pipeline import MoegsPipeline, load_pipeline
from moegs_ns.evaluation.image_metrics import target_image
from moegs_ns.evaluation.motion import Trajectories, analyse_motion
from moegs_ns.evaluation.routing import RoutingSums, routing_maps, share_reached
from moegs_ns.evaluation.tables import Row, write_results
from moegs_ns.experts.base import Expert
from moegs_ns.models.mixture_model import MixtureModel
from moegs_ns.reports.depth_consistency import depth_rows, experts_of, spread
from moegs_ns.reports.pictures import save_routing, save_trajectories, save_usage
from moegs_ns.runs.checkpoint import open_run

GRID = 3
"""Images are divided into this many rows and columns of regions."""
NUM_PICTURED = 4
"""Views in the picture of the routing."""


@dataclass
class Analyse:
    """Analyse a run: motion of each expert, multi-view depth consistency, and for mixtures which
    expert wins where and when and how near the router comes to the best possible blend."""

    run: Annotated[Path, tyro.conf.Positional]
    """config.yml or folder of the run."""
    output_dir: Path
    """Folder for the tables (JSON and Markdown) and pictures (PNG)."""
    trajectories: int = 300
    """Gaussians to follow per expert, chosen at random in proportion to their paths."""
    times: int = 60
    """Instants at which they are looked at, at most one per frame."""
    images: int = 60
    """Held-out images whose routing is analysed, spread evenly over all of them."""
    depth_frames: int = 5
    """Instants at which depth maps are compared."""
    depth_cameras: int = 8
    """Cameras whose depth maps are compared at each instant."""
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
        run = open_run(self.run)
        pipeline = load_pipeline(run)
        experts = experts_of(pipeline, run.config.method_name)
        rows, paths = motion_rows(experts, self.times, self.trajectories, self.seed)
        self.write("motion", rows)
        rows = depth_rows(pipeline, self.depth_frames, self.depth_cameras, self.fuse_views)
        self.write("depth_consistency", rows)
        if len(pipeline.datamanager.eval_dataset):
            save_trajectories(self.output_dir / "trajectories.png", pipeline, paths)
            if isinstance(pipeline.model, MixtureModel):
                self.analyse_routing(pipeline)

    def analyse_routing(self, pipeline: MoegsPipeline) -> None:
        """Tables and pictures of gates and errors on held-out images."""
        model = pipeline.model
        assert isinstance(model, MixtureModel)
        names = list(model.config.expert_names)
        views = view_sums(pipeline, spread(len(pipeline.datamanager.eval_dataset), self.images))
        usage, regions = [], {}
        for frame, camera, sums in views:
            usage.append({"frame": frame, "camera": camera} | routing_row(sums["all"], names))
            for region, value in sums.items():
                regions[region] = regions[region] + value if region in regions else value
        self.write("usage", usage)
        self.write(
            "errors",
            [
                {"region": region, "pixels": value.pixels} | routing_row(value, names)
                for region, value in regions.items()
                if value.pixels
            ],
        )
        save_usage(self.output_dir / "usage.png", usage, names)
        pictured = spread(len(pipeline.datamanager.eval_dataset), NUM_PICTURED)
        save_routing(self.output_dir / "routing.png", pipeline, pictured)

    def write(self, name: str, rows: list[Row]) -> None:
        """One table as JSON and Markdown; prints the latter."""
        path = self.output_dir / f"{name}.json"
        write_results(path, rows, shlex.join(["moegs", *sys.argv[1:]]))
        CONSOLE.print(f"{path} and .md: {len(rows)} rows")


def motion_rows(
    experts: dict[str, Expert], times: int, count: int, seed: int
) -> tuple[list[Row], dict[str, Trajectories]]:
    """Motion of every expert (appendix E), and the trajectories that it was measured on."""
    rows, paths = [], {}
    for name, expert in experts.items():
        frames = spread(int(expert.num_frames), times)
        instants = torch.tensor(frames) / max(1, int(expert.num_frames) - 1)
        generator = torch.Generator().manual_seed(seed)
        instants = instants.to(expert.scene_extent.device)
        report, paths[name] = analyse_motion(expert, instants, count, generator)
        row = {"expert": name} | asdict(report)
        is_whole = all(math.isfinite(value) for value in asdict(report).values())
        rows.append(row | {"reason": "" if is_whole else "nothing visible moves (far enough)"})
    return rows, paths


@torch.no_grad()
def view_sums(
    pipeline: MoegsPipeline, indices: list[int]
) -> Iterator[tuple[int, int, dict[str, RoutingSums]]]:
    """Frame, camera and sums over regions of held-out images."""
    model, datamanager = pipeline.model, pipeline.datamanager
    assert isinstance(model, MixtureModel)
    table = datamanager.eval_dataset.frame_table
    for index in indices:
        camera, batch = datamanager.eval_item(index)
        target = target_image(batch, pipeline.device)
        render = model.mixture.render(view_from_cameras(camera))
        maps = routing_maps(render.images, render.gates, render.rgb, target)
        regions = regions_of(batch["is_moving"][..., 0])
        sums = {name: maps.sums(mask) for name, mask in regions.items()}
        yield int(table.frame_ids[index]), int(table.camera_ids[index]), sums


def regions_of(is_moving: Bool[Tensor, "H W"]) -> dict[str, Bool[Tensor, "H W"]]:
    """The whole image, moving and still pixels, and a grid of regions, each with its name."""
    regions = {
        "all": torch.ones_like(is_moving),
        "moving": is_moving,
        "still": ~is_moving,
    }
    height, width = is_moving.shape
    for row in range(GRID):
        for column in range(GRID):
            mask = torch.zeros_like(is_moving)
            down = slice(row * height // GRID, (row + 1) * height // GRID)
            right = slice(column * width // GRID, (column + 1) * width // GRID)
            mask[down, right] = True
            regions[f"row {row + 1}, column {column + 1}"] = mask
    return regions


def routing_row(sums: RoutingSums, names: list[str]) -> Row:
    """Figures of a set of pixels; PSNR is that of the mean squared error over all of them."""
    expert_psnr = sums.psnr("expert_errors")
    mixture, oracle, blend = (
        sums.psnr(name) for name in ("mixture_error", "oracle_error", "blend_error")
    )
    assert isinstance(expert_psnr, list)
    assert isinstance(mixture, float) and isinstance(oracle, float) and isinstance(blend, float)
    best = max(expert_psnr)
    row: Row = {f"psnr_{name}": expert_psnr[k] for k, name in enumerate(names)}
    row |= {
        "psnr_mixture": mixture,
        "psnr_oracle": oracle,
        "psnr_best_blend": blend,
        "share_of_oracle": share_reached(mixture, best, oracle),
        "share_of_best_blend": share_reached(mixture, best, blend),
        "winner": names[expert_psnr.index(best)],
        "entropy": float(sums.entropy) / sums.pixels,
        "agreement": float(sums.agreement) / sums.pixels,
    }
    for k, name in enumerate(names):
        row[f"gate_{name}"] = float(sums.gates[k]) / sums.pixels
        row[f"best_{name}"] = float(sums.best[k]) / sums.pixels
    reasons = []
    if not oracle > best:
        reasons.append("shares: the best expert is best at every pixel")
    if not math.isfinite(blend):
        reasons.append("PSNR: there is no error")
    return row | {"reason": "; ".join(reasons)}
