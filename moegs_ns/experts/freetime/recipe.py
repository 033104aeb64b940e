"""How FreeTimeGS is trained: a fixed number of Gaussians, of which dead ones are moved."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
import tyro
from torch import Tensor

from moegs_ns.experts.base import Expert
from moegs_ns.experts.freetime.expert import FreeTimeExpert
from moegs_ns.experts.recipe import Recipe, RecipeConfig
from moegs_ns.scene import FrameTable
from moegs_ns.training.densification import DensificationConfig, Growth, LifeThresholdConfig
from moegs_ns.training.losses import TrainingRender
from moegs_ns.training.relocation import relocate_dead, relocation_scores
from moegs_ns.training.samplers import Sampler, ShuffledSampler


@dataclass
class RelocationConfig(DensificationConfig):
    """When Gaussians are moved, and which; steps are those of the full recipe."""

    refine_start_iter: int = 500
    """Gaussians are moved after this step."""
    refine_stop_iter: int = 24900
    """Last step at which Gaussians are moved."""
    prune_opa: float = 0.005
    """Gaussians that are nowhere more opaque than this are moved onto others."""
    max_gaussians: int = 360000
    """Gaussians to begin with at most, drawn at random among the initial points."""
    # Of growth, which there is none of.
    growth: tyro.conf.Suppress[Growth] = "gradients"
    grow_grad2d: tyro.conf.Suppress[float] = 2e-4
    reference_pixels: tyro.conf.Suppress[int | None] = None
    grow_scale3d: tyro.conf.Suppress[float] = 0.01
    life_threshold: tyro.conf.Suppress[LifeThresholdConfig] = field(
        default_factory=LifeThresholdConfig
    )
    min_observations: tyro.conf.Suppress[int] = 20


@dataclass
class FreeTimeRecipeConfig(RecipeConfig):
    """Relocation every hundred steps, and the 4-D regularisation."""

    _target: type = field(default_factory=lambda: FreeTimeRecipe)
    densification: RelocationConfig = field(default_factory=RelocationConfig)
    """When Gaussians are moved."""
    weight_visible_opacity: float = 0.01
    """Weight of the mean opacity of what is visible at the time of a step, which keeps opaque
    Gaussians from blocking the gradients of others; how visible it is is not changed by it."""
    weight_gate: float = 1e-3
    """Weight of how far gates are shut, of gated lives only."""


class FreeTimeRecipe(Recipe):
    """One image per step; no growth, no pruning, no reset of opacity."""

    config: FreeTimeRecipeConfig
    extent_groups = ("means", "velocities")

    def __init__(
        self, config: FreeTimeRecipeConfig, expert: Expert, budget: float, seed: int
    ) -> None:
        most = config.densification.max_gaussians
        if expert.num_gaussians > most:
            drawn = torch.Generator().manual_seed(seed)
            expert.gauss_params.select_(
                torch.randperm(expert.num_gaussians, generator=drawn)[:most]
            )
        super().__init__(config, expert, budget, seed)

    @property
    def expert(self) -> FreeTimeExpert:
        return cast(FreeTimeExpert, super().expert)

    def usual_sampler(self, table: FrameTable, seed: int) -> Sampler:
        return ShuffledSampler(table, self.usual_views, seed)

    def loss_terms(self, step: int, parts: Sequence[TrainingRender]) -> dict[str, Tensor]:
        """See base; the 4-D regularisation needs the times that were rendered."""
        times = [part.view.times[0] for part in parts]
        return super().loss_terms(step, parts) | self.regularizers_4d(times)

    def regularizers_4d(self, times: Sequence[Tensor]) -> dict[str, Tensor]:
        """Named losses of what is visible at these times, of sizes and of gates."""
        config, raw = self.config, self.expert.gauss_params
        opacities = raw["opacities"].sigmoid()
        visible = [opacities * self.expert.visibility(time).detach() for time in times]
        losses = {
            "visible_opacity": config.weight_visible_opacity * torch.stack(visible).mean(),
        }
        closedness = self.expert.life.closedness(raw)
        if closedness is not None:
            losses["gate"] = config.weight_gate * closedness
        return losses

    def after_step(self, step: int) -> None:
        if self.is_refinement_due(step + 1):
            self.relocate_dead()

    @torch.no_grad()
    def relocate_dead(self) -> int:
        """Move the Gaussians that no frame shows onto others; returns how many."""
        densifier, raw = self.densifier, self.expert.gauss_params
        is_dead = self.expert.highest_opacities() <= self.config.densification.prune_opa
        counts = densifier.statistics["counts"].clamp(min=1.0)
        gradients = densifier.statistics["gradients"] / counts
        scores = relocation_scores(raw["opacities"].sigmoid(), gradients, is_dead)
        moved = relocate_dead(densifier, is_dead, scores)
        densifier.reset_statistics()
        return moved
