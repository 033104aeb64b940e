"""Densification of the Gaussian splatting literature: clone, split, prune, reset.

The rewriting of parameters together with the optimisers' state is gsplat's.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from gsplat.strategy.ops import duplicate, remove, reset_opa, split
from jaxtyping import Bool, Float
from torch import Tensor
from torch.optim import Optimizer

from moegs_ns.splatting import RenderOutput
from moegs_ns.training.gaussian_params import GaussianParams

RESET_OPACITY = 0.01
"""Opacity above which a reset cuts."""
SCREEN_STATISTICS = ("gradients", "counts")
"""Sum of the screen gradients and number of the views that a Gaussian has been seen in; a recipe
may keep further statistics beside them."""


@dataclass
class DensificationConfig:
    """When and what to clone, split and prune; steps are those of the full recipe."""

    start: int = 500
    """First step after which Gaussians are added."""
    stop: int = 15000
    """Last step at which Gaussians are added."""
    every: int = 100
    """Steps between two rounds."""
    gradient_threshold: float = 2e-4
    """Mean screen gradient, in units of half the image, from which a Gaussian is refined."""
    split_scale: float = 0.01
    """Share of the scene's extent above which a Gaussian is split rather than cloned."""
    prune_opacity: float = 0.005
    """Gaussians less opaque than this are removed; expects less than 0.01, which resets leave, in
    recipes that reset opacities."""
    min_observations: int = 20
    """Views that must have shown a Gaussian before it is judged; until then it is observed on. At a
    small budget rounds follow each other so closely that a few noisy views would decide."""
    max_gaussians: int = 360000
    """Refinement pauses while there are at least this many Gaussians."""


def check_survives_resets(config: DensificationConfig) -> None:
    """Raise ValueError if what resets of opacity leave would be removed as transparent."""
    if config.prune_opacity >= RESET_OPACITY:
        raise ValueError(
            "--pipeline.model.recipe.densification.prune-opacity expects less than "
            f"{RESET_OPACITY}, to which this recipe resets opacities, got {config.prune_opacity}: "
            "nearly all Gaussians would be removed after a reset."
        )


