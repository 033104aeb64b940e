"""A family of experts from outside the package, as another project would define and register it.

Nothing of the package knows it; it leans on what `Expert`, `Recipe` and `expert_method` offer to
everybody. Its method has a name of its own, without the prefix of ours, and no entry point:
nerfstudio finds it through `NERFSTUDIO_METHOD_CONFIGS=drift=drift_family:method`.
"""

from dataclasses import dataclass, field

import torch
from moegs_ns.method_configs.shared import adam, expert_method, gaussian_optimizers
from torch import Tensor

from moegs_ns.experts import Expert, ExpertConfig
from moegs_ns.experts.recipe import Recipe, RecipeConfig
from moegs_ns.gaussians import Gaussians
from moegs_ns.scene import FrameTable, InitialPoints, SceneInfo
from moegs_ns.training.optimizers import LogLinearSchedulerConfig
from moegs_ns.training.samplers import Sampler, ShuffledSampler


@dataclass
class DriftExpertConfig(ExpertConfig):
    """Gaussians that drift with a constant velocity."""

    _target: type = field(default_factory=lambda: DriftExpert)
    blink: bool = False
    """Hide the second half of the Gaussians in the second half of the clip."""


class DriftExpert(Expert):
    config: DriftExpertConfig

    def initial_parameters(self, points: InitialPoints, scene: SceneInfo) -> dict[str, Tensor]:
        velocities = {"velocities": torch.zeros(len(points), 3)}
        return super().initial_parameters(points, scene) | velocities

    def at(self, time: Tensor, camera: Tensor | None = None) -> Gaussians:
        raw = self.gauss_params
        everything = Gaussians(
            means=raw["means"] + time * raw["velocities"],
            quats=torch.nn.functional.normalize(raw["quats"], dim=-1),
            scales=raw["scales"].exp(),
            opacities=raw["opacities"].sigmoid(),
            sh=self.active_sh(),
        )
        if self.config.blink and float(time) > 0.5:
            return everything.select(torch.arange(self.num_gaussians // 2))
        return everything


@dataclass
class DriftRecipeConfig(RecipeConfig):
    _target: type = field(default_factory=lambda: DriftRecipe)


class DriftRecipe(Recipe):
    """Shuffled images; the set of Gaussians never changes."""

    extent_groups = ("means", "velocities")

    def usual_sampler(self, table: FrameTable, seed: int) -> Sampler:
        return ShuffledSampler(table, self.usual_views, seed)


method = expert_method(
    "drift",
    "Expert of another project: Gaussians that drift.",
    DriftExpertConfig(),
    DriftRecipeConfig(),
    gaussian_optimizers(LogLinearSchedulerConfig(), scales_lr=5e-3) | {"velocities": adam(1e-3)},
    steps=1000,
)
