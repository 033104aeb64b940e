"""Adaptive density control of 3D Gaussian splatting: clone, split, prune, reset opacity.

Parameters and optimiser states are rewritten by gsplat's operations, and the options have the names
of gsplat's `DefaultStrategy` where they mean the same. When to act is up to each family's recipe.

In 3D Gaussian splatting a view counts for a Gaussian's mean screen gradient if it contains the
Gaussian. Where opacity depends on time, most of these views show nothing of one of short life, and
pull its mean to zero; hence other ways to count.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from gsplat.strategy.ops import duplicate, remove, reset_opa, split
from jaxtyping import Bool, Float
from torch import Tensor
from torch.optim import Optimizer

from moegs_ns.gaussians import GaussianParams
from moegs_ns.splatting import RenderOutput
from moegs_ns.training.optimizers import replace_parameter

RESET_OPACITY = 0.01
"""Largest opacity after a reset."""
SCREEN_STATISTICS = ("gradients", "counts")
"""Sum of the screen gradients and number of the views that count for a Gaussian; a recipe may keep
further statistics beside them."""

LEAST_VISIBILITY = 0.05
"""Factor on opacity below which a Gaussian counts as invisible at a time, as in TAD-GS."""


class ContainedViews:
    """Every view that contains a Gaussian counts, also while it is invisible."""

    needs_visibility = False
    """Whether `weights` reads how visible the Gaussians are at the time."""

    def weights(
        self, render: RenderOutput, visibility: Float[Tensor, "N"] | None
    ) -> Bool[Tensor, "C N"] | Float[Tensor, "C N"]:
        """How much each view counts for each Gaussian. `visibility` are the factors that time has
        on their opacities; None where there are none."""
        return render.radii > 0


class DrawnViews(ContainedViews):
    """Views count in which a Gaussian is opaque enough to change a pixel."""

    def weights(
        self, render: RenderOutput, visibility: Float[Tensor, "N"] | None
    ) -> Bool[Tensor, "C N"]:
        return super().weights(render, visibility) & (render.extents > 0)


class VisibilityWeights(ContainedViews):
    """Views count by how visible a Gaussian is at their time (TAD-GS, 2606.23212; 4D-Scaffold,
    2411.17044).

    4D-Scaffold also divides by the temporal width, which sets the Gaussians of one anchor against
    each other; in the mean of a single one it cancels.
    """

    needs_visibility = True

    def weights(
        self, render: RenderOutput, visibility: Float[Tensor, "N"] | None
    ) -> Float[Tensor, "C N"]:
        assert visibility is not None
        is_visible = visibility >= LEAST_VISIBILITY
        return super().weights(render, visibility) * torch.where(is_visible, visibility, 0.0)


Counted = Literal["contained", "drawn", "by-visibility"]
Growth = Literal["gradients", "relocation"]
COUNTED: dict[Counted, ContainedViews] = {
    "contained": ContainedViews(),
    "drawn": DrawnViews(),
    "by-visibility": VisibilityWeights(),
}


@dataclass
class LifeThresholdConfig:
    """A lower threshold of refinement for Gaussians that are visible for a short time."""

    share: float = 1.0
    """Share of `grow_grad2d` at which a Gaussian of no duration is refined; that of one that is
    visible all the time is 1. TAD-GS has 0.75; 1 for the same threshold whatever the life."""
    exponent: float = 0.8
    """Power of the life, in clips, by which the threshold rises, as in TAD-GS."""

    @property
    def is_on(self) -> bool:
        """Whether the threshold depends on the life."""
        return self.share != 1.0

    def check(self) -> None:
        """Raise ValueError for a share by which everything, or only long lives, would grow."""
        if not 0.0 < self.share <= 1.0:
            raise ValueError(
                "--pipeline.model.recipe.densification.life-threshold.share expects a number above "
                f"0 and at most 1, got {self.share}; 1 is for one threshold."
            )

    def factors(self, life_spans: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
        """Factors on the threshold of Gaussians that are visible for these parts of the clip."""
        return self.share + (1.0 - self.share) * life_spans**self.exponent


@dataclass
class DensificationConfig:
    """When and what to clone, split and prune; steps are those of the full recipe."""

    refine_start_iter: int = 500
    """Gaussians are added after this step."""
    refine_stop_iter: int = 15000
    """Last step at which Gaussians are added."""
    refine_every: int = 100
    """Steps between two rounds."""
    growth: Growth = "gradients"
    """How the number of Gaussians changes: `gradients` clones, splits and removes, with resets of
    opacity; `relocation` moves what is transparent onto others and adds 5 % of all in a round until
    `max_gaussians`, with neither removal nor resets (3DGS-MCMC). It reads no screen gradients."""
    grow_grad2d: float = 2e-4
    """Mean screen gradient, in units of half the image, from which a Gaussian is refined."""
    reference_pixels: int | None = None
    """Pixels of an image that `grow_grad2d` is meant for. In smaller images it grows by the ratio
    of their sides: a Gaussian of a given size in pixels has gradients that much larger, and would
    be refined beyond what the images show. None for the same threshold at every size."""
    grow_scale3d: float = 0.01
    """Fraction of the scene's extent above which a Gaussian is split rather than cloned."""
    prune_opa: float = 0.005
    """Gaussians less opaque than this are removed; expects less than 0.01, which resets leave, in
    recipes that reset opacities."""
    counted: Counted = "contained"
    """Views over which the screen gradients of a Gaussian are averaged: all that contain it, those
    in which it is drawn, or all in proportion to how visible it is at their time; the last where
    opacity depends on time. A Gaussian of short life is drawn in few of those that contain it."""
    life_threshold: LifeThresholdConfig = field(default_factory=LifeThresholdConfig)
    """How `grow_grad2d` depends on how long a Gaussian is visible."""
    min_observations: int = 20
    """Views that must count for a Gaussian before it is judged; until then its gradients add up.
    At a small budget rounds follow each other so closely that a few noisy views would decide."""
    max_gaussians: int = 360000
    """Refinement pauses while there are at least this many Gaussians."""

    @property
    def counting(self) -> ContainedViews:
        """How much each view counts."""
        return COUNTED[self.counted]

    def check(self) -> None:
        """Raise ValueError for thresholds that nothing would be held against."""
        self.life_threshold.check()
        if self.growth == "relocation" and (
            self.counted != "contained" or self.life_threshold.is_on
        ):
            options = "--pipeline.model.recipe.densification"
            raise ValueError(
                f"{options}.growth relocation reads no screen gradients, so {options}.counted and "
                "life-threshold.share have no effect with it; leave one or the other out."
            )


