"""How Spacetime Gaussians are trained (Li et al., CVPR 2024), for any multi-view scene."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import Parameter

from moegs_ns.experts.base import initial_log_scales
from moegs_ns.experts.recipe import Recipe, RecipeConfig
from moegs_ns.experts.stg.expert import STGExpert
from moegs_ns.experts.stg.guided_sampling import (
    GuidedSampling,
    GuidedSamplingConfig,
    GuidedSamplingState,
    points_along_rays,
)
from moegs_ns.scene import FrameTable, InitialPoints
from moegs_ns.training.densification import DensificationConfig
from moegs_ns.training.losses import TrainingRender
from moegs_ns.training.samplers import SameTimeSampler, Sampler

BRIEF = 2.0
"""Temporal width, in that of a moving seed, below which a Gaussian keeps its centre in time."""


@dataclass
class STGRecipeConfig(RecipeConfig):
    """Twelve early rounds of densification, then pruning and two resets of opacity."""

    _target: type = field(default_factory=lambda: STGRecipe)
    densification: DensificationConfig = field(
        default_factory=lambda: DensificationConfig(refine_stop_iter=1700)
    )
    """When Gaussians are added."""
    prune_stop: int = 7000
    """Last step at which transparent Gaussians are removed, after the last round of growth."""
    reset_every: int = 3000
    """Steps between resets of opacity."""
    reset_stop: int = 6000
    """Last step at which opacity may be reset."""
    guided_sampling: GuidedSamplingConfig = field(default_factory=GuidedSamplingConfig)
    """New Gaussians along the rays of badly rendered regions."""
    box_prune_step: int | None = None
    """Step after which Gaussians outside of the initial cloud's box are removed once; published as
    10000 for N3V and Technicolor, where the cloud covers the scene."""
    lowest_z: float | None = None
    """Gaussians with a smaller z in the world are removed at the start and every 1000 steps;
    published as 4.5 for N3V, meaningless in other worlds."""


class STGRecipe(Recipe):
    """Two views of one time per step; clones and children get a new centre in time."""

    config: STGRecipeConfig
    extent_groups = ("means", "motion")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.guided: GuidedSampling | None = None
        self.table: FrameTable | None = None
        """The images that are trained on."""
        means = self.expert.gauss_params["means"].detach()
        self.cloud_box = torch.stack([means.amin(0), means.amax(0)]) if len(means) else None

    @property
    def expert(self) -> STGExpert:
        return cast(STGExpert, super().expert)

    @property
    def resets_opacities(self) -> bool:
        has_resets = self.config.reset_every <= self.config.reset_stop
        return has_resets and self.allows_resets

    def parameter_groups(self) -> dict[str, list[Parameter]]:
        """See base; the full model's decoder is a group of its own."""
        decoder = list(self.expert.color.parameters()) if self.expert.color else []
        return super().parameter_groups() | ({"decoder": decoder} if decoder else {})

    @property
    def usual_views(self) -> int:
        return 2

    def usual_sampler(self, table: FrameTable, seed: int) -> Sampler:
        return SameTimeSampler(table, self.usual_views, seed)

    def make_sampler(self, table: FrameTable) -> Sampler:
        self._start_guided_sampling(table)
        return super().make_sampler(table)

    def share_images(self, table: FrameTable) -> None:
        self._start_guided_sampling(table)

    def _start_guided_sampling(self, table: FrameTable) -> None:
        """Watch the training renders of these images for badly rendered regions."""
        self.table = table
        if self.config.guided_sampling.start is not None:
            cameras = len(table.camera_ids.unique())
            self.guided = GuidedSampling(self.config.guided_sampling, cameras)

    def after_backward(self, step: int, parts: Sequence[TrainingRender]) -> None:
        """See base; then samples rays of a badly rendered image."""
        super().after_backward(step, parts)
        start = self.config.guided_sampling.start
        if self.guided is None or start is None or step < self.steps(start):
            return
        assert self.table is not None
        part = parts[-1]
        camera = int(self.table.camera_ids[part.indices[-1]])
        if self.guided.is_wanted(step, self.steps(self.config.guided_sampling.gap), camera, part):
            self.add_along_rays(part)

    def after_step(self, step: int) -> None:
        config, done = self.config, step + 1
        refine = config.densification
        # Early on clone and split, then only prune, with resets of opacity in between.
        if self.is_refinement_due(done):
            self.growth.grow(self.densifier, self.redraw_time_centers)
        if self.is_due(done, refine.refine_every, refine.refine_stop_iter, config.prune_stop):
            self.growth.prune(self.densifier)
        is_reset = self.is_due(done, config.reset_every, 0, config.reset_stop)
        if is_reset and self.allows_resets:
            self.densifier.reset_opacities()
        self._prune_outside(done)

    def _prune_outside(self, done: int) -> None:
        """Remove what lies where this scene cannot have anything, if the options say where."""
        means = self.expert.gauss_params["means"].detach()
        lowest, box_step = self.config.lowest_z, self.config.box_prune_step
        if lowest is not None and (done == 1 or done % self.steps(1000) == 0):
            self.densifier.remove(means[:, 2] < lowest)
            means = self.expert.gauss_params["means"].detach()
        if box_step is not None and done == self.steps(box_step) and self.cloud_box is not None:
            lower, upper = self.cloud_box.to(means)
            self.densifier.remove(((means < lower) | (means > upper)).any(1))

    def redraw_time_centers(self, added: slice) -> None:
        """Give added Gaussians a centre in time drawn over the whole clip, but for those that live
        as briefly as the moving seeds that they come from, which are elsewhere at other times."""
        raw = self.expert.gauss_params
        centers, widths = raw["time_centers"], raw["time_log_scales"].data[added].exp()
        drawn = self.random_time_centers(added.stop - added.start).to(centers)
        is_brief = widths < BRIEF * self.expert.seed_width
        centers.data[added] = torch.where(is_brief, centers.data[added], drawn)

    def random_time_centers(self, count: int) -> Tensor:
        """Centres drawn over the clip, in the expert's unit of time."""
        return torch.rand(count, generator=self.generator) * self.expert.duration

    @torch.no_grad()
    def add_along_rays(self, part: TrainingRender) -> int:
        """New Gaussians where the last image of `part` is bad, as far as the cap allows."""
        xyz, rgb = points_along_rays(part, self.config.guided_sampling, self.generator)
        old = self.expert.gauss_params["means"].detach()
        room = max(0, self.config.densification.max_gaussians - len(old))
        chosen = torch.randperm(len(xyz), generator=self.generator)[:room]
        xyz, rgb = xyz.cpu()[chosen], rgb.cpu()[chosen]
        if len(xyz) == 0:
            return 0
        points = InitialPoints(xyz, rgb)
        gaussians = self.expert.initial_parameters(points, self.expert.scene)
        gaussians["time_centers"] = self.random_time_centers(len(xyz))
        everything = torch.cat([old.cpu(), xyz])
        gaussians["scales"] = initial_log_scales(everything, self.expert.scene.extent)[len(old) :]
        if "view_features" in gaussians:
            # Published so: what is seen from one camera only says nothing about other directions.
            gaussians["view_features"] = torch.zeros_like(gaussians["view_features"])
        self.densifier.append(gaussians)
        return len(xyz)

    def get_extra_state(self) -> dict[str, Any]:
        state = super().get_extra_state() | {"cloud_box": self.cloud_box}
        if self.guided is not None:
            state["guided_sampling"] = asdict(self.guided.state)
        return state

    def set_extra_state(self, state: dict[str, Any]) -> None:
        super().set_extra_state(state)
        self.cloud_box = state.get("cloud_box")
        if self.guided is not None and "guided_sampling" in state:
            self.guided.state = GuidedSamplingState(**state["guided_sampling"])
