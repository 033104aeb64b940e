"""What recipes of experts with static and dynamic Gaussians share: two densifiers, one order."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from gsplat.strategy.ops import remove
from gsplat.utils import normalized_quat_to_rotmat
from jaxtyping import Bool
from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import normalize
from torch.optim import Optimizer

from moegs_ns.experts.keyframe_expert import KeyframeExpert
from moegs_ns.experts.recipe import Recipe
from moegs_ns.training.densification import (
    SCREEN_STATISTICS,
    DensificationConfig,
    Densifier,
    screen_gradients,
)
from moegs_ns.training.losses import TrainingRender

DYNAMIC = "dynamic_"
"""What the names of the parameter groups of dynamic Gaussians begin with."""
SHRINK = 1.6
"""How much smaller the children of a split Gaussian are."""


class DynamicDensifier(Densifier):
    """Densification of Gaussians whose means and rotations have an axis of keys."""

    split_spread = 1.0
    """Standard deviation of a child's position about its parent, in scales of the parent."""

    @torch.no_grad()
    def split(self, is_split: Bool[Tensor, "N"]) -> None:
        """See base; a child keeps its position relative to the rotating parent at all keys."""
        parents = {name: value.detach()[is_split] for name, value in self.parameters.items()}
        sizes = parents["scales"].exp()
        draws = torch.randn(2, *sizes.shape, generator=self.generator).to(sizes)
        rotations = normalized_quat_to_rotmat(normalize(parents["quats"], dim=-1))
        offsets = torch.einsum("nkij,cnj->cnki", rotations, self.split_spread * sizes * draws)
        children = {
            name: value.repeat(2, *[1] * (value.ndim - 1)) for name, value in parents.items()
        }
        children["means"] = children["means"] + offsets.flatten(0, 1)
        children["scales"] = torch.log(sizes / SHRINK).repeat(2, 1)
        statistics = {name: value[is_split].repeat(2) for name, value in self.statistics.items()}
        self.append(children, statistics)
        self.remove(torch.cat([is_split, is_split.new_zeros(2 * len(sizes))]))

    @torch.no_grad()
    def remove(self, is_removed: Bool[Tensor, "N"]) -> int:
        """Remove the marked Gaussians, all of them if there are static ones; returns how many
        went."""
        if self.reserved == 0:
            return super().remove(is_removed)
        count = int(is_removed.sum())
        if count:
            remove(self.parameters, self.optimizers, self.statistics, is_removed)
        return count


class KeyframeRecipe(Recipe):
    """Densifies both kinds of Gaussians under one cap."""

    dynamic_densifier: type[DynamicDensifier] = DynamicDensifier

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dynamic = self.dynamic_densifier(
            self.dynamic_densification,
            self.expert.key_gauss_params,
            self.densifier.extent,
            self.generator,
        )
        self.dynamic.reserved = self.expert.num_static
        for index, densifier in enumerate(self.densifiers):
            densifier.life_spans = partial(self._life_spans, index)

    def _life_spans(self, index: int) -> Tensor:
        """Those of one of the two kinds, for its densifier."""
        spans = self.expert.life_spans()
        assert spans is not None
        return spans[self.kinds[index]]

    @property
    def expert(self) -> KeyframeExpert:
        return cast(KeyframeExpert, super().expert)

    @property
    def dynamic_densification(self) -> DensificationConfig:
        """Thresholds of the dynamic Gaussians; here those of the static ones."""
        return self.config.densification

    @property
    def densifiers(self) -> tuple[Densifier, DynamicDensifier]:
        """Those of static and of dynamic Gaussians, in the order of the expert's Gaussians."""
        return self.densifier, self.dynamic

    @property
    def kinds(self) -> tuple[slice, slice]:
        """Rows of the static and of the dynamic Gaussians among all."""
        return slice(0, self.expert.num_static), slice(self.expert.num_static, None)

    def parameter_groups(self) -> dict[str, list[Parameter]]:
        """See base; dynamic Gaussians have groups of their own."""
        dynamic = self.expert.key_gauss_params
        return super().parameter_groups() | {DYNAMIC + name: [dynamic[name]] for name in dynamic}

    def attach(self, optimizers: dict[str, Optimizer]) -> None:
        super().attach(optimizers)
        names = self.expert.key_gauss_params.keys()
        self.dynamic.optimizers = {name: optimizers[DYNAMIC + name] for name in names}
        self.dynamic.load_state(self.dynamic.statistics)

    def observe(self, part: TrainingRender, num_views: int) -> None:
        """See base; of both kinds of Gaussians."""
        settings, visibility = self.config.densification, self.counted_visibility(part)
        screen = screen_gradients(part.render, num_views, settings, visibility)
        if screen is None:
            return
        for densifier, kind in zip(self.densifiers, self.kinds, strict=True):
            for name, values in zip(SCREEN_STATISTICS, screen, strict=True):
                densifier.statistics[name] += values[kind]

    def grow_and_prune(self, on_new: Callable[[slice], None] | None = None) -> None:
        """Clone and split both kinds under one cap, then prune what is transparent.

        `on_new` is called with the range of the dynamic Gaussians that were appended.
        """
        self.densifier.reserved = self.expert.num_dynamic
        self.growth.grow(self.densifier)
        self.dynamic.reserved = self.expert.num_static
        self.growth.grow(self.dynamic, on_new)
        for densifier in self.densifiers:
            self.growth.prune(densifier)

    def get_extra_state(self) -> dict[str, Any]:
        return super().get_extra_state() | {"dynamic_statistics": self.dynamic.state()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        super().set_extra_state(state)
        self.dynamic.load_state(state["dynamic_statistics"])
