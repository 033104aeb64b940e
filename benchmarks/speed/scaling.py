"""Frames and memory of random mixtures against Gaussians, experts, resolution and length of clip.

python -m benchmarks.speed.scaling

One quantity at a time is changed from a base point. Every point is measured in a process of its
own, one after the other; one that fails is named and costs no other. The same command goes on where
it was interrupted. NAME_growth has the power laws, NAME_SWEEP.png the plots.
"""

import json
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path

import torch
import tyro

from benchmarks.speed.scaling_growth import Sweep, growth_rows, row_of_point, save_growth
from benchmarks.speed.scaling_point import Effort, Point, row_of
from benchmarks.tables import RESULTS, Table
from moegs_ns.evaluation.tables import Row, commit, hardware
from moegs_ns.reports.benchmark.synthetic import methods_of


@dataclass(frozen=True)
class Ranges:
    """Gaussians and sizes that a kind of device draws in a moment."""

    base_gaussians: int
    base_size: tuple[int, int]
    gaussians: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]


GPU = Ranges(
    base_gaussians=150_000,
    base_size=(1352, 1014),
    gaussians=(10_000, 30_000, 100_000, 300_000, 1_000_000),
    sizes=((640, 360), (960, 540), (1352, 1014), (1920, 1080), (2704, 2028)),
)
CPU = Ranges(
    base_gaussians=3_000,
    base_size=(320, 240),
    gaussians=(1_000, 3_000, 10_000, 30_000),
    sizes=((160, 120), (320, 240), (640, 480), (1280, 960)),
)
OWN = GPU if torch.cuda.is_available() else CPU


@dataclass(frozen=True, kw_only=True)
class Scaling(Table):
    """What is changed, and how long each point is measured."""

    name: str = "scaling"
    results_dir: Path = RESULTS / "synthetic"
    gaussians: tuple[int, ...] = OWN.gaussians
    """Gaussians of each expert; by default fewer on a CPU."""
    experts: tuple[int, ...] = (1, 2, 3, 4, 6, 8)
    """Numbers of experts; 1 is an expert without router."""
    sizes: tuple[tuple[int, int], ...] = OWN.sizes
    """Widths and heights of the image in pixels; by default smaller on a CPU."""
    frames: tuple[int, ...] = (50, 100, 300, 1000, 3000)
    """Lengths of the clip."""
    base_gaussians: int = OWN.base_gaussians
    """Gaussians of each expert while something else is changed."""
    base_experts: int = 3
    base_size: tuple[int, int] = OWN.base_size
    base_frames: int = 300
    methods: tuple[str, ...] = ("stg", "ex4dgs", "ed3dgs", "4dgaussians")
    """Methods of the experts in turn; more experts than methods have them again. A single method
    shows the growth of its own."""
    times: int = 30
    """Times at which each of four cameras draws a frame."""
    seconds: float = 15.0
    """For the frames of a point, at most."""
    seed: int = 0

    def sweeps(self) -> list[Sweep]:
        """The points of each sweep.

        Raises:
            ValueError: a value is below 1, or a method is not known.
        """
        methods = methods_of(self.methods)

        def mixed(count: int) -> tuple[str, ...]:
            return tuple(islice(cycle(methods), max(count, 0)))

        base = Point(
            mixed(self.base_experts), self.base_gaussians, self.base_size, self.base_frames
        )
        return [checked(sweep) for sweep in (
            Sweep("gaussians", "Gaussians of each expert",
                  [replace(base, gaussians=n) for n in self.gaussians],
                  lambda point: point.gaussians),
            Sweep("experts", "experts",
                  [replace(base, methods=mixed(n)) for n in self.experts],
                  lambda point: len(point.methods)),
            Sweep("pixels", "pixels",
                  [replace(base, size=size) for size in self.sizes],
                  lambda point: point.pixels),
            Sweep("frames", "frames of the clip",
                  [replace(base, frames=n) for n in self.frames],
                  lambda point: point.frames),
        )]  # fmt: skip

    def earlier(self) -> list[Row]:
        """Rows of this seed that were measured by this commit on this machine; failures are tried
        again."""
        path = self.results_dir / f"{self.name}.json"
        if not path.is_file():
            return []
        content = json.loads(path.read_text())
        if (content["hardware"], content["commit"]) != (hardware(), commit()):
            print(f"{path} is of another machine or commit and is written anew.", flush=True)
            return []
        own = (row for row in content["rows"] if row["seed"] == self.seed)
        return [row for row in own if row["median_ms"] is not None]

    def main(self) -> None:
        """Measure the points that are missing, and write all anew after each of them; then their
        growth and the plots."""
        sweeps, effort = self.sweeps(), Effort(self.times, self.seconds, self.seed)
        points = list(dict.fromkeys(point for sweep in sweeps for point in sweep.points))
        earlier = self.earlier()
        rows = {point: row_of_point(point, earlier) for point in points}
        for number, point in enumerate(points, start=1):
            if rows[point] is None:
                print(f"Point {number} of {len(points)}: {point}", flush=True)
                row = rows[point] = row_of(point, effort)
                if row["median_ms"] is None:
                    print(f"Left out: {row['reason']}", flush=True)
                self.write([row for row in rows.values() if row is not None])
        measured = [row for row in rows.values() if row is not None]
        self.write(growth_rows(sweeps, measured), "_growth")
        for suffix in ("", "_growth"):
            print((self.results_dir / f"{self.name}{suffix}.md").read_text(), flush=True)
        for sweep in sweeps:
            save_growth(sweep, measured, self.results_dir / f"{self.name}_{sweep.name}.png")


def checked(sweep: Sweep) -> Sweep:
    """The sweep itself.

    Raises:
        ValueError: a value of it is below 1.
    """
    for point in sweep.points:
        smallest = min(point.gaussians, len(point.methods), *point.size, point.frames)
        if smallest < 1:
            raise ValueError(
                f"The sweep over {sweep.label} expects numbers of at least 1, got {point}; leave "
                "the option out for its defaults."
            )
    return sweep


if __name__ == "__main__":
    tyro.cli(Scaling, description=__doc__).main()
