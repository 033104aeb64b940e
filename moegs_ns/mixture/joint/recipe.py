"""Joint training of experts and router, which MoE-GS compares with (appendix B.1)."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TypeVar, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from moegs_ns.experts.recipe import Recipe
from moegs_ns.mixture.joint.parent_tracking import take_from_parents, track_parents
from moegs_ns.mixture.mixture import Mixture
from moegs_ns.mixture.recipe import RouterRecipe
from moegs_ns.routers import Router
from moegs_ns.scene import FrameTable
from moegs_ns.training.losses import PhotometricErrors, Supervision, TrainingRender
from moegs_ns.training.samplers import Sampler

Value = TypeVar("Value")


class MixtureSupervision(Supervision):
    """Drops the experts' own photometric loss: the mixture's image has it. Regularizers stay."""

    def errors(
        self, parts: Sequence[TrainingRender], ssim_lambda: float, step: int
    ) -> PhotometricErrors:
        """See base; all are 0."""
        zeros = parts[0].image.new_zeros(sum(len(part.indices) for part in parts))
        return PhotometricErrors(zeros.sum(), zeros, None)


class JointRecipe(nn.Module):
    """The router and every expert's own recipe, all on the same image.

    Images come in shuffled passes, one per step; recipes' own samplers and batch sizes are not
    used. The loss is that of the mixture's image, so experts learn and grow in proportion to their
    gates; their regularizers are added. Router weights follow densification: clones, children and
    converted Gaussians take those of their parents, others start from the initial ones.
    """

    def __init__(
        self, router: RouterRecipe, experts: Mapping[str, Recipe], mixture: Mixture
    ) -> None:
        super().__init__()
        self.router_recipe = router
        self.expert_recipes = nn.ModuleList(experts.values())
        self.names = tuple(experts)
        # In a tuple, so that the mixture is not registered, and saved, a second time.
        self._mixture = (mixture,)
        self._router_optimizers: list[Optimizer] = []
        for recipe in experts.values():
            recipe.supervision = MixtureSupervision()

    @property
    def experts(self) -> dict[str, Recipe]:
        """The experts' recipes by name, in the order of their gates."""
        return dict(zip(self.names, cast(list[Recipe], list(self.expert_recipes)), strict=True))

    @property
    def router(self) -> Router:
        """The router that is trained."""
        return self._mixture[0].router

    def make_sampler(self, table: FrameTable) -> Sampler:
        """The one sampler of training images, which the router's recipe keeps and saves."""
        for recipe in self.experts.values():
            recipe.share_images(table)
        return self.router_recipe.make_sampler(table)

    def parameter_groups(self) -> dict[str, list[Parameter]]:
        """The router's groups, and each expert's under `prefix`."""
        groups = self.router.parameter_groups()
        for name, recipe in self.experts.items():
            own = recipe.parameter_groups()
            groups |= {prefix(name) + group: parameters for group, parameters in own.items()}
        return groups

    def attach(
        self, optimizers: Mapping[str, Optimizer], schedulers: Mapping[str, LRScheduler]
    ) -> None:
        """Hand over the optimisers, whose state changes with the sets of Gaussians."""
        self._router_optimizers = [optimizers[name] for name in self.router.parameter_groups()]
        for name, recipe in self.experts.items():
            recipe.attach(without_prefix(optimizers, name))
            recipe.scale_rates(without_prefix(schedulers, name))

    def backgrounds(self, step: int) -> list[Float[Tensor, "3"]]:
        """Colours behind the experts' Gaussians while training."""
        return [
            recipe.background(step).to(recipe.expert.background) for recipe in self.experts.values()
        ]

    def before_step(self, step: int) -> None:
        """Bring all experts into their states at `step`."""
        for k, recipe in enumerate(self.experts.values()):
            with track_parents(recipe, partial(self._update_weights, k)):
                recipe.before_step(step)

    def loss_terms(
        self,
        step: int,
        parts: Sequence[TrainingRender],
        image: Float[Tensor, "H W 3"],
        gates: Sequence[Float[Tensor, "E H W 1"]] = (),
    ) -> dict[str, Tensor]:
        """Named losses of a step; their sum is minimised.

        `parts` are the experts' renders, `image` and `gates` the mixture's, as in `RouterRecipe`.
        """
        losses = self.router_recipe.loss_terms(image, parts[0].target[0], gates)
        for (name, recipe), part in zip(self.experts.items(), parts, strict=True):
            own = recipe.loss_terms(step, [part])
            losses[f"regularizers_{name}"] = torch.stack(list(own.values())).sum()
        return losses

    def after_step(self, step: int, parts: Sequence[TrainingRender]) -> None:
        """Let every recipe collect statistics and change its set of Gaussians."""
        for k, (recipe, part) in enumerate(zip(self.experts.values(), parts, strict=True)):
            with track_parents(recipe, partial(self._update_weights, k)):
                recipe.after_backward(step, [part])
                recipe.after_step(step)

    def _update_weights(self, k: int, parents: Int[Tensor, "N"]) -> None:
        weights, initial = self.router.gaussian_weights[k], self.router.initial_weights
        take_from_parents(weights, self._router_optimizers, parents, initial)


def prefix(name: str) -> str:
    """Prefix of an expert's parameter groups in joint training."""
    return f"{name}."


def without_prefix(values: Mapping[str, Value], name: str) -> dict[str, Value]:
    """The entries of an expert's parameter groups, under its own recipe's names."""
    return {
        group.removeprefix(prefix(name)): value
        for group, value in values.items()
        if group.startswith(prefix(name))
    }
