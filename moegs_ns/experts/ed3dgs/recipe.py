"""How E-D3DGS is trained (Bae et al., ECCV 2024): one stage, deformed from the first step on."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from torch import Tensor
from torch.nn import Parameter

from moegs_ns.cuda_graphs.graphed import GraphedCallable
from moegs_ns.experts.ed3dgs.embedding_smoothness import (
    Neighbours,
    embedding_penalty,
    find_neighbours,
)
from moegs_ns.experts.ed3dgs.error_sampling import ErrorSampler, ErrorSamplingConfig
from moegs_ns.experts.ed3dgs.expert import PUBLISHED_EXTENT, ED3DGSExpert
from moegs_ns.experts.recipe import Recipe, RecipeConfig
from moegs_ns.scene import FrameTable
from moegs_ns.training.densification import DensificationConfig
from moegs_ns.training.losses import TrainingRender, smoothness_penalty
from moegs_ns.training.samplers import Sampler


@dataclass
class ED3DGSRecipeConfig(RecipeConfig):
    """The recipe published for N3V; other data sets differ in numbers that are fields here."""

    _target: type = field(default_factory=lambda: ED3DGSRecipe)
    ssim_lambda: float = 1 / 3
    """Weight of D-SSIM in the loss of bursts, where that of L1 is the rest."""
    ssim_lambda_between: float = 0.0
    """The same between bursts, published as 0: then only L1 counts."""
    densification: DensificationConfig = field(
        default_factory=lambda: DensificationConfig(
            refine_start_iter=5000, refine_stop_iter=79900, grow_grad2d=3e-4
        )
    )
    """When Gaussians are added and removed, which goes on until the end."""
    sampling: ErrorSamplingConfig = field(default_factory=ErrorSamplingConfig)
    """Which images are trained on."""
    motion_steps: int = 1000
    """Steps over which the deformation is turned on; 0, as published for scenes other than N3V,
    shows all of it from the beginning."""
    appearance_start: int = 5000
    """Step after which scale, opacity and colour begin to be deformed too; 0 as above."""
    appearance_steps: int = 1000
    """Steps over which that is turned on; 0 as above."""
    time_growth_steps: int = 10000
    """Steps over which the fine decoder comes to tell all times apart; 0 for Technicolor, which
    starts with all."""
    weight_opacity: float = 1e-4
    """Weight of the mean opacity, as in the paper; in the release it is that of the sigmoid of the
    mean of their logits."""
    weight_embedding: float = 1.0
    """Weight of the differences between embeddings of neighbours; published as 0.1 for
    Technicolor."""
    num_neighbours: int = 20
    """Neighbours that each Gaussian is compared with."""
    weight_time_smoothness: float = 0.0
    """Weight of the squared second difference of the embeddings of time; published as 1e-4 for
    HyperNeRF, where the release compares them with the last one by mistake."""


class ED3DGSRecipe(Recipe):
    """One image per step. Deformation, and how finely it tells time apart, grows step by step."""

    config: ED3DGSRecipeConfig
    extent_groups = ("means",)

    def __init__(self, config: ED3DGSRecipeConfig, *args: Any, **kwargs: Any) -> None:
        check_config(config)
        super().__init__(config, *args, **kwargs)
        self.schedule = config.sampling.scaled(self.budget)
        self.neighbours: Neighbours | None = None
        """Pairs of neighbours; None when the set of Gaussians has changed since they were found."""
        self._graphed_terms = GraphedCallable(self._terms, self.expert.gauss_params)

    @property
    def expert(self) -> ED3DGSExpert:
        return cast(ED3DGSExpert, super().expert)

    def parameter_groups(self) -> dict[str, list[Parameter]]:
        """See base; the networks, the embeddings of time and the cameras' clocks are groups."""
        return super().parameter_groups() | {
            "decoders": list(self.expert.decoders.parameters()),
            "time_grid": list(self.expert.time_grid.parameters()),
            "time_offsets": [self.expert.time_offsets],
        }

    def usual_sampler(self, table: FrameTable, seed: int) -> Sampler:
        return ErrorSampler(table, self.schedule, seed)

    def ssim_lambda(self, step: int) -> float:
        """See base; larger in bursts."""
        is_burst = self.schedule.is_burst(step + 1)
        return self.config.ssim_lambda if is_burst else self.config.ssim_lambda_between

    def before_step(self, step: int) -> None:
        """See base; sets how much of the deformation is shown and how finely it tells time."""
        super().before_step(step)
        config, expert = self.config, self.expert
        motion = self._progress(step, 0, config.motion_steps)
        appearance = self._progress(step, config.appearance_start, config.appearance_steps)
        expert.set_weights(motion, appearance)
        coarse, rows = expert.coarse_rows, len(expert.time_grid.values)
        grown = self._progress(step, 0, config.time_growth_steps)
        expert.fine_rows = coarse + int((rows - coarse) * grown)

    def _progress(self, step: int, start: int, length: int) -> float:
        """How much of something that grows for `length` steps after `start` there is."""
        done = step + 1 - start * self.budget
        return min(1.0, max(0.0, done / (length * self.budget))) if length else float(done > 0.0)

    def loss_terms(self, step: int, parts: Sequence[TrainingRender]) -> dict[str, Tensor]:
        """See base; L1 has the same weight in all steps, D-SSIM comes on top."""
        losses, ssim_lambda = super().loss_terms(step, parts), self.ssim_lambda(step)
        if ssim_lambda > 0.0:
            losses["photometric"] = losses["photometric"] / (1.0 - ssim_lambda)
        if self.config.weight_time_smoothness > 0.0:
            bend = smoothness_penalty(self.expert.time_grid.values)
            losses["time_smoothness"] = self.config.weight_time_smoothness * bend
        return losses

    def regularizers(self) -> dict[str, Tensor]:
        """See base; also how much the embeddings of neighbours differ."""
        names = ("opacity", "scale", "embedding")
        weights = {name: getattr(self.config, f"weight_{name}") for name in names}
        names = [name for name, weight in weights.items() if weight > 0.0]
        if "embedding" in names:
            self.current_neighbours()  # Their search cannot be captured.
        return dict(zip(names, self._graphed_terms(), strict=True)) if names else {}

    def _terms(self) -> list[Tensor]:
        terms, weight = super().regularizers(), self.config.weight_embedding
        if weight > 0.0:
            embeddings = self.expert.gauss_params["embeddings"]
            terms["embedding"] = weight * embedding_penalty(embeddings, self.current_neighbours())
        return list(terms.values())

    def current_neighbours(self) -> Neighbours:
        """Pairs of neighbours, found anew if the set of Gaussians has changed."""
        if self.neighbours is None:
            unit = self.densifier.extent / PUBLISHED_EXTENT
            means = self.expert.gauss_params["means"]
            self.neighbours = find_neighbours(means, self.config.num_neighbours, unit)
        return self.neighbours

    def after_step(self, step: int) -> None:
        if not self.is_refinement_due(step + 1):
            return
        self.growth.grow(self.densifier, self._forget_neighbours)
        if self.growth.prune(self.densifier):
            self._forget_neighbours()

    def _forget_neighbours(self, added: slice | None = None) -> None:
        self.neighbours = None

    def get_extra_state(self) -> dict[str, Any]:
        """See base; neighbours are kept, since Gaussians have moved since they were found."""
        pairs = None if self.neighbours is None else self.neighbours.state()
        return super().get_extra_state() | {"neighbours": pairs}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        super().set_extra_state(state)
        pairs, device = state["neighbours"], self.expert.background.device
        self.neighbours = None
        # Lists of pairs, as they were stored once, are dropped: neighbours are then found anew.
        if pairs is not None and "starts" in pairs:
            self.neighbours = Neighbours.from_state(pairs, device)
        # A captured graph compares other pairs.
        self._graphed_terms = GraphedCallable(self._terms, self.expert.gauss_params)


def check_config(config: ED3DGSRecipeConfig) -> None:
    """Raise ValueError for options that no step could follow."""
    lambdas = (config.ssim_lambda, config.ssim_lambda_between)
    if not all(0.0 <= value < 1.0 for value in lambdas):
        raise ValueError(
            "E-D3DGS expects a --pipeline.model.recipe.ssim-lambda and ssim-lambda-between of at "
            f"least 0 and below 1, as L1 has the rest of the weight, got {lambdas[0]} and "
            f"{lambdas[1]}."
        )
    sampling = config.sampling
    if sampling.burst_every < 1 or not 0 <= sampling.burst_steps <= sampling.burst_every:
        raise ValueError(
            "E-D3DGS expects --pipeline.model.recipe.sampling.burst-steps between 0 and "
            f"burst-every, which is at least 1, got {sampling.burst_steps} and "
            f"{sampling.burst_every}."
        )
