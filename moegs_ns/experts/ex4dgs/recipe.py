"""How Ex4DGS is trained (Lee et al., NeurIPS 2024): more and more frames, static made dynamic."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from nerfstudio.configs.base_config import PrintableConfig
from torch import Tensor

from moegs_ns.experts.ex4dgs import error_backtracking as backtracking
from moegs_ns.experts.ex4dgs.dynamic_params import (
    adjust_windows,
    dynamic_gaussians,
    extend_keys,
    redraw_windows,
)
from moegs_ns.experts.ex4dgs.error_backtracking import ErrorPruneConfig
from moegs_ns.experts.ex4dgs.expert import Ex4DGSExpert
from moegs_ns.experts.keyframe_recipe import DYNAMIC, DynamicDensifier, KeyframeRecipe
from moegs_ns.experts.recipe import RecipeConfig
from moegs_ns.scene import FrameTable
from moegs_ns.splatting import ProjectedGaussians
from moegs_ns.splatting.rendering import zero_probes
from moegs_ns.training.densification import DensificationConfig
from moegs_ns.training.losses import TrainingRender
from moegs_ns.training.optimizers import is_due
from moegs_ns.training.samplers import Sampler, ShuffledSampler

LOG_OFFSET = 1e-3
"""Displacement, in scene extents, below which pulling it to zero loses its force."""
MIN_DISPLACEMENT = 1e-6
"""Displacement, in scene extents, from which a Gaussian counts as moving."""
RELEASED_WIDTH = 100.0
"""Initial width of temporal opacity windows, in units of the frames from the best one to either
end, that comes to what the release does: it means 1 but mistakes it for a logarithm, which
overflows."""


@dataclass
class GrowthConfig(PrintableConfig):
    """How the clip is revealed; steps are those of the full recipe."""

    start_keys: int = 1
    """Intervals of keys that are drawn at first, published as 1."""
    after: int = 500
    """Step after which further frames are drawn."""
    every: int = 400
    """Steps between two extensions, each by one interval of keys; published as 300 to 400."""
    stop: int = 12800
    """Step by which all frames are drawn; longer clips than the published ones, which have 300
    frames, are extended by more at once."""


@dataclass
class ConversionConfig(PrintableConfig):
    """When and which static Gaussians become dynamic; steps are those of the full recipe."""

    every: int = 3980
    """Steps between two conversions; published as 1777 to 4777 for Technicolor."""
    delay: int = 100
    """Steps after each extension of the clip when a conversion is wanted, beside the one that comes
    at once. It waits for an image of the latest frames."""
    fraction: float = 0.02
    """Fraction of the visible static Gaussians that a conversion makes dynamic."""


@dataclass
class Ex4DGSRecipeConfig(RecipeConfig):
    """The recipe published for N3V; Technicolor differs in numbers that are fields here."""

    _target: type = field(default_factory=lambda: Ex4DGSRecipe)
    as_released: bool = False
    """Repeat what the released code does by mistake: static Gaussians slow down when the clip gets
    longer, as their displacement is spread over more frames, and temporal opacity windows of
    converted Gaussians begin open at all times."""
    densification: DensificationConfig = field(
        default_factory=lambda: DensificationConfig(
            refine_stop_iter=30000,
            refine_every=300,
            grow_grad2d=2e-4,
            prune_opa=0.01,
        )
    )
    """When Gaussians are added and removed, and which of the static ones."""
    dynamic_grow_grad2d: float = 1e-4
    """Mean screen gradient from which a dynamic Gaussian is refined."""
    growth: GrowthConfig = field(default_factory=GrowthConfig)
    """How the clip is revealed."""
    conversion: ConversionConfig = field(default_factory=ConversionConfig)
    """When static Gaussians become dynamic."""
    error_prune: ErrorPruneConfig = field(default_factory=ErrorPruneConfig)
    """Which Gaussians are removed for their errors."""
    adjust_lead: int = 3000
    """Steps before the end of densification when centres and widths of opacity are last put right,
    which happens every four rounds."""
    weight_displacement: float = 1e-4
    """Weight of the mean log displacement of static Gaussians; published as 2e-4 for most of
    Technicolor."""
    weight_key_spread: float = 1e-4
    """Weight of the mean distance of a dynamic Gaussian's keys from its first one."""
    random_background: bool = True
    """Whether opaque scenes are trained on a background of random colour."""