def check_survives_resets(config: DensificationConfig) -> None:
    """Raise ValueError if what resets of opacity leave would be removed as transparent."""
    if config.prune_opa >= RESET_OPACITY:
        raise ValueError(
            "--pipeline.model.recipe.densification.prune-opa expects less than "
            f"{RESET_OPACITY}, to which this recipe resets opacities, got {config.prune_opa}: "
            "nearly all Gaussians would be removed after a reset."
        )


class Densifier:
    """Screen gradients since the last round, and the operations on one set of Gaussians."""

    def __init__(
        self,
        config: DensificationConfig,
        parameters: GaussianParams,
        extent: float,
        generator: torch.Generator,
    ) -> None:
        self.config = config
        self.parameters = parameters
        self.extent = extent
        self.generator = generator
        self.optimizers: dict[str, Optimizer] = {}
        self.statistics: dict[str, Tensor] = {}
        self.reserved = 0
        """Gaussians outside of `parameters` that count towards the cap."""
        self.life_spans: Callable[[], Tensor | None] = lambda: None
        """For how much of the clip each Gaussian is visible; None where that is not known."""
        self.reset_statistics()

    def reset_statistics(self) -> None:
        """Forget the screen gradients collected so far."""
        means = self.parameters["means"]
        self.statistics |= {name: means.new_zeros(len(means)) for name in SCREEN_STATISTICS}

    @torch.no_grad()
    def observe(
        self, render: RenderOutput, num_views: int, visibility: Float[Tensor, "N"] | None = None
    ) -> None:
        """Add the `screen_gradients` of a render that retained them.

        `visibility` are the factors that time has on the opacities of what is rendered; they are
        needed where views are counted by them.
        """
        ids = render.projected.ids
        gradients = screen_gradients(render, num_views, self.config, visibility)
        if gradients is None:
            return
        for name, values in zip(SCREEN_STATISTICS, gradients, strict=True):
            if ids is None:
                self.statistics[name] += values
            else:
                self.statistics[name].index_add_(0, ids, values)

    @torch.no_grad()
    def grow(self, on_new: Callable[[slice], None] | None = None) -> None:
        """Clone small and split large Gaussians with large screen gradients.

        `on_new` is called with the range of the appended Gaussians, clones first, then children.
        """
        # Which Gaussians have been seen often enough and have large gradients, within the cap.
        counts = self.statistics["counts"]
        gradients = self.statistics["gradients"] / counts.clamp(min=1.0)
        if self.config.life_threshold.is_on:
            spans = self.life_spans()
            assert spans is not None
            # In units of each one's own threshold, which the cap goes by as well.
            gradients = gradients / self.config.life_threshold.factors(spans)
        is_judged = counts >= self.config.min_observations
        is_refined = is_judged & (gradients >= self.config.grow_grad2d)
        is_refined &= self._within_cap(is_refined, gradients)
        sizes = self.parameters["scales"].exp().amax(dim=-1)
        is_large = sizes > self.config.grow_scale3d * self.extent
        is_cloned, is_split = is_refined & ~is_large, is_refined & is_large
        num_cloned, num_split = int(is_cloned.sum()), int(is_split.sum())
        # What was judged starts anew; appended Gaussians are copies and start at zero as well.
        for name in SCREEN_STATISTICS:
            self.statistics[name][is_judged] = 0.0
        if num_cloned:
            duplicate(self.parameters, self.optimizers, self.statistics, is_cloned)
        if num_split:
            self.split(torch.cat([is_split, is_split.new_zeros(num_cloned)]))
        count = self.parameters.num_rows
        if on_new is not None and num_cloned + num_split:
            on_new(slice(count - num_cloned - 2 * num_split, count))

    def split(self, is_split: Bool[Tensor, "N"]) -> None:
        """Replace the marked Gaussians by two smaller ones each, which are appended."""
        # gsplat draws from torch's global random numbers, which are restored afterwards.
        seed = int(torch.randint(2**31, (), generator=self.generator))
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            split(self.parameters, self.optimizers, self.statistics, is_split)

    def _within_cap(
        self, is_refined: Bool[Tensor, "N"], gradients: Float[Tensor, "N"]
    ) -> Bool[Tensor, "N"]:
        """The refinements with the largest gradients that the cap leaves room for."""
        room = self.config.max_gaussians - len(is_refined) - self.reserved
        if int(is_refined.sum()) <= room:
            return is_refined
        allowed = torch.zeros_like(is_refined)
        allowed[torch.where(is_refined, gradients, -1.0).topk(max(0, room)).indices] = True
        return allowed

    @torch.no_grad()
    def prune(self) -> int:
        """Remove nearly transparent Gaussians, never all of them; returns how many."""
        return self.remove(self.parameters["opacities"].sigmoid() < self.config.prune_opa)

    @torch.no_grad()
    def remove(self, is_removed: Bool[Tensor, "N"]) -> int:
        """Remove the marked Gaussians, never all of them; returns how many were removed."""
        count = int(is_removed.sum())
        if count == 0 or count == len(is_removed):
            return 0
        remove(self.parameters, self.optimizers, self.statistics, is_removed)
        return count

    @torch.no_grad()
    def append(
        self, gaussians: dict[str, Tensor], statistics: dict[str, Tensor] | None = None
    ) -> None:
        """Add Gaussians with the given raw parameters; their optimiser state begins at zero.

        So do their statistics, but for those that are given.
        """
        count = len(gaussians["means"])

        def extended(values: Tensor) -> Tensor:
            return torch.cat([values, values.new_zeros(count, *values.shape[1:])])

        for name, old in list(self.parameters.items()):
            new = torch.nn.Parameter(torch.cat([old.data, gaussians[name].to(old)]))
            replace_parameter([self.optimizers[name]], old, new, extended)
            self.parameters[name] = new
        for name, values in self.statistics.items():
            new_values = (statistics or {}).get(name, values.new_zeros(count))
            self.statistics[name] = torch.cat([values, new_values])

    def reset_opacities(self) -> None:
        """Clamp opacities to a small value and clear their optimiser's moments."""
        reset_opa(self.parameters, self.optimizers, {}, RESET_OPACITY)

    def state(self) -> dict[str, Any]:
        """Statistics since the last round, and the extent, for checkpoints."""
        statistics = {name: value.cpu() for name, value in self.statistics.items()}
        return statistics | {"extent": self.extent}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore `state`; statistics alone, as runs of 0.2 have, leave the extent as it is."""
        device, statistics = self.parameters["means"].device, dict(state)
        self.extent = float(statistics.pop("extent", self.extent))
        self.statistics = {name: value.to(device) for name, value in statistics.items()}


@torch.no_grad()
def screen_gradients(
    render: RenderOutput,
    num_views: int,
    config: DensificationConfig,
    visibility: Float[Tensor, "N"] | None = None,
) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"]] | None:
    """Screen gradients in units of half the image, summed over the cameras that count, and how many
    count for each Gaussian; None if the render retained none.

    The loss is a mean over `num_views`; the gradients are those of one view's own loss. Those of
    images with fewer than `reference_pixels` are made smaller by the ratio of their sides.
    """
    gradient = render.screen_gradients
    if gradient is None:
        return None
    height, width = render.rgb.shape[1:3]
    unit = 0.5 * num_views * math.sqrt(min(1.0, height * width / (config.reference_pixels or 1)))
    x, y = gradient.unbind(-1)
    norms = torch.hypot(x * (unit * width), y * (unit * height))
    weights = config.counting.weights(render, visibility)
    norms *= weights
    if len(norms) == 1:  # Saves two launches per step.
        return norms[0], weights[0].to(norms.dtype)
    return norms.sum(0), weights.sum(0).to(norms.dtype)
