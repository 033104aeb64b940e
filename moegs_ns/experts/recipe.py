"""What every recipe offers to the model that trains an expert."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from nerfstudio.configs.base_config import InstantiateConfig
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from moegs_ns.experts.base import Expert
from moegs_ns.gaussians import cat_or_single
from moegs_ns.scene import FrameTable
from moegs_ns.splatting import ProjectedGaussians
from moegs_ns.training.densification import (
    LEAST_VISIBILITY,
    DensificationConfig,
    Densifier,
    check_survives_resets,
)
from moegs_ns.training.dropout import DropoutConfig, keep_some
from moegs_ns.training.growth import GROWTH
from moegs_ns.training.losses import SSIM_LAMBDA, Supervision, TrainingRender
from moegs_ns.training.opacity_decay import OpacityDecayConfig, decay_opacities
from moegs_ns.training.optimizers import is_due, multiply_learning_rate, scaled_steps
from moegs_ns.training.samplers import SameTimeSampler, Sampler


@dataclass
class RecipeConfig(InstantiateConfig):
    """How an expert is trained; all steps are those of the full recipe."""

    _target: type = field(default_factory=lambda: Recipe)
    ssim_lambda: float = SSIM_LAMBDA
    """Weight of D-SSIM in the loss."""
    sh_degree_every: int = 1000
    """Steps after which colours gain one degree of spherical harmonics."""
    densification: DensificationConfig = field(default_factory=DensificationConfig)
    """When Gaussians are added and removed."""
    weight_opacity: float = 0.0
    """Weight of the mean opacity, which thins out floaters that few training views see."""
    weight_scale: float = 0.0
    """Weight of the mean size in scene extents, so that what is not seen does not spread."""
    opacity_decay: OpacityDecayConfig = field(default_factory=OpacityDecayConfig)
    """Opacities that fall in every step, in place of resets."""
    dropout: DropoutConfig = field(default_factory=DropoutConfig)
    """Gaussians that are left out of training steps at random."""
    cameras_per_time: int | None = None
    """Images of each step: one frame, drawn at random, as seen by so many cameras. None for the
    family's own number and choice of images."""
    random_background: bool = False
    """Lay the Gaussians over a new random colour at every training step, so that nothing may stay
    transparent; for scenes in which every ray ends on a surface. Transparent images keep the colour
    that they were laid over."""


