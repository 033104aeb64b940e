"""Rendering on the CPU: compiled kernels against plain torch, in one run.

Plain torch is the reference of the tests, written to be read and not to be fast.

python -m benchmarks.speed.splatting_cpu
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import torch
import tyro
from torch import Tensor

from benchmarks.speed.single_pass import LEAVES
from benchmarks.speed.timing import Timing, forward_view, random_gaussians, time_calls
from benchmarks.tables import RESULTS, Table
from moegs_ns.gaussians import Gaussians
from moegs_ns.splatting import backend_numba, reference, render


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

    def main(self) -> None:
        """Time forward, and forward with backward, of the whole of `render`."""
        self.write_each(self.rows())

    def rows(self) -> Iterator[dict]:
        """Two rows, compiled and plain, for each pass."""
        passes = self.passes()
        # The compiled kernels come first: plain torch leaves the allocator and the caches upset.
        fast = {
            name: time_calls(build(backend_numba), self.repeats) for name, build in passes.items()
        }
        for name, build in passes.items():
            slow = time_calls(build(reference), self.torch_repeats, warmup=1)
            yield self.row(name, "numba", fast[name], slow)
            yield self.row(name, "torch", slow, slow)
            print(f"{name}: numba {fast[name].median:.1f} ms, torch {slow.median:.0f} ms")

    def passes(self) -> dict[str, Callable[[ModuleType], Callable[[], object]]]:
        """What makes the timed call of each pass for a back end."""
        generator = torch.Generator().manual_seed(self.seed)
        view = forward_view(self.width, self.height)
        gaussians = random_gaussians(self.gaussians, view, generator)
        features = torch.rand(self.gaussians, self.features, generator=generator)
        leaves = [getattr(gaussians, name).requires_grad_() for name in LEAVES]

        def forward(backend: ModuleType, among: Gaussians, channels: Tensor) -> Tensor:
            output = render(among, view, channels, backend=backend)
            return output.rgb.sum() + output.depth.sum() + (output.features**2).sum()

        def without_gradients(backend: ModuleType) -> Callable[[], object]:
            return lambda: forward(backend, gaussians.detach(), features)

        def features_only(backend: ModuleType) -> Callable[[], object]:
            leaf = features.clone().requires_grad_()
            frozen = gaussians.detach()
            return lambda: torch.autograd.grad(forward(backend, frozen, leaf), [leaf])

        def everything(backend: ModuleType) -> Callable[[], object]:
            leaf = features.clone().requires_grad_()
            attached = replace(gaussians, **dict(zip(LEAVES, leaves, strict=True)))
            return lambda: torch.autograd.grad(forward(backend, attached, leaf), [*leaves, leaf])

        return {
            "forward": without_gradients,
            "forward + backward to features": features_only,
            "forward + backward to everything": everything,
        }

    def row(self, name: str, backend: str, own: Timing, slow: Timing) -> dict:
        """One row."""
        return {
            "pass": name, "backend": backend, **own.columns(),
            "times_faster_than_torch": round(slow.median / own.median, 2),
            "width": self.width, "height": self.height, "gaussians": self.gaussians,
            "channels": 3 + self.features + 1,
        }  # fmt: skip


if __name__ == "__main__":
    tyro.cli(SplattingCpu, description=__doc__).main()