class Densifier:
    """Screen gradients since the last round, and the rounds themselves."""

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
        """Gaussians outside of `parameters` that the cap counts as well."""
        self.reset_statistics()

    def reset_statistics(self) -> None:
        """Forget the screen gradients seen so far."""
        means = self.parameters["means"]
        self.statistics |= {
            name: torch.zeros(len(means), device=means.device) for name in SCREEN_STATISTICS
        }

    @torch.no_grad()
    def observe(self, render: RenderOutput, num_views: int) -> None:
        """Add the screen gradients of one render that retained them.

        The loss is a mean over `num_views`; the statistic is that of one view's own loss.
        """
        found = screen_gradients(render, num_views)
        if found is None:
            return
        (gradients, counts), ids = found, render.projected.ids
        if ids is None:
            self.statistics["gradients"] += gradients
            self.statistics["counts"] += counts
        else:
            self.statistics["gradients"].index_add_(0, ids, gradients)
            self.statistics["counts"].index_add_(0, ids, counts)

    @torch.no_grad()
    def grow(self, on_new_rows: Callable[[slice], None] | None = None) -> None:
        """Clone small and split large Gaussians with large screen gradients.

        `on_new_rows` sees the rows that were appended, clones first and then children.
        """
        counts = self.statistics["counts"]
        gradients = self.statistics["gradients"] / counts.clamp(min=1.0)
        is_judged = counts >= self.config.min_observations
        is_refined = is_judged & (gradients >= self.config.gradient_threshold)
        is_refined &= self._within_cap(is_refined, gradients)
        sizes = self.parameters["scales"].exp().amax(dim=-1)
        is_large = sizes > self.config.split_scale * self.extent
        is_cloned, is_split = is_refined & ~is_large, is_refined & is_large
        num_cloned, num_split = int(is_cloned.sum()), int(is_split.sum())
        # What was judged is observed anew; appended rows are copies and begin at zero as well.
        for name in SCREEN_STATISTICS:
            self.statistics[name][is_judged] = 0.0
        if num_cloned:
            duplicate(self.parameters, self.optimizers, self.statistics, is_cloned)
        if num_split:
            self.split(torch.cat([is_split, is_split.new_zeros(num_cloned)]))
        count = self.parameters.num_rows
        if on_new_rows is not None and num_cloned + num_split:
            on_new_rows(slice(count - num_cloned - 2 * num_split, count))

    def split(self, is_split: Bool[Tensor, "N"]) -> None:
        """Replace the marked Gaussians by two smaller ones each, which become the last rows."""
        with _seeded(self.generator):
            split(self.parameters, self.optimizers, self.statistics, is_split)

    def _within_cap(
        self, is_refined: Bool[Tensor, "N"], gradients: Float[Tensor, "N"]
    ) -> Bool[Tensor, "N"]:
        """The refinements with the largest gradients that the cap leaves room for."""
        room = self.config.max_gaussians - len(is_refined) - self.reserved
        if int(is_refined.sum()) <= room:
            return is_refined
        allowed = torch.zeros_like(is_refined)
        scores = torch.where(is_refined, gradients, torch.full_like(gradients, -1.0))
        allowed[scores.topk(max(0, room)).indices] = True
        return allowed

    @torch.no_grad()
    def prune(self) -> int:
        """Remove nearly transparent Gaussians, never all of them; returns how many."""
        return self.remove(self.parameters["opacities"].sigmoid() < self.config.prune_opacity)

    @torch.no_grad()
    def remove(self, is_removed: Bool[Tensor, "N"]) -> int:
        """Remove the marked Gaussians, never all of them; returns how many went."""
        count = int(is_removed.sum())
        if count == 0 or count == len(is_removed):
            return 0
        remove(self.parameters, self.optimizers, self.statistics, is_removed)
        return count

    @torch.no_grad()
    def append(self, rows: dict[str, Tensor], statistics: dict[str, Tensor] | None = None) -> None:
        """Add Gaussians with the given raw parameters; their optimiser state begins at zero.

        So do their statistics, but for those that are given.
        """
        count = len(rows["means"])
        for name, old in list(self.parameters.items()):
            new = torch.nn.Parameter(torch.cat([old.data, rows[name].to(old)]))
            optimizer = self.optimizers[name]
            state = optimizer.state.pop(old, {})
            for key, value in state.items():
                if key != "step":
                    state[key] = torch.cat([value, value.new_zeros(count, *value.shape[1:])])
            if state:
                optimizer.state[new] = state
            optimizer.param_groups[0]["params"] = [new]
            self.parameters[name] = new
        for name, values in self.statistics.items():
            new_values = (statistics or {}).get(name, values.new_zeros(count))
            self.statistics[name] = torch.cat([values, new_values])

    def reset_opacities(self) -> None:
        """Cut opacities to a small value and clear their optimiser's moments."""
        reset_opa(self.parameters, self.optimizers, {}, RESET_OPACITY)

    def state(self) -> dict[str, Any]:
        """Statistics since the last round, for checkpoints."""
        return {name: value.cpu() for name, value in self.statistics.items()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore `state`."""
        device = self.parameters["means"].device
        self.statistics = {name: value.to(device) for name, value in state.items()}


@torch.no_grad()
def screen_gradients(
    render: RenderOutput, num_views: int
) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"]] | None:
    """Screen gradients in units of half the image, summed over the cameras, and the number of
    cameras that see each Gaussian; None if the render retained none.

    The loss is a mean over `num_views`; the gradients are those of one view's own loss.
    """
    gradient = render.screen_gradients
    if gradient is None:
        return None
    height, width = render.rgb.shape[1:3]
    x, y = gradient.unbind(-1)
    norms = torch.hypot(x * (0.5 * width * num_views), y * (0.5 * height * num_views))
    is_visible = render.radii > 0
    norms *= is_visible
    if len(norms) == 1:  # A sum of one is a launch that changes nothing.
        return norms[0], is_visible[0].to(norms.dtype)
    return norms.sum(0), is_visible.sum(0).to(norms.dtype)


@contextmanager
def _seeded(generator: torch.Generator) -> Iterator[None]:
    """Draw torch's global random numbers from a generator of our own, and put the rest back."""
    seed = int(torch.randint(2**31, (), generator=generator))
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