class Recipe(nn.Module):
    """State and schedule of the training of one expert. Has no parameters of its own.

    Steps that are passed in count from 0 while a step runs; `after_step(step)` sees the step that
    has just been finished.
    """

    extent_groups: tuple[str, ...] = ()
    """Parameter groups whose learning rates are multiplied by the scene's extent."""

    def __init__(self, config: RecipeConfig, expert: Expert, budget: float, seed: int) -> None:
        super().__init__()
        self.config = config
        self.budget = budget
        self.generator = torch.Generator().manual_seed(seed)
        # Stored in a tuple so that the expert is not registered, and saved, a second time.
        self._expert = (expert,)
        self.densifier = Densifier(
            config.densification,
            expert.gauss_params,
            float(expert.scene_extent),
            self.generator,
        )
        self.densifier.life_spans = expert.life_spans
        self.growth = GROWTH[config.densification.growth]
        """How the number of Gaussians changes."""
        check_short_lives(config.densification, expert)
        config.densification.check()
        config.opacity_decay.check()
        config.dropout.check()
        self.dropped_share = 0.0
        """Share of the Gaussians that the current step leaves out."""
        self.sampler: Sampler | None = None
        self.supervision = Supervision()
        """What images the expert is trained against; a teacher's too where there is one."""
        self.optimizers: dict[str, Optimizer] = {}
        self.has_scaled_rates = False
        """Whether the learning rates have been multiplied by the extent already."""

    @property
    def expert(self) -> Expert:
        """The expert that is trained."""
        return self._expert[0]

    @property
    def densifiers(self) -> tuple[Densifier, ...]:
        """Those of all Gaussians, in the order of the expert's Gaussians."""
        return (self.densifier,)

    def steps(self, full: int) -> int:
        """Steps of the full recipe at this run's budget."""
        return scaled_steps(full, self.budget)

    def is_due(self, done: int, every: int, start: int, stop: int) -> bool:
        """`optimizers.is_due` after `done` steps of this run; the others are of the full recipe."""
        return is_due(done, *map(self.steps, (every, start, stop)))

    def is_refinement_due(self, done: int) -> bool:
        """Whether a round of densification comes after `done` steps."""
        rounds = self.config.densification
        return self.is_due(
            done, rounds.refine_every, rounds.refine_start_iter, rounds.refine_stop_iter
        )

    def make_sampler(self, table: FrameTable) -> Sampler:
        """The sampler of training images, which this recipe keeps and saves."""
        seed, views = self.generator.initial_seed(), self.config.cameras_per_time
        if views is None:
            self.sampler = self.usual_sampler(table, seed)
        else:
            self.sampler = SameTimeSampler(table, views, seed)
        return self.sampler

    def usual_sampler(self, table: FrameTable, seed: int) -> Sampler:
        """The family's own choice of images."""
        raise NotImplementedError

    def share_images(self, table: FrameTable) -> None:
        """Train on images of any frame that somebody else chooses; comes instead of
        `make_sampler`, so that `sampler` stays None."""

    def parameter_groups(self) -> dict[str, list[Parameter]]:
        """Parameters by optimiser; per-Gaussian groups bear the names of the parameters."""
        return {name: [parameter] for name, parameter in self.expert.gauss_params.items()}

    @property
    def resets_opacities(self) -> bool:
        """Whether opacities are reset while training."""
        return False

    @property
    def decays_opacities(self) -> bool:
        """Whether opacities fall in every step."""
        return self.config.opacity_decay.factor < 1.0

    @property
    def allows_resets(self) -> bool:
        """Whether opacities may be reset: not where they fall, nor where Gaussians are moved."""
        return self.growth.has_resets and not self.decays_opacities

    def attach(self, optimizers: dict[str, Optimizer]) -> None:
        """Hand over the optimisers, which densification rewrites together with the parameters.

        Raises:
            ValueError: the options let no Gaussian survive.
        """
        if self.resets_opacities:
            check_survives_resets(self.config.densification)
        self.optimizers = optimizers
        names = self.expert.gauss_params.keys()
        self.densifier.optimizers = {name: optimizers[name] for name in names}
        # The expert was moved to its device after the statistics had been made.
        self.densifier.load_state(self.densifier.statistics)

    def scale_rates(self, schedulers: Mapping[str, LRScheduler]) -> None:
        """Multiply the rates of `extent_groups` by the scene's extent, after `attach`.

        Done once in the life of a run: a resumed one finds the rates scaled already.
        """
        if self.has_scaled_rates:
            return
        for name in self.extent_groups:
            extent = float(self.expert.scene_extent)
            multiply_learning_rate(self.optimizers[name], schedulers.get(name), extent)
        self.has_scaled_rates = True

    def views_per_step(self, step: int) -> int:
        """Images that a step averages over."""
        return self.config.cameras_per_time or self.usual_views

    @property
    def usual_views(self) -> int:
        """The family's own number of images per step."""
        return 1

    def background(self, step: int) -> Float[Tensor, "3"]:
        """Colour behind the Gaussians while training."""
        if not self.config.random_background or self.expert.scene.background is not None:
            return self.expert.background
        return torch.rand(3, generator=self.generator)

    def ssim_lambda(self, step: int) -> float:
        """Weight of D-SSIM in the loss; it is not computed where this is 0."""
        return self.config.ssim_lambda

    def before_step(self, step: int) -> None:
        """Bring the expert into the state that it has at `step`; raises the SH degree, and the
        share of Gaussians that are left out."""
        dropout = self.config.dropout
        if dropout.fraction > 0.0:
            self.dropped_share = dropout.at(step, self.steps(dropout.steps))
        degree = step // self.steps(self.config.sh_degree_every)
        self.expert.active_sh_degree = min(degree, self.expert.config.sh_degree)

    def to_rasterize(self, projected: ProjectedGaussians) -> ProjectedGaussians:
        """What a training step rasterizes of the expert; leaves Gaussians out at random."""
        if self.dropped_share == 0.0:
            return projected
        drawn = torch.rand(projected.count, generator=self.generator)
        is_kept = (drawn >= self.dropped_share).to(projected.channels.device)
        return keep_some(projected, is_kept, self.dropped_share)

    def loss_terms(self, step: int, parts: Sequence[TrainingRender]) -> dict[str, Tensor]:
        """Named losses of a step; their sum is minimised."""
        errors = self.supervision.errors(parts, self.ssim_lambda(step), step)
        if self.sampler is not None:
            indices = torch.cat([part.indices for part in parts])
            self.sampler.observe(indices, errors.l1, errors.ssim)
        return {"photometric": errors.loss} | self.regularizers()

    def regularizers(self) -> dict[str, Tensor]:
        """Named losses of the Gaussians alone, whatever was rendered."""
        config, losses = self.config, {}
        if config.weight_opacity > 0.0:
            losses["opacity"] = config.weight_opacity * self._all("opacities").sigmoid().mean()
        if config.weight_scale > 0.0:
            size = self._all("scales").exp().mean() / self.densifier.extent
            losses["scale"] = config.weight_scale * size
        return losses

    def _all(self, name: str) -> Tensor:
        """A raw parameter of all Gaussians."""
        return cat_or_single([densifier.parameters[name] for densifier in self.densifiers])

    def after_backward(self, step: int, parts: Sequence[TrainingRender]) -> None:
        """Collect the screen gradients that densification needs; let opacities fall."""
        num_views = sum(len(part.indices) for part in parts)
        for part in parts:
            self.observe(part, num_views)
        decay = self.config.opacity_decay
        if self.decays_opacities and step + 1 > self.steps(decay.start) and parts:
            sizes = [densifier.parameters.num_rows for densifier in self.densifiers]
            for densifier, is_seen in zip(
                self.densifiers, self.is_seen(parts).split(sizes), strict=True
            ):
                decay_opacities(densifier.parameters["opacities"], is_seen, decay.factor)

    @torch.no_grad()
    def is_seen(self, parts: Sequence[TrainingRender]) -> Bool[Tensor, "N"]:
        """The Gaussians that a view of these parts contains at a time when they are visible."""
        count, device = self.expert.num_gaussians, self.expert.background.device
        is_seen = torch.zeros(count, dtype=torch.bool, device=device)
        for part in parts:
            is_own, ids = (part.render.radii > 0).any(0), part.render.projected.ids
            visibility = self.visibility(part)
            if visibility is not None:
                is_own &= visibility >= LEAST_VISIBILITY
            is_seen[slice(None) if ids is None else ids] |= is_own
        return is_seen

    def observe(self, part: TrainingRender, num_views: int) -> None:
        """Add the screen gradients of one time to those of the last steps."""
        self.densifier.observe(part.render, num_views, self.counted_visibility(part))

    def counted_visibility(self, part: TrainingRender) -> Float[Tensor, "N"] | None:
        """`visibility`, if views are counted by it."""
        return (
            self.visibility(part) if self.config.densification.counting.needs_visibility else None
        )

    @torch.no_grad()
    def visibility(self, part: TrainingRender) -> Float[Tensor, "N"] | None:
        """How visible time makes what is rendered of a part; None where it does not."""
        factors, ids = self.expert.visibility(part.view.times[0]), part.render.projected.ids
        return factors if factors is None or ids is None else factors[ids]

    def after_step(self, step: int) -> None:
        """Change the set of Gaussians where the schedule asks for it."""

    def get_extra_state(self) -> dict[str, Any]:
        """Everything a resumed run needs to go on as if it had not stopped."""
        return {
            "random": self.generator.get_state(),
            "statistics": self.densifier.state(),
            "sampler": {} if self.sampler is None else self.sampler.state_dict(),
            "has_scaled_rates": self.has_scaled_rates,
            "supervision": self.supervision.state(),
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore `get_extra_state`."""
        self.generator.set_state(state["random"].cpu())
        self.densifier.load_state(state["statistics"])
        self.has_scaled_rates = bool(state["has_scaled_rates"])
        self.supervision.load_state(state.get("supervision", {}))
        if self.sampler is not None and state["sampler"]:
            self.sampler.load_state_dict(state["sampler"])


def check_short_lives(config: DensificationConfig, expert: Expert) -> None:
    """Raise ValueError if growth goes by lives of Gaussians, and this family's have none."""
    by_lives = config.counting.needs_visibility or config.life_threshold.is_on
    if by_lives and expert.life_spans() is None:
        options = "--pipeline.model.recipe.densification"
        raise ValueError(
            f"{options}.counted by-visibility and {options}.life-threshold.share other than 1 "
            "expect an expert whose opacity depends on time, but this one's does not; leave them "
            "out, or count what is drawn."
        )
