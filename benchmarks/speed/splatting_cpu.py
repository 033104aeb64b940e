"""Rendering on the CPU: compiled kernels against plain torch, in one run.

Plain torch is the reference of the tests, written to be read and not to be fast.

python -m benchmarks.speed.splatting_cpu
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from types import ModuleType

import torch
import tyro

from benchmarks.speed.single_pass import PASSES, Experts, step
from benchmarks.tables import RESULTS, Table
from moegs_ns.evaluation.random_scenes import forward_view, random_gaussians
from moegs_ns.evaluation.tables import Row
from moegs_ns.evaluation.timing import columns, time_calls
from moegs_ns.splatting import backend_numba, reference


@dataclass(frozen=True, kw_only=True)
class SplattingCpu(Table):
    """What to render and how often."""

    name: str = "splatting_cpu"
    results_dir: Path = RESULTS / "synthetic"
    width: int = 160
    height: int = 120
    gaussians: int = 5000
    features: int = 3
    """Channels beside colour; depth is always rendered too."""
    repeats: int = 30
    """Timed calls of the compiled kernels."""
    torch_repeats: int = 3
    """Timed calls of plain torch, which is slow."""
    seed: int = 0

    def rows(self) -> Iterator[Row]:
        """Two rows, compiled and plain, for each pass of the whole of `render`."""
        generator = torch.Generator().manual_seed(self.seed)
        view = forward_view(self.width, self.height)
        gaussians = random_gaussians(self.gaussians, view, generator)
        features = torch.rand(self.gaussians, self.features, generator=generator)
        scenes = {name: Experts([gaussians], [features], view).attached(name) for name in PASSES}

        def calls(name: str, backend: ModuleType) -> Callable[[], None]:
            scene, leaves = scenes[name]
            return partial(step, partial(scene.apart, backend), leaves)

        # The compiled kernels come first: plain torch disturbs the allocator and the caches.
        fast = {name: time_calls(calls(name, backend_numba), self.repeats) for name in PASSES}
        for name in PASSES:
            slow = time_calls(calls(name, reference), self.torch_repeats, warmup=1)
            for backend, own in (("numba", fast[name]), ("torch", slow)):
                yield {
                    "pass": name, "backend": backend, **columns(own),
                    "times_faster_than_torch": round(median(slow) / median(own), 2),
                    "width": self.width, "height": self.height, "gaussians": self.gaussians,
                    "channels": 3 + self.features + 1,
                }  # fmt: skip
            print(f"{name}: numba {median(fast[name]):.1f} ms, torch {median(slow):.0f} ms")


if __name__ == "__main__":
    tyro.cli(SplattingCpu, description=__doc__).main()
