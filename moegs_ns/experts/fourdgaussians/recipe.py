"""How 4DGaussians are trained (Wu et al., CVPR 2024): a static coarse stage, then deformation."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter

from moegs_ns.cuda_graphs.graphed import GraphedCallable
from moegs_ns.experts.fourdgaussians.expert import HexPlaneExpert
from moegs_ns.experts.recipe import Recipe, RecipeConfig
from moegs_ns.scene import FrameTable
from moegs_ns.training.densification import DensificationConfig
from moegs_ns.training.losses import SSIM_LAMBDA, TrainingRender, smoothness_penalty
from moegs_ns.training.samplers import Sampler, ShuffledSampler


@dataclass
class HexPlaneRecipeConfig(RecipeConfig):
    """The published recipe for multi-view video, but for D-SSIM.

    D-SSIM gained 1.9 dB on validation cameras of a real scene, and costs little.
    """

    _target: type = field(default_factory=lambda: HexPlaneRecipe)
    ssim_lambda: float = SSIM_LAMBDA
    """Weight of D-SSIM in the loss; published as 0."""
    coarse_steps: int = 3000
    """Steps of the static stage, which come before those of the fine stage."""
    views: int = 2
    """Images per step, of any time; published as 2 or 4 for N3V and 1 for other scenes."""
    densification: DensificationConfig = field(
        default_factory=lambda: DensificationConfig(refine_stop_iter=10000, grow_grad2d=5e-4)
    )
    """When Gaussians are added, counted from the beginning of each stage. D-SSIM makes
    larger gradients than L1 alone, for which a threshold of 2e-4 is published; 5e-4 gained 0.55 dB
    on validation cameras of a real scene, with less than half of the Gaussians."""
    prune_above: int = 200000
    """Transparent Gaussians are removed only while there are more than this many."""
    reset_every: int | None = 3000
    """Steps between resets of opacity; None for never, as published for N3V."""
    weight_space_smoothness: float = 2e-4
    """Weight of the squared second difference of the spatial planes."""
    weight_time_smoothness: float = 1e-3
    """Weight of the squared second difference of the time planes along time."""
    weight_time_identity: float = 1e-4
    """Weight of the distance of the time planes from one, at which nothing changes over time."""


class HexPlaneRecipe(Recipe):
    """Two stages with fresh optimisers each; the planes are kept smooth in the second."""

    config: HexPlaneRecipeConfig
    extent_groups = ("means", "decoder", "planes")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.graphed_planes = GraphedCallable(self.plane_regularizer, self.expert.planes)

    @property
    def expert(self) -> HexPlaneExpert:
        return cast(HexPlaneExpert, super().expert)

    @property
    def resets_opacities(self) -> bool:
        every, stop = self.config.reset_every, self.config.densification.refine_stop_iter
        has_resets = every is not None and every <= stop
        return has_resets and self.allows_resets

    def parameter_groups(self) -> dict[str, list[Parameter]]:
        """See base; the networks are groups of their own."""
        return super().parameter_groups() | {
            "decoder": list(self.expert.decoder.parameters()),
            "planes": list(self.expert.planes.parameters()),
        }

    @property
    def usual_views(self) -> int:
        return self.config.views

    def usual_sampler(self, table: FrameTable, seed: int) -> Sampler:
        return ShuffledSampler(table, self.usual_views, seed)

    @property
    def coarse_steps(self) -> int:
        """Steps of the static stage at this budget."""
        return self.steps(self.config.coarse_steps)

    def before_step(self, step: int) -> None:
        """See base; turns the deformation on, with fresh optimisers, when the fine stage begins."""
        super().before_step(step)
        if step >= self.coarse_steps and not self.expert.is_deforming:
            self.expert.is_deforming = True
            for optimizer in self.optimizers.values():
                optimizer.state.clear()
            self.densifier.reset_statistics()

    def loss_terms(self, step: int, parts: Sequence[TrainingRender]) -> dict[str, Tensor]:
        losses = super().loss_terms(step, parts)
        if self.expert.is_deforming:
            losses["planes"] = self.graphed_planes()
        return losses

    def plane_regularizer(self) -> Float[Tensor, ""]:
        """Smooth planes, and time planes near one; means over each plane, summed over planes."""
        config, terms = self.config, []
        for level in self.expert.planes.levels:
            terms += [
                len(level.space) * config.weight_space_smoothness * smoothness_penalty(level.space),
                len(level.time) * config.weight_time_smoothness * smoothness_penalty(level.time),
                len(level.time) * config.weight_time_identity * (1.0 - level.time).abs().mean(),
            ]
        return torch.stack(terms).sum()

    def after_step(self, step: int) -> None:
        """See base; each stage has a clock of its own."""
        done = step + 1 - (self.coarse_steps if step >= self.coarse_steps else 0)
        if self.is_refinement_due(done):
            self.growth.grow(self.densifier)
            if self.expert.num_gaussians > self.config.prune_above:
                self.growth.prune(self.densifier)
        reset_every, stop = self.config.reset_every, self.config.densification.refine_stop_iter
        is_reset = reset_every is not None and self.is_due(done, reset_every, 0, stop)
        if is_reset and self.allows_resets:
            self.densifier.reset_opacities()
