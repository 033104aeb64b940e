"""How a tracked expert is trained: all frames at once, neighbours kept together."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from moegs_ns.cuda_graphs.graphed import GraphedCallable
from moegs_ns.experts.keyframe_recipe import DYNAMIC, KeyframeRecipe
from moegs_ns.experts.recipe import RecipeConfig
from moegs_ns.experts.tracked.expert import TrackedExpert
from moegs_ns.experts.tracked.rigidity import (
    Neighbourhoods,
    find_neighbourhoods,
    motion_errors,
)
from moegs_ns.scene import FrameTable
from moegs_ns.training.losses import TrainingRender
from moegs_ns.training.samplers import Sampler, ShuffledSampler

COMPARED_TIMES = 4
"""Times, evenly spread over the clip, at which neighbours must be near each other."""
REACH = 0.1
"""Distance, in scene extents, beyond which neighbours may be missing."""


@dataclass
class TrackedRecipeConfig(RecipeConfig):
    """Growth as in 3D Gaussian splatting without resets, and three terms of rigid motion.

    Published weights are per metre; these are per spacing of Gaussians, taken as 2.5 cm.
    """

    _target: type = field(default_factory=lambda: TrackedRecipe)
    num_neighbours: int = 20
    """Neighbours that each dynamic Gaussian is compared with; found when the set of Gaussians
    changes."""
    weight_rigidity: float = 0.1
    """Weight of how far neighbours are, a frame later, from where a Gaussian's own turn would
    bring them, in spacings; published as 4 per metre."""
    weight_rotation: float = 4.0
    """Weight of how differently neighbours turn in a frame, in half radians."""
    weight_isometry: float = 0.05
    """Weight of the change of neighbours' distances since another time, in spacings; published as
    2 per metre."""


class TrackedRecipe(KeyframeRecipe):
    """One image per step, of any frame. Both kinds of Gaussians grow where gradients are large."""

    config: TrackedRecipeConfig
    extent_groups = ("means", f"{DYNAMIC}means")

    def __init__(self, config: TrackedRecipeConfig, *args: Any, **kwargs: Any) -> None:
        check_config(config)
        super().__init__(config, *args, **kwargs)
        self.neighbours: Neighbourhoods | None = None
        """Of the dynamic Gaussians; None when their set has changed since they were found."""
        self._graphed_errors = self._new_graph()

    @property
    def expert(self) -> TrackedExpert:
        return cast(TrackedExpert, super().expert)

    def usual_sampler(self, table: FrameTable, seed: int) -> Sampler:
        return ShuffledSampler(table, self.usual_views, seed)

    def loss_terms(self, step: int, parts: Sequence[TrainingRender]) -> dict[str, Tensor]:
        """See base; neighbours are compared at the time that was rendered."""
        losses = super().loss_terms(step, parts)
        return losses | self.motion_terms(parts[0].view.times[0].detach())

    def motion_terms(self, time: Float[Tensor, ""]) -> dict[str, Tensor]:
        """Named losses of motion from `time`, in [0, 1], to the next frame and to any other time;
        none where nothing can move."""
        config, expert = self.config, self.expert
        weights = {
            "rigidity": config.weight_rigidity,
            "rotation": config.weight_rotation,
            "isometry": config.weight_isometry,
        }
        weights = {name: weight for name, weight in weights.items() if weight > 0.0}
        if not weights or expert.num_dynamic < 2 or expert.scene.num_frames < 2:
            return {}
        self.current_neighbours()  # Their search cannot be captured.
        other = torch.rand((), generator=self.generator)
        errors = self._graphed_errors(time, other)
        return {name: weight * getattr(errors, name) for name, weight in weights.items()}

    def _new_graph(self) -> GraphedCallable:
        return GraphedCallable(self._errors, self.expert.key_gauss_params)

    def _errors(self, time: Float[Tensor, ""], other: Float[Tensor, ""]) -> Any:
        last = self.expert.scene.num_frames - 1
        frame = time * last
        # The frame after the last one would be that before it.
        near = torch.where(frame + 1.0 > last, frame - 1.0, frame + 1.0)
        frames = (frame, near, (other * last).to(frame))
        now, soon, then = (self.expert.dynamic_poses(each) for each in frames)
        return motion_errors(now, soon, then, self.current_neighbours())

    def current_neighbours(self) -> Neighbourhoods:
        """Neighbours of the dynamic Gaussians, found anew if their set has changed."""
        if self.neighbours is None:
            last = float(self.expert.scene.num_frames - 1)
            means = self.expert.key_gauss_params["means"]
            frames = torch.linspace(0.0, last, COMPARED_TIMES, device=means.device)
            with torch.no_grad():
                paths = torch.stack([self.expert.dynamic_poses(f).means for f in frames], dim=1)
            reach = REACH * self.densifier.extent
            self.neighbours = find_neighbourhoods(paths, self.config.num_neighbours, reach)
        return self.neighbours

    def after_step(self, step: int) -> None:
        if not self.is_refinement_due(step + 1):
            return
        before = self.expert.key_gauss_params["means"]
        self.grow_and_prune()
        if self.expert.key_gauss_params["means"] is not before:
            self.neighbours = None

    def get_extra_state(self) -> dict[str, Any]:
        """See base; neighbours are kept, since Gaussians have moved since they were found."""
        neighbours = None if self.neighbours is None else self.neighbours.state()
        return super().get_extra_state() | {"neighbours": neighbours}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        super().set_extra_state(state)
        stored, device = state["neighbours"], self.expert.background.device
        self.neighbours = None if stored is None else Neighbourhoods.from_state(stored, device)
        # A captured graph compares other neighbours.
        self._graphed_errors = self._new_graph()


def check_config(config: TrackedRecipeConfig) -> None:
    """Raise ValueError for options that no step could follow."""
    weights = (config.weight_rigidity, config.weight_rotation, config.weight_isometry)
    if config.num_neighbours < 1 or min(weights) < 0.0:
        raise ValueError(
            "moegs-tracked expects a --pipeline.model.recipe.num-neighbours of at least 1, and a "
            "weight-rigidity, weight-rotation and weight-isometry of at least 0, got "
            f"{config.num_neighbours}, {weights[0]}, {weights[1]} and {weights[2]}; a weight of 0 "
            "turns a term off."
        )
