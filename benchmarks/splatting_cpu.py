"""Splatting on the CPU: compiled kernels against plain torch, in one run.

Plain torch is the oracle of the tests, written to be read and not to be fast.

python benchmarks/splatting_cpu.py
"""

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType

import torch
import tyro
from measure import Timing, forward_view, random_gaussians, time_calls, write_results
from torch import Tensor

from moegs_ns.gaussians import Gaussians
from moegs_ns.splatting import backend_numba, reference, render

LEAVES = ("means", "quats", "scales", "opacities", "sh")


@dataclass
class Options:
    """What to splat and how often."""

    width: int = 160
    height: int = 120
    gaussians: int = 5000
    features: int = 3
    """Channels beside colour; depth is always drawn too."""
    repeats: int = 30
    """Timed calls of the compiled kernels."""
    torch_repeats: int = 3
    """Timed calls of plain torch, which is slow."""
    seed: int = 0


def main(options: Options) -> None:
    """Time forward, and forward with backward, of the whole of `render`."""
    generator = torch.Generator().manual_seed(options.seed)
    view = forward_view(options.width, options.height)
    gaussians = random_gaussians(options.gaussians, view, generator)
    features = torch.rand(options.gaussians, options.features, generator=generator)
    leaves = [getattr(gaussians, name).requires_grad_() for name in LEAVES]

    def forward(backend: ModuleType, among: Gaussians, channels: Tensor) -> Tensor:
        drawn = render(among, view, channels, backend=backend)
        return drawn.rgb.sum() + drawn.depth.sum() + (drawn.features**2).sum()

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

    rows = []
    passes = {
        "forward": without_gradients,
        "forward + backward to features": features_only,
        "forward + backward to everything": everything,
    }
    # The compiled kernels come first: plain torch leaves the allocator and the caches upset.
    fast = {
        name: time_calls(build(backend_numba), options.repeats) for name, build in passes.items()
    }
    for name, build in passes.items():
        slow = time_calls(build(reference), options.torch_repeats, warmup=1)
        rows.append(_row(options, name, "numba", fast[name], slow))
        rows.append(_row(options, name, "torch", slow, slow))
        print(f"{name}: numba {fast[name].median:.1f} ms, torch {slow.median:.0f} ms")
    path = write_results("splatting_cpu", rows, shlex.join(["python", *sys.argv]))
    print(f"Written to {path.name} and {path.with_suffix('.md').name}.")


def _row(options: Options, name: str, backend: str, own: Timing, slow: Timing) -> dict:
    return {
        "pass": name,
        "backend": backend,
        **own.columns(),
        "times_faster_than_torch": round(slow.median / own.median, 2),
        "width": options.width,
        "height": options.height,
        "gaussians": options.gaussians,
        "channels": 3 + options.features + 1,
    }


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
