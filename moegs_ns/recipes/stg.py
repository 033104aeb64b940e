"""How Spacetime Gaussians are trained (Li et al., CVPR 2024), for any multi-view scene."""

from dataclasses import dataclass, field

import torch

from moegs_ns.experts.stg import STGExpert
from moegs_ns.recipes.base import Recipe, RecipeConfig
from moegs_ns.recipes.densification import DensificationConfig
from moegs_ns.recipes.schedules import is_due
from moegs_ns.samplers import SameTimeSampler, Sampler
from moegs_ns.scene import FrameTable


@dataclass
class STGRecipeConfig(RecipeConfig):
    """Twelve early rounds of densification, then pruning and two resets of opacity."""

    _target: type = field(default_factory=lambda: STGRecipe)
    densification: DensificationConfig = field(
        default_factory=lambda: DensificationConfig(start=500, stop=1700, every=100)
    )
    """When Gaussians are added."""
    prune_stop: int = 7000
    """Last step at which transparent Gaussians are removed, after the last round of growth."""
    reset_every: int = 3000
    """Steps between resets of opacity."""
    reset_stop: int = 6000
    """Last step at which opacity may be reset."""


class STGRecipe(Recipe):
    """Two views of one instant per step; clones and children get a new centre in time."""

    config: STGRecipeConfig
    extent_groups = ("means", "motion")

    @property
    def stg(self) -> STGExpert:
        """The expert, under its own type."""
        assert isinstance(self.expert, STGExpert), type(self.expert)
        return self.expert

    def views_per_step(self, step: int) -> int:
        """See base."""
        return 2

    def make_sampler(self, table: FrameTable) -> Sampler:
        """See base."""
        seed = self.generator.initial_seed()
        self.sampler = SameTimeSampler(table, self.views_per_step(0), seed)
        return self.sampler

    def after_step(self, step: int) -> None:
        """See base."""
        config, grow, done = self.config, self.config.densification, step + 1
        every, growth_stop = self.steps(grow.every), self.steps(grow.stop)
        if is_due(done, every, self.steps(grow.start), growth_stop):
            self.densifier.grow(self.redraw_time_centers)
        if is_due(done, every, growth_stop, self.steps(config.prune_stop)):
            self.densifier.prune()
        if is_due(done, self.steps(config.reset_every), 0, self.steps(config.reset_stop)):
            self.densifier.reset_opacities()

    def redraw_time_centers(self, rows: slice) -> None:
        """Give new Gaussians a centre anywhere in the clip, so that they find their own moment."""
        centers = self.expert.gauss_params["time_centers"]
        count = rows.stop - rows.start
        drawn = torch.rand(count, generator=self.generator) * self.stg.duration
        centers.data[rows] = drawn.to(centers)
