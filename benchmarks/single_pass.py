"""One pass over all experts against one pass each, on CUDA, equal up to 1e-5.

python benchmarks/single_pass.py
"""

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro
from measure import RESULTS, forward_view, random_gaussians, time_calls, write_results
from torch import Tensor

from moegs_ns.cameras import View
from moegs_ns.gaussians import Gaussians
from moegs_ns.splatting import render, render_experts

LEAVES = ("means", "quats", "scales", "opacities", "sh")
IMAGES = ("rgb", "alpha", "depth", "features")
LARGEST_DIFFERENCE = 1e-5
LARGEST_SHARE_OF_FLIPS = 1e-4
"""Pixels beyond `LARGEST_DIFFERENCE` are flips at a threshold of opacity; at most this share."""


@dataclass
class Options:
    """What to splat and how often."""

    width: int = 1352
    height: int = 1014
    gaussians: tuple[int, ...] = (150_000, 40_000)
    """Gaussians of each expert."""
    experts: tuple[int, ...] = (2, 4)
    features: int = 3
    """Router channels beside colour; depth is always drawn too."""
    repeats: int = 30
    seed: int = 0
    results_dir: Path = RESULTS
    """Where the table goes."""


@dataclass
class Scene:
    """Experts and their router features before one camera."""

    experts: list[Gaussians]
    features: list[Tensor]
    view: View

    def together(self) -> tuple[Tensor, ...]:
        """All images of all experts in one pass, each with a leading expert axis."""
        drawn = render_experts(self.experts, self.view, self.features)
        return tuple(getattr(drawn, name) for name in IMAGES)

    def apart(self) -> tuple[Tensor, ...]:
        """The same images, one expert after the other."""
        drawn = [
            render(expert, self.view, features)
            for expert, features in zip(self.experts, self.features, strict=True)
        ]
        return tuple(torch.stack([getattr(one, name) for one in drawn]) for name in IMAGES)


def main(options: Options) -> None:
    """Time forward and backward; check that the images agree."""
    if not torch.cuda.is_available():
        raise SystemExit("The single pass is measured on CUDA, and no CUDA device was found.")
    rows = [
        row
        for gaussians in options.gaussians
        for experts in options.experts
        for row in measure_scene(options, gaussians, experts, "cuda")
    ]
    path = write_results(
        "single_pass", rows, shlex.join(["python", *sys.argv]), options.results_dir
    )
    print(f"Written to {path.name} and {path.with_suffix('.md').name}.")


def measure_scene(options: Options, gaussians: int, experts: int, device: str) -> list[dict]:
    """One row for each of forward, backward to features, and backward to everything."""
    generator = torch.Generator().manual_seed(options.seed)
    view = forward_view(options.width, options.height, device)
    parts = [random_gaussians(gaussians, view, generator) for _ in range(experts)]
    features = [torch.rand(gaussians, options.features, generator=generator) for _ in parts]
    frozen = Scene(parts, [values.to(device) for values in features], view)
    agreement = compare(frozen)
    rows = []
    for name in ("forward", "forward + backward to features", "forward + backward to everything"):
        scene, leaves = _attach(frozen, name)
        one = time_calls(_step(scene.together, leaves), options.repeats)
        many = time_calls(_step(scene.apart, leaves), options.repeats)
        print(
            f"{experts} x {gaussians}, {name}: one pass {one.median:.3f} ms, "
            f"{experts} passes {many.median:.3f} ms"
        )
        rows.append(
            {
                "pass": name,
                "experts": experts,
                "gaussians_each": gaussians,
                **one.columns("single_"),
                **many.columns("separate_"),
                "times_faster": round(many.median / one.median, 3),
                **agreement,
                "width": options.width,
                "height": options.height,
                "channels": 3 + options.features + 1,
            }
        )
    return rows


def compare(scene: Scene) -> dict[str, float]:
    """Largest difference of any image, pixels that flipped at a threshold counted apart.

    Raises:
        AssertionError: more pixels differ by 1e-5 than flips explain.
    """
    largest, share = 0.0, 0.0
    for one, many in zip(scene.together(), scene.apart(), strict=True):
        difference = (one - many).abs().amax(dim=-1)
        is_flipped = ~(difference <= LARGEST_DIFFERENCE)
        largest = max(largest, difference[~is_flipped].max().item())
        share = max(share, is_flipped.float().mean().item())
    assert share <= LARGEST_SHARE_OF_FLIPS, (
        f"{share:.2e} of the pixels differ by more than {LARGEST_DIFFERENCE}."
    )
    return {"largest_difference": largest, "flipped_share": share}


def _attach(scene: Scene, name: str) -> tuple[Scene, list[Tensor]]:
    """The scene with gradients for what the pass needs, and these leaves."""
    if name == "forward":
        return scene, []
    features = [values.clone().requires_grad_() for values in scene.features]
    if name.endswith("to features"):
        return replace(scene, features=features), features
    leaves, experts = [*features], []
    for expert in scene.experts:
        own = {field: getattr(expert, field).clone().requires_grad_() for field in LEAVES}
        experts.append(replace(expert, **own))
        leaves += own.values()
    return replace(scene, experts=experts, features=features), leaves


def _step(draw: Callable[[], tuple[Tensor, ...]], leaves: list[Tensor]) -> Callable[[], object]:
    def step() -> object:
        images = draw()
        if not leaves:
            return images
        loss = torch.stack([(image * image).mean() for image in images]).sum()
        return torch.autograd.grad(loss, leaves)

    return step


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
