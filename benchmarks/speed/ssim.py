"""SSIM of images, and the loss of a training step, by kernels and in plain torch, on CUDA.

python -m benchmarks.speed.ssim
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
from moegs_ns.training.fused_ssim import SWITCH
from moegs_ns.training.losses import photometric_loss, structural_similarity


@dataclass(frozen=True, kw_only=True)
class Ssim(Table):
    """How large images are, and how often they are compared."""

    name: str = "ssim"
    results_dir: Path = RESULTS / "synthetic"
    sizes: tuple[tuple[int, int], ...] = ((1352, 1014), (640, 360))
    """Widths and heights."""
    images: tuple[int, ...] = (1, 2)
    """Images of a step."""
    repeats: int = 50
    seed: int = 0

    def rows(self) -> Iterator[Row]:
        """Time both ways, and tell how far they differ."""
        if not torch.cuda.is_available():
            raise SystemExit("SSIM is measured on CUDA, and no CUDA device was found.")
        generator = torch.Generator().manual_seed(self.seed)
        for width, height in self.sizes:
            for count in self.images:
                shape = (2, count, height, width, 3)
                pred, target = torch.rand(shape, generator=generator).cuda().unbind()
                yield from self.measure(pred, target)

    def measure(self, pred: Tensor, target: Tensor) -> Iterator[Row]:
        """A row of SSIM alone, and one of the loss with its gradient."""
        count, height, width, _ = pred.shape
        for name, step in (("SSIM", similarity), ("loss and gradient", loss_gradient)):
            calls: dict[str, Callable[[], Tensor]] = {
                kind: partial(switched, switch, partial(step, pred, target))
                for kind, switch in (("torch", "0"), ("kernel", "1"))
            }
            difference = float((calls["torch"]() - calls["kernel"]()).abs().max())
            row: Row = {"what": name, "images": count, "width": width, "height": height}
            for kind, each in time_in_turns(calls, self.repeats).items():
                row |= columns(each, f"{kind}_")
            yield row | {"largest_difference": difference}


def switched(switch: str, call: Callable[[], Tensor]) -> Tensor:
    """What a call returns by the kernels ("1") or not ("0")."""
    os.environ[SWITCH] = switch
    return call()


@torch.no_grad()
def similarity(pred: Tensor, target: Tensor) -> Tensor:
    """SSIM of each image."""
    return structural_similarity(pred, target)


def loss_gradient(pred: Tensor, target: Tensor) -> Tensor:
    """Of the standard loss, for the sum of all its numbers."""
    leaf = pred.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(photometric_loss(leaf, target) * leaf.numel(), leaf)
    return gradient


if __name__ == "__main__":
    tyro.cli(Ssim, description=__doc__).main()
