"""A mixture as somebody who looks at it wants it: some experts off, other gates, fewer Gaussians.

Nothing here changes the mixture: every choice holds for one render.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from nerfstudio.data.scene_box import OrientedBox
from torch import Tensor

from moegs_ns.cameras import View
from moegs_ns.experts.base import Expert, within
from moegs_ns.gaussians import Gaussians
from moegs_ns.mixture.mixture import GateConfig, Mixture, MixtureRender, blended_depth, gates_from
from moegs_ns.mixture.volume_mixture import VolumeMixture


@dataclass(frozen=True, eq=False)
class LiveChoices:
    """What is changed for one render."""

    is_on: tuple[bool, ...] = ()
    """Which experts take part, at least one; empty for all."""
    temperature: float | None = None
    """Divides the logits of the gates; None for the mixture's own."""
    keep: Sequence[Bool[Tensor, "_"]] | None = None
    """Which Gaussians of each expert's full set are drawn; None for all."""
    box: OrientedBox | None = None
    """Nothing outside of it is drawn."""
    background: Float[Tensor, "3"] | None = None
    """Colour behind all experts; None for their own."""

    @property
    def all_on(self) -> bool:
        """Whether every expert takes part."""
        return all(self.is_on)

    def select(self, expert: int, gaussians: Gaussians) -> Gaussians:
        """The Gaussians of one expert that are drawn."""
        gaussians = within(gaussians, self.box)
        if self.keep is None:
            return gaussians
        keep = self.keep[expert]
        return gaussians.select(keep if gaussians.ids is None else keep[gaussians.ids])

    @property
    def changes_gaussians(self) -> bool:
        """Whether some Gaussians are left out."""
        return self.keep is not None or self.box is not None

    def gaussians(
        self, experts: Sequence[Expert], time: Float[Tensor, ""]
    ) -> list[Gaussians] | None:
        """Those that are drawn of all experts at a time; None for all of them, which experts
        project faster by themselves."""
        if not self.changes_gaussians:
            return None
        return [self.select(k, expert.at(time)) for k, expert in enumerate(experts)]


@torch.no_grad()
def render_live(mixture: Mixture, view: View, choices: LiveChoices) -> MixtureRender:
    """One camera's render of a mixture with somebody's choices.

    Gates are those of the experts that are on alone and sum to 1; the others' are 0. Experts of
    a mixture whose gates come from opacities are off by leaving their Gaussians out.
    """
    experts = mixture.experts
    gaussians = choices.gaussians(experts, view.time)
    is_joint = isinstance(mixture, VolumeMixture)
    if is_joint and not choices.all_on:
        gaussians = _without(gaussians or mixture.gaussians(view.time), choices.is_on)
    backgrounds = None if choices.background is None else [choices.background] * len(experts)
    with at_temperature(mixture, choices.temperature):
        render = mixture.render(view, gaussians=gaussians, backgrounds=backgrounds)
        if choices.all_on:
            return render
        if not is_joint:
            logits = mixture.logits(render.rendered.features[:, 0], view)
            config = mixture.gate_config
            return _only(render, logits, choices.is_on, mixture.temperature, config)
    on = torch.tensor(choices.is_on, device=render.gates.device)[:, None, None, None]
    gates = render.gates * on
    return replace(render, gates=gates / gates.sum(0))


def _without(gaussians: Sequence[Gaussians], is_on: Sequence[bool]) -> list[Gaussians]:
    """The experts' Gaussians, none of those that are off."""
    parts = zip(gaussians, is_on, strict=True)
    return [part if on else none_of(part) for part, on in parts]


def none_of(gaussians: Gaussians) -> Gaussians:
    """The same kind of set without any Gaussian."""
    return gaussians.select(torch.zeros_like(gaussians.opacities, dtype=torch.bool))


def _only(
    render: MixtureRender,
    logits: Float[Tensor, "E H W 1"],
    is_on: Sequence[bool],
    temperature: float,
    config: GateConfig,
) -> MixtureRender:
    """A render blended by the gates of some of its experts."""
    on = torch.tensor(is_on, device=render.gates.device)
    # From the logits, as a gate that is left may have been rounded to 0 beside the others'.
    gates = torch.zeros_like(render.gates)
    gates[on] = gates_from(logits[on], temperature, config)
    depth, accumulation = blended_depth(gates, render.rendered)
    rgb = (gates * render.images).sum(0)
    return replace(render, rgb=rgb, gates=gates, depth=depth, accumulation=accumulation)


@contextmanager
def at_temperature(mixture: Mixture, temperature: float | None) -> Iterator[None]:
    """A mixture's temperature for one render."""
    before = mixture.temperature
    mixture.temperature = before if temperature is None else temperature
    try:
        yield
    finally:
        mixture.temperature = before