class WideSplits(DynamicDensifier):
    """Children of dynamic Gaussians lie twice as far apart, as published."""

    split_spread = 2.0


class Ex4DGSRecipe(KeyframeRecipe):
    """One image per step. Errors are attributed to Gaussians in every step."""

    config: Ex4DGSRecipeConfig
    extent_groups = ("means", "displacements", f"{DYNAMIC}means")
    dynamic_densifier = WideSplits

    def __init__(self, config: Ex4DGSRecipeConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self.last_frame = self.expert.scene.num_frames - 1
        self.densifier.statistics |= self._fresh_statistics(self.expert.num_static)
        self.dynamic.statistics |= self._fresh_statistics(self.expert.num_dynamic)
        # An expert that has dynamic Gaussians already holds the frames that it was trained on.
        if self.expert.is_at_start:
            first_frames = config.growth.start_keys * self.expert.interval
            self._start_with(min(first_frames, self.last_frame))
        self.is_armed = False
        """Whether a conversion waits for an image of the latest frames."""
        self.grown_at = 0
        """Finished steps at the last extension of the clip."""
        self.pass_steps = 0
        """Steps of the current pass over the images, counted from the last extension at most."""
        self.shared_table: FrameTable | None = None
        """Images of all frames, where somebody else chooses among them from the first step on."""
        self._part: TrainingRender | None = None

    @property
    def expert(self) -> Ex4DGSExpert:
        return cast(Ex4DGSExpert, super().expert)

    @property
    def dynamic_densification(self) -> DensificationConfig:
        settings = self.config
        return replace(settings.densification, grow_grad2d=settings.dynamic_grow_grad2d)

    def make_sampler(self, table: FrameTable) -> Sampler:
        """See base; only the first frames are drawn at first."""
        first = int(table.frame_ids.min()) if len(table) else 0
        if self.expert.is_at_start and first > self.expert.duration:
            self._start_with(first)
        sampler = super().make_sampler(table)
        sampler.limit_frames(int(self.expert.duration) + 1)
        return sampler

    def usual_sampler(self, table: FrameTable, seed: int) -> Sampler:
        return ShuffledSampler(table, self.usual_views, seed)

    def to_rasterize(self, projected: ProjectedGaussians) -> ProjectedGaussians:
        """See base; with probe channels, whose gradients are the errors of the Gaussians."""
        probes = zero_probes(projected.count, backtracking.NUM_SUMS, like=projected.channels)
        return replace(super().to_rasterize(projected), probes=probes)

    def share_images(self, table: FrameTable) -> None:
        """See base; the whole clip is drawn from the first step on."""
        self.shared_table = table
        if self.expert.is_at_start:
            self._start_with(self.last_frame)

    def _start_with(self, last_frame: int) -> None:
        """Begin with other frames, and with the moving seeds of these."""
        self.expert.start_with(last_frame)
        self.dynamic.reset_statistics()
        self.dynamic.statistics |= self._fresh_statistics(self.expert.num_dynamic)

    def _fresh_statistics(self, count: int) -> dict[str, Tensor]:
        """`backtracking.fresh_statistics` on the expert's device."""
        fresh = backtracking.fresh_statistics(count)
        return {name: value.to(self.expert.background) for name, value in fresh.items()}

    def loss_terms(self, step: int, parts: Sequence[TrainingRender]) -> dict[str, Tensor]:
        losses = super().loss_terms(step, parts)
        prune = self.config.error_prune
        period = prune.every_rounds * self.steps(self.config.densification.refine_every)
        is_judging = step >= self.steps(prune.start) - period
        # Adds zero, whose gradients in the probe channels are the errors of the Gaussians.
        for part in parts:
            losses["photometric"] = losses["photometric"] + backtracking.probe_loss(
                part, with_similarity=is_judging
            )
        if step >= self.steps(self.config.growth.every + self.config.conversion.delay):
            losses |= self.motion_regularizers()
        return losses

    def motion_regularizers(self) -> dict[str, Float[Tensor, ""]]:
        """Displacements drawn to zero, all but a few; keys drawn to the first one.

        Lengths are in scene extents. The logarithm makes the former negative as a rule.
        """
        extent, losses = self.densifier.extent, {}
        if self.expert.num_static:
            lengths = self.expert.gauss_params["displacements"].norm(dim=-1) / extent
            losses["displacement"] = (
                self.config.weight_displacement * torch.log(lengths + LOG_OFFSET).mean()
            )
        if self.expert.num_dynamic:
            keys = self.expert.key_gauss_params["means"]
            spread = (keys[:, 1:] - keys[:, :1]).norm(dim=-1).mean() / extent
            losses["key_spread"] = self.config.weight_key_spread * spread
        return losses

    def after_backward(self, step: int, parts: Sequence[TrainingRender]) -> None:
        """See base; remembers what a conversion may need."""
        super().after_backward(step, parts)
        self._part = parts[-1] if parts else None

    def observe(self, part: TrainingRender, num_views: int) -> None:
        """See base; also the errors of both kinds of Gaussians."""
        probes = part.render.projected.probes
        if probes is None or probes.grad is None or part.render.screen_gradients is None:
            return
        super().observe(part, num_views)
        radii, frame = part.render.radii.amax(0), part.view.frame_ids[0]
        for densifier, kind in zip(self.densifiers, self.kinds, strict=True):
            backtracking.update_statistics(
                densifier.statistics, probes.grad[kind], radii[kind], frame, part.view.height
            )

    def after_step(self, step: int) -> None:
        done, refine = step + 1, self.config.densification
        is_dense = self.is_refinement_due(done)
        part, self._part = self._part, None
        # Static Gaussians become dynamic before the round that may clone or prune them.
        if part is not None and self._is_conversion_due(done, part, is_dense):
            self.convert(part)
        if is_dense:
            self._densify(done)
        # Temporal opacity windows are put right every four rounds.
        every, start = self.steps(refine.refine_every), self.steps(refine.refine_start_iter)
        stop = refine.refine_stop_iter and self.steps(
            refine.refine_stop_iter - self.config.adjust_lead
        )
        if is_due(done, 4 * every, start, stop):
            adjust_windows(self.expert)
        # At the end of a pass prune what hardly showed; then reveal more of the clip.
        self._count_pass(done)
        self._grow_if_due(done)

    def _is_conversion_due(self, done: int, part: TrainingRender, is_dense: bool) -> bool:
        """Whether a conversion is wanted now; those after an extension wait for a late frame."""
        config = self.config.conversion
        if self.grown_at and done == self.grown_at + self.steps(config.delay):
            self.is_armed = True
        latest = self.expert.duration - self.expert.interval if self.shared_table is None else 0
        if self.is_armed and int(part.view.frame_ids[0]) >= latest:
            self.is_armed = False
            return True
        return done % self.steps(config.every) == 0 and not is_dense

    @torch.no_grad()
    def convert(self, part: TrainingRender) -> int:
        """Make the fastest static Gaussians of an image dynamic; returns how many."""
        expert = self.expert
        is_converted = self._fastest(part)
        count = int(is_converted.sum())
        # Densification and pruning expect static Gaussians, so the last ones stay.
        if count in (0, expert.num_static):
            return 0
        statistics = {
            name: value[is_converted] for name, value in self.densifier.statistics.items()
        }
        width = RELEASED_WIDTH if self.config.as_released else 1.0
        converted = dynamic_gaussians(expert, is_converted, statistics["best_frames"], width)
        self.dynamic.append(converted, statistics)
        self.densifier.remove(is_converted)
        return count

    def _fastest(self, part: TrainingRender) -> Bool[Tensor, "N"]:
        """Static Gaussians with the largest displacement for their squared distance."""
        static = self.expert.gauss_params
        lengths = static["displacements"].detach().norm(dim=-1)
        away = static["means"].detach() - part.view.positions[-1]
        is_visible = part.render.radii[-1, : len(lengths)] > 0
        wanted = math.ceil(self.config.conversion.fraction * int(is_visible.sum()))
        scores = torch.where(is_visible, lengths / away.square().sum(-1).clamp(min=1e-20), -1.0)
        chosen = torch.zeros_like(is_visible)
        chosen[scores.topk(min(wanted, len(scores))).indices] = True
        is_moving = lengths > MIN_DISPLACEMENT * self.densifier.extent
        has_frame = self.densifier.statistics["best_frames"] != backtracking.UNSEEN
        return chosen & is_visible & is_moving & has_frame

    def _densify(self, done: int) -> None:
        """One round for both kinds; every few rounds also for their errors."""
        prune = self.config.error_prune
        self.grow_and_prune(partial(redraw_windows, self.expert, generator=self.generator))
        for densifier in self.densifiers:
            densifier.statistics["smallest_radii"].fill_(torch.inf)
        period = prune.every_rounds * self.steps(self.config.densification.refine_every)
        # Every few rounds prune by errors, whose means then start anew.
        if done % period == 0:
            for densifier in self.densifiers:
                if done > self.steps(prune.start):
                    is_bad = backtracking.has_large_errors(densifier.statistics, prune)
                    densifier.remove(is_bad)
                for name in backtracking.SUMS:
                    densifier.statistics[name].zero_()

    def _count_pass(self, done: int) -> None:
        """At the end of a pass over the images, remove what hardly showed."""
        self.pass_steps += 1
        if self.pass_steps < self._pass_length():
            return
        self.pass_steps = 0
        prune = self.config.error_prune
        if done > self.steps(prune.visibility_start):
            for densifier in self.densifiers:
                densifier.remove(backtracking.hardly_shows(densifier.statistics, prune))

    def _pass_length(self) -> float:
        """Steps of a pass over all images that are drawn now; without images it never ends."""
        if self.sampler is not None:
            return int(self.sampler.may_draw.sum()) / self.sampler.views
        table = self.shared_table
        return math.inf if table is None else int((table.frame_ids <= self.expert.duration).sum())

    def _grow_if_due(self, done: int) -> None:
        growth, duration = self.config.growth, int(self.expert.duration)
        every, after = self.steps(growth.every), self.steps(growth.after)
        if self.shared_table is not None and is_due(done, every, after, self._last_growth()):
            # Nothing is left to reveal, but conversions come as often as if there were.
            self.grown_at, self.is_armed = done, True
        if duration >= self.last_frame or done <= after or done % every != 0:
            return
        interval = self.expert.interval
        left = math.ceil((self.last_frame - duration) / interval)
        chances = max(1, (self.steps(growth.stop) - done) // every + 1)
        self.grow(min(self.last_frame, duration + interval * math.ceil(left / chances)))
        self.grown_at, self.is_armed, self.pass_steps = done, True, 0

    def _last_growth(self) -> int:
        """Steps by which the clip would be revealed interval by interval."""
        growth, interval = self.config.growth, self.expert.interval
        extensions = math.ceil(self.last_frame / interval) - growth.start_keys
        last = self.steps(growth.after) + extensions * self.steps(growth.every)
        return min(last, self.steps(growth.stop))

    @torch.no_grad()
    def grow(self, last_frame: int) -> None:
        """Draw frames up to `last_frame` from now on, with the moving seeds of the new ones."""
        expert, before = self.expert, self.expert.duration
        extend_keys(expert, self.dynamic, last_frame)
        if not self.config.as_released:
            expert.gauss_params["displacements"].data *= last_frame / expert.duration
        expert.duration = float(last_frame)
        if (seeded := expert.seeded(before, expert.duration)) is not None:
            self.dynamic.append(seeded, self._fresh_statistics(len(seeded["means"])))
        if self.sampler is not None:
            self.sampler.limit_frames(last_frame + 1)

    def get_extra_state(self) -> dict[str, Any]:
        return super().get_extra_state() | {
            "is_armed": self.is_armed,
            "grown_at": self.grown_at,
            "pass_steps": self.pass_steps,
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        super().set_extra_state(state)
        self.is_armed = bool(state["is_armed"])
        self.grown_at, self.pass_steps = int(state["grown_at"]), int(state["pass_steps"])
