"""What a mixture does after rasterisation, in one kernel and in plain torch, on CUDA.

python -m benchmarks.speed.blend

`raster` is the rasterisation that both begin with; the rest of their times is the blend's.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import tyro

from benchmarks.tables import RESULTS, Table
from moegs_ns.cameras import View
from moegs_ns.evaluation.random_scenes import forward_view, random_gaussians
from moegs_ns.evaluation.tables import Row
from moegs_ns.evaluation.timing import columns, time_in_turns
from moegs_ns.experts.stg.expert import STGExpertConfig
from moegs_ns.mixture.fused_blend import SWITCH
from moegs_ns.mixture.mixture import GateConfig, Mixture
from moegs_ns.routers import VolumeAwarePixelRouterConfig
from moegs_ns.scene import InitialPoints, SceneInfo
from moegs_ns.splatting import ProjectedGaussians, project, rasterize

BLUR = 0.02
"""Of gates, as a fraction of the image's height."""
SCENE = SceneInfo(num_frames=2, fps=30.0, center=(0.0, 0.0, 0.0), extent=1.0, background=None)


@dataclass(frozen=True, kw_only=True)
class Blend(Table):
    """What to blend and how often."""

    name: str = "blend"
    results_dir: Path = RESULTS / "synthetic"
    sizes: tuple[tuple[int, int], ...] = ((1352, 1014), (640, 360))
    """Widths and heights."""
    experts: tuple[int, ...] = (2, 3, 4)
    gaussians: int = 150_000
    """Gaussians of each expert."""
    repeats: int = 50
    seed: int = 0

    def rows(self) -> Iterator[Row]:
        """Time frames and router steps; check that images agree."""
        if not torch.cuda.is_available():
            raise SystemExit("The blend is measured on CUDA, and no CUDA device was found.")
        for width, height in self.sizes:
            for experts in self.experts:
                scene = RandomMixture.of(experts, self.gaussians, (width, height), self.seed)
                yield from self.measure(scene)

    def measure(self, scene: "RandomMixture") -> Iterator[Row]:
        """Rows of frames, with blurred gates too, and one of router steps."""
        for name, step, blur in (
            ("frame", scene.frame, 0.0), ("frame, blurred gates", scene.frame, BLUR),
            ("router step", scene.router_step, 0.0),
        ):  # fmt: skip
            scene.mixture.gate_config = GateConfig(blur=blur)
            difference = scene.difference()
            calls: dict[str, Callable[[], object]] = {
                "raster": partial(step, scene.raster),
                "torch": partial(step, partial(scene.render, "0")),
                "kernel": partial(step, partial(scene.render, "1")),
            }
            times = time_in_turns(calls, self.repeats)
            row: Row = {
                "what": name, "experts": len(scene.projected), "gaussians_each": self.gaussians,
                "width": scene.view.width, "height": scene.view.height,
            }  # fmt: skip
            for kind, each in times.items():
                row |= columns(each, f"{kind}_")
            yield row | {"largest_difference": difference}


@dataclass(frozen=True)
class RandomMixture:
    """Random Gaussians under a router with random weights, projected before one camera."""

    mixture: Mixture
    projected: list[ProjectedGaussians]
    view: View

    @classmethod
    def of(cls, experts: int, count: int, size: tuple[int, int], seed: int) -> "RandomMixture":
        """A mixture on the GPU."""
        generator = torch.Generator().manual_seed(seed)
        view = forward_view(*size, "cuda")
        projected = [
            project(random_gaussians(count, view, generator), view) for _ in range(experts)
        ]
        # Only their backgrounds are used.
        points = InitialPoints(xyz=torch.zeros(4, 3), rgb=torch.zeros(4, 3))
        members = [STGExpertConfig().setup(scene=SCENE, points=points) for _ in range(experts)]
        router = VolumeAwarePixelRouterConfig().setup(scene=SCENE, counts=[count] * experts)
        for parameter in router.parameters():
            parameter.data += torch.randn(parameter.shape, generator=generator)
        return cls(Mixture(members, router, 1.0).cuda(), projected, view)

    def render(self, switch: str) -> torch.Tensor:
        """The mixture's image, by the kernel ("1") or not ("0")."""
        os.environ[SWITCH] = switch
        return self.mixture.render(self.view, projected=self.projected).rgb

    def raster(self) -> torch.Tensor:
        """The channels that the blend reads."""
        router, time = self.mixture.router, self.view.time
        features = [
            router.gaussian_features(k, one.ids, time) for k, one in enumerate(self.projected)
        ]
        return rasterize(self.projected, self.view, features).features

    def difference(self) -> float:
        """Largest of any colour between the two."""
        with torch.no_grad():
            return float((self.render("1") - self.render("0")).abs().max())

    def frame(self, draw: Callable[[], torch.Tensor]) -> None:
        """An image without gradients."""
        with torch.no_grad():
            draw()

    def router_step(self, draw: Callable[[], torch.Tensor]) -> None:
        """An image and the gradients of all parameters of the router that it depends on."""
        parameters = list(self.mixture.router.parameters())
        torch.autograd.grad(draw().square().mean(), parameters, allow_unused=True)


if __name__ == "__main__":
    tyro.cli(Blend, description=__doc__).main()
