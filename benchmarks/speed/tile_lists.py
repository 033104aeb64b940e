"""How much shorter the lists of tiles are since squares end where Gaussians are too faint to
count, and what that saves, on trained experts.

    python -m benchmarks.speed.tile_lists --runs RUN RUN --scale 4

Images are the same; `before` has squares of three standard deviations, as gsplat projects them.
"""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
import tyro
from jaxtyping import Int
from torch import Tensor

from benchmarks.speed.single_pass import LEAVES
from benchmarks.tables import RESULTS, Table
from moegs_ns.cameras import View, single_views
from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.evaluation.tables import Row
from moegs_ns.evaluation.timing import time_in_turns
from moegs_ns.gaussians import Gaussians
from moegs_ns.models.expert_model import ExpertModel
from moegs_ns.runs.checkpoint import open_run
from moegs_ns.splatting import ProjectedGaussians, project, rasterize
from moegs_ns.splatting.projection import TILE_SIZE

Way = Callable[[ProjectedGaussians], ProjectedGaussians]
"""What is made of the extents before an image is rasterized."""


def uncut(projected: ProjectedGaussians) -> ProjectedGaussians:
    """Squares of three standard deviations, whatever the opacity."""
    projection = projected.projection
    return replace(projected, projection=replace(projection, extents=projection.radii))


WAYS: dict[str, Way] = {"before": uncut, "after": lambda projected: projected}


@dataclass(frozen=True, kw_only=True)
class TileLists(Table):
    """Lists and times of each run's held-out views."""

    runs: tuple[Path, ...]
    """Folders of trained experts."""
    name: str = "tile_lists"
    results_dir: Path = RESULTS / "machine"
    scale: float = 1.0
    """Factor on the images' size, for experts that were trained at a smaller one."""
    views: int = 3
    """Held-out views of each run, spread evenly."""
    repeats: int = 10
    """Timed images of each view, both ways in turns."""

    def rows(self) -> Iterator[Row]:
        yield from map(self.row, self.runs)

    def row(self, run: Path) -> Row:
        """One row: the mean of pairs and the median of times over the views."""
        pipeline = load_pipeline(open_run(run))
        if not isinstance(pipeline.model, ExpertModel):
            raise ValueError(f"--runs expects runs of experts, got a mixture's: {run}.")
        expert, cameras = pipeline.model.expert, pipeline.datamanager.eval_dataset.cameras
        single = single_views(cameras, pipeline.device, self.views)
        views = [enlarged(view, self.scale) for view in single]
        with torch.no_grad():
            frames = [Frame(expert.at(view.time), view, expert.near) for view in views]
        row: Row = {
            "run": str(run), "gaussians": expert.num_gaussians,
            "width": views[0].width, "height": views[0].height, "views": len(views),
        }  # fmt: skip
        for name, way in WAYS.items():
            pairs = sum(int(tiles_of(frame.projected(way), frame.view).sum()) for frame in frames)
            row[f"pairs_{name}"] = pairs // len(views)
        row["pairs_share"] = row["pairs_after"] / row["pairs_before"]
        for kind in (Frame.forward, Frame.backward):
            times: dict[str, list[float]] = {name: [] for name in WAYS}
            for frame in frames:
                calls = {name: partial(kind, frame, way) for name, way in WAYS.items()}
                for name, values in time_in_turns(calls, self.repeats).items():
                    times[name] += values
            medians = {name: statistics.median(values) for name, values in times.items()}
            row |= {f"{kind.__name__}_{name}_ms": median for name, median in medians.items()}
            row[f"{kind.__name__}_times_faster"] = medians["before"] / medians["after"]
        return row | {"n": self.repeats * len(views)}


@dataclass(frozen=True)
class Frame:
    """An expert's Gaussians at the time of one camera."""

    gaussians: Gaussians
    view: View
    near: float

    def projected(self, way: Way) -> ProjectedGaussians:
        """The Gaussians on the image plane."""
        return way(project(self.gaussians, self.view, near=self.near))

    @torch.no_grad()
    def forward(self, way: Way) -> None:
        """Project and rasterize."""
        rasterize([self.projected(way)], self.view)

    def backward(self, way: Way) -> None:
        """Project, rasterize, and pull gradients to everything."""
        leaves = {n: getattr(self.gaussians, n).detach().requires_grad_() for n in LEAVES}
        projected = replace(self, gaussians=replace(self.gaussians, **leaves)).projected(way)
        output = rasterize([projected], self.view).only()
        torch.autograd.grad(output.rgb.square().mean(), list(leaves.values()))


def tiles_of(projected: ProjectedGaussians, view: View) -> Int[Tensor, "n"]:
    """Tiles that each Gaussian is listed in."""
    projection = projected.projection
    edges = projection.extents[:, None]
    tiles = torch.tensor([-(-view.width // TILE_SIZE), -(-view.height // TILE_SIZE)]).to(edges)
    first = torch.floor((projection.means2d - edges) / TILE_SIZE)
    last = torch.ceil((projection.means2d + edges) / TILE_SIZE)
    inside = (torch.minimum(last, tiles) - first.clamp(min=0)).clamp(min=0)
    return torch.where(projection.extents > 0, inside.prod(dim=1), 0).long()


def enlarged(view: View, scale: float) -> View:
    """The same view in more pixels."""
    Ks = view.Ks.clone()
    Ks[:, :2] *= scale
    size = {"width": round(view.width * scale), "height": round(view.height * scale)}
    return replace(view, Ks=Ks, **size)


if __name__ == "__main__":
    tyro.cli(TileLists, description=__doc__).main()
