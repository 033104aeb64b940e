"""One pass over all experts against one pass each, on CUDA, equal up to 1e-5.

python -m benchmarks.speed.single_pass
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from types import ModuleType

import torch
import tyro
from torch import Tensor

from benchmarks.tables import RESULTS, Table
from moegs_ns.cameras import View
from moegs_ns.evaluation.random_scenes import forward_view, random_gaussians
from moegs_ns.evaluation.tables import Row
from moegs_ns.evaluation.timing import columns, time_calls
from moegs_ns.gaussians import Gaussians
from moegs_ns.splatting import render, render_experts

LEAVES = ("means", "quats", "scales", "opacities", "sh")
IMAGES = ("rgb", "alpha", "depth", "features")
PASSES = ("forward", "forward + backward to features", "forward + backward to everything")
LARGEST_DIFFERENCE = 1e-5
LARGEST_FRACTION_OF_FLIPS = 1e-4
"""Pixels beyond `LARGEST_DIFFERENCE` are flips at a threshold of opacity; at most this fraction."""


@dataclass(frozen=True, kw_only=True)
class SinglePass(Table):
    """What to render and how often."""

    name: str = "single_pass"
    results_dir: Path = RESULTS / "synthetic"
    width: int = 1352
    height: int = 1014
    gaussians: tuple[int, ...] = (150_000, 40_000)
    """Gaussians of each expert."""
    experts: tuple[int, ...] = (2, 4)
    features: int = 3
    """Router channels beside colour; depth is always rendered too."""
    repeats: int = 30
    seed: int = 0

    def rows(self) -> Iterator[Row]:
        """Time forward and backward; check that the images agree."""
        if not torch.cuda.is_available():
            raise SystemExit("The single pass is measured on CUDA, and no CUDA device was found.")
        for gaussians in self.gaussians:
            for experts in self.experts:
                yield from self.measure(gaussians, experts)

    def measure(self, gaussians: int, experts: int) -> Iterator[Row]:
        """One row for each of forward, backward to features, and backward to everything."""
        generator = torch.Generator().manual_seed(self.seed)
        view = forward_view(self.width, self.height, "cuda")
        parts = [random_gaussians(gaussians, view, generator) for _ in range(experts)]
        features = [torch.rand(gaussians, self.features, generator=generator) for _ in parts]
        frozen = Experts(parts, [values.cuda() for values in features], view)
        agreement = compare(frozen)
        for name in PASSES:
            scene, leaves = frozen.attached(name)
            one = time_calls(partial(step, scene.together, leaves), self.repeats)
            many = time_calls(partial(step, scene.apart, leaves), self.repeats)
            print(
                f"{experts} x {gaussians}, {name}: one pass {median(one):.3f} ms, "
                f"{experts} passes {median(many):.3f} ms"
            )
            yield {
                "pass": name, "experts": experts, "gaussians_each": gaussians,
                **columns(one, "single_"), **columns(many, "separate_"),
                "times_faster": round(median(many) / median(one), 3), **agreement,
                "width": self.width, "height": self.height, "channels": 3 + self.features + 1,
            }  # fmt: skip


@dataclass(frozen=True)
class Experts:
    """Experts and their router features before one camera."""

    experts: list[Gaussians]
    features: list[Tensor]
    view: View

    def together(self) -> tuple[Tensor, ...]:
        """All images of all experts in one pass, each with a leading expert axis."""
        rendered = render_experts(self.experts, self.view, self.features)
        return tuple(getattr(rendered, name) for name in IMAGES)

    def apart(self, backend: ModuleType | None = None) -> tuple[Tensor, ...]:
        """The same images, one expert after the other."""
        rendered = [
            render(expert, self.view, features, backend=backend)
            for expert, features in zip(self.experts, self.features, strict=True)
        ]
        return tuple(torch.stack([getattr(one, name) for one in rendered]) for name in IMAGES)

    def attached(self, name: str) -> tuple["Experts", list[Tensor]]:
        """The scene with gradients for what a pass needs, and these leaves."""
        if name == "forward":
            return self, []
        features = [values.clone().requires_grad_() for values in self.features]
        if name.endswith("to features"):
            return replace(self, features=features), features
        leaves, experts = [*features], []
        for expert in self.experts:
            own = {field: getattr(expert, field).clone().requires_grad_() for field in LEAVES}
            experts.append(replace(expert, **own))
            leaves += own.values()
        return replace(self, experts=experts, features=features), leaves


def step(render_images: Callable[[], tuple[Tensor, ...]], leaves: list[Tensor]) -> None:
    """Render, and pull gradients of all images to the leaves."""
    images = render_images()
    if leaves:
        loss = torch.stack([image.square().mean() for image in images]).sum()
        torch.autograd.grad(loss, leaves)


def compare(scene: Experts) -> dict[str, float]:
    """Largest difference of any image, pixels that flipped at a threshold counted apart.

    Raises:
        AssertionError: more pixels differ by 1e-5 than flips explain.
    """
    largest, flipped = 0.0, 0.0
    for one, many in zip(scene.together(), scene.apart(), strict=True):
        difference = (one - many).abs().amax(dim=-1)
        is_flipped = ~(difference <= LARGEST_DIFFERENCE)
        largest = max(largest, difference[~is_flipped].max().item())
        flipped = max(flipped, is_flipped.float().mean().item())
    assert flipped <= LARGEST_FRACTION_OF_FLIPS, (
        f"{flipped:.2e} of the pixels differ by more than {LARGEST_DIFFERENCE}."
    )
    return {"largest_difference": largest, "flipped_share": flipped}


if __name__ == "__main__":
    tyro.cli(SinglePass, description=__doc__).main()
