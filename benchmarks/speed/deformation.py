"""Gaussians of 4DGaussians and E-D3DGS at a time, by kernels and in plain torch, on CUDA.

python -m benchmarks.speed.deformation
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import tyro
from torch import Tensor

from benchmarks.tables import RESULTS, Table
from moegs_ns.evaluation.tables import Row
from moegs_ns.evaluation.timing import columns, time_in_turns
from moegs_ns.experts import fused_decoders
from moegs_ns.experts.base import Expert
from moegs_ns.experts.fourdgaussians import fused_planes
from moegs_ns.reports.benchmark.synthetic import SyntheticModels, methods_of

SWITCHES = {
    "torch": ("0", "0"), "decoders": ("1", "0"), "planes": ("0", "1"), "both": ("1", "1"),
}  # fmt: skip
"""Whether kernels compute decoders and planes."""


@dataclass(frozen=True, kw_only=True)
class Deformation(Table):
    """How many Gaussians there are, and how often they are asked for."""

    name: str = "deformation"
    results_dir: Path = RESULTS / "synthetic"
    families: tuple[str, ...] = ("4dgaussians", "ed3dgs")
    gaussians: int = 150_000
    repeats: int = 50
    seed: int = 0

    def rows(self) -> Iterator[Row]:
        """Time all ways, and tell how far they differ from plain torch."""
        if not torch.cuda.is_available():
            raise SystemExit("Deformation is measured on CUDA, and no CUDA device was found.")
        for family in self.families:
            yield from self.measure(family, "cuda")

    def measure(self, family: str, device: str) -> Iterator[Row]:
        """Rows of one time without gradients, and of two with those of all parameters, as a
        training step has them."""
        models = SyntheticModels.of(
            methods_of((family,)), self.gaussians, (640, 360), self.seed, device
        )
        expert = models.experts[0].expert
        for name, step in (("one time", moved), ("two times and gradients", gradients)):
            for kind in list(SWITCHES)[1:]:
                calls: dict[str, Callable[[], Tensor]] = {
                    way: partial(switched, way, partial(step, expert)) for way in ("torch", kind)
                }
                plain, fused = calls["torch"](), calls[kind]()
                row: Row = {"family": family, "what": name, "kernels": kind}
                row["gaussians"] = expert.num_gaussians
                for way, each in time_in_turns(calls, self.repeats).items():
                    row |= columns(each, "torch_" if way == "torch" else "kernel_")
                yield row | {"relative_difference": float((plain - fused).norm() / plain.norm())}


def switched(way: str, call: Callable[[], Tensor]) -> Tensor:
    """What a call returns in one of the ways."""
    switches = (fused_decoders.SWITCH, fused_planes.SWITCH)
    os.environ.update(zip(switches, SWITCHES[way], strict=True))
    return call()


@torch.no_grad()
def moved(expert: Expert) -> Tensor:
    """All numbers of the Gaussians at a time."""
    return numbers(expert, 0.3)


def gradients(expert: Expert) -> Tensor:
    """Those of all parameters, of the sum of squares at two times."""
    expert.requires_grad_(True).zero_grad()
    numbers(expert, 0.3, 0.7).square().sum().backward()
    found = [each.grad.flatten() for each in expert.parameters() if each.grad is not None]
    return torch.cat(found)


def numbers(expert: Expert, *times: float) -> Tensor:
    """Those of the Gaussians at all times, in one row."""
    device = expert.gauss_params["means"].device
    at = [torch.tensor(time, device=device) for time in times]
    sets = expert.at_all(at, [None] * len(at))
    parts = [
        value.flatten()
        for one in sets
        for value in (one.means, one.quats, one.scales, one.opacities, one.sh)
    ]
    return torch.cat(parts)


if __name__ == "__main__":
    tyro.cli(Deformation, description=__doc__).main()
