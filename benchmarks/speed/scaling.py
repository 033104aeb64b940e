"""Frames and memory of random mixtures against Gaussians, experts, resolution and length of clip.

python -m benchmarks.speed.scaling

One quantity at a time is changed from a base point. Every point is measured in a process of its
own, one after the other; one that fails is named and costs no other. The same command goes on where
it was interrupted. NAME_growth has the power laws, NAME_SWEEP.png the plots.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path

import torch
import tyro

from benchmarks.speed.scaling_growth import Sweep, growth_rows, save_growth
from benchmarks.speed.scaling_point import Effort, Point, row_of
from benchmarks.tables import RESULTS, Table
from moegs_ns.evaluation.tables import Row, commit, hardware
from moegs_ns.reports.benchmark.synthetic import methods_of


@dataclass(frozen=True)
class Ranges:
    """Values of each sweep; the base point is made of `base`."""

    base: tuple[int, int, tuple[int, int], int]
    """Gaussians of each expert, experts, size, frames."""
    gaussians: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]
    experts: tuple[int, ...] = (1, 2, 3, 4, 6, 8)
    frames: tuple[int, ...] = (50, 100, 300, 1000, 3000)


GPU = Ranges(
    base=(150_000, 3, (1352, 1014), 300),
    gaussians=(10_000, 30_000, 100_000, 300_000, 1_000_000),
    sizes=((640, 360), (960, 540), (1352, 1014), (1920, 1080), (2704, 2028)),
)
CPU = Ranges(
    base=(3_000, 3, (320, 240), 300),
    gaussians=(1_000, 3_000, 10_000, 30_000),
    sizes=((160, 120), (320, 240), (640, 480), (1280, 960)),
)


@dataclass(frozen=True, kw_only=True)
class Scaling(Table):
    """What is changed, and how long each point is measured."""

    name: str = "scaling"
    results_dir: Path = RESULTS / "synthetic"
    gaussians: tuple[int, ...] = ()
    """Gaussians of each expert; this and what follows is by default 10000 to 1000000 Gaussians on a
    GPU and less on a CPU."""
    experts: tuple[int, ...] = ()
    """Numbers of experts; 1 is an expert without router."""
    sizes: tuple[tuple[int, int], ...] = ()
    """Widths and heights of the image in pixels."""
    frames: tuple[int, ...] = ()
    """Lengths of the clip."""
    base_gaussians: int | None = None
    """Gaussians of each expert while something else is changed."""
    base_experts: int | None = None
    base_size: tuple[int, int] | None = None
    base_frames: int | None = None
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
        own = GPU if torch.cuda.is_available() else CPU
        methods = methods_of(self.methods)
        counts = [self.base_gaussians, self.base_experts, self.base_size, self.base_frames]
        given = [a if a is not None else b for a, b in zip(counts, own.base, strict=True)]
        gaussians, experts, size, frames = given
        assert isinstance(gaussians, int) and isinstance(experts, int)
        assert isinstance(size, tuple) and isinstance(frames, int)

        def mixed(count: int) -> tuple[str, ...]:
            return tuple(islice(cycle(methods), count))

        base = Point(mixed(experts), gaussians, size, frames)
        return [checked(sweep) for sweep in (
            Sweep("gaussians", "Gaussians of each expert",
                  [replace(base, gaussians=n) for n in self.gaussians or own.gaussians],
                  lambda point: point.gaussians),
            Sweep("experts", "experts",
                  [replace(base, methods=mixed(n)) for n in self.experts or own.experts],
                  lambda point: len(point.methods)),
            Sweep("pixels", "pixels",
                  [replace(base, size=size) for size in self.sizes or own.sizes],
                  lambda point: point.pixels),
            Sweep("frames", "frames of the clip",
                  [replace(base, frames=n) for n in self.frames or own.frames],
                  lambda point: point.frames),
        )]  # fmt: skip

    def rows(self) -> Iterator[Row]:
        """A row for each point; those of an earlier call are taken over."""
        known = self.earlier()
        points = dict.fromkeys(point for sweep in self.sweeps() for point in sweep.points)
        effort = Effort(self.times, self.seconds, self.seed)
        for number, point in enumerate(points, start=1):
            wanted = (point.columns | {"seed": self.seed}).items()
            row = next((row for row in known if wanted <= row.items()), None)
            if row is None:
                print(f"Point {number} of {len(points)}: {point}", flush=True)
                row = row_of(point, effort)
            if row["median_ms"] is None:
                print(f"Left out: {row['reason']}", flush=True)
            yield row

    def earlier(self) -> list[Row]:
        """Rows that were measured by this commit on this machine; failures are tried again."""
        path = self.results_dir / f"{self.name}.json"
        if not path.is_file():
            return []
        content = json.loads(path.read_text())
        if (content["hardware"], content["commit"]) != (hardware(), commit()):
            print(f"{path} is of another machine or commit and is written anew.", flush=True)
            return []
        return [row for row in content["rows"] if row["median_ms"] is not None]

    def main(self) -> None:
        """Measure all points, then write their growth and the plots."""
        sweeps = self.sweeps()
        super().main()
        rows = json.loads((self.results_dir / f"{self.name}.json").read_text())["rows"]
        self.write(growth_rows(sweeps, rows), "_growth")
        print((self.results_dir / f"{self.name}_growth.md").read_text(), flush=True)
        for sweep in sweeps:
            save_growth(sweep, rows, self.results_dir / f"{self.name}_{sweep.name}.png")


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
