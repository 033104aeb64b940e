"""Stacking (Wolpert 1992): gates learn whom to trust from images that no expert was trained on.

A router learns on images that its experts have fitted, and so trusts those that fit best, which
may be those that overfit most. Copies of the experts, trained for a few steps without some of the
cameras, show what their families do on unseen views. What is learned from them are few numbers: a
bias per expert, and the slopes of a linear function of the router's logits and of the evidence
behind them. The numbers hold for the copies and for the experts alike; the evidence is measured
anew for the experts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from moegs_ns.mixture.mixture import GateConfig, gates_from
from moegs_ns.routers import corrected_logits

RIDGE = 1e-3
"""Weight of the squared numbers, those of columns of unit spread, against the error in units of
that of the plain average; without it a few cameras' luck is taken for a law."""
MAX_ITERATIONS = 30
"""Of L-BFGS; a dozen numbers need fewer."""
LOGIT = 0
"""Column of the router's logit, the first of `correction_columns`."""


@dataclass(frozen=True, eq=False)
class UnseenPixels:
    """P pixels of images that no expert was trained on."""

    images: Float[Tensor, "E P 3"]
    """The experts' colours."""
    columns: Float[Tensor, "E P C"]
    """What corrected logits are linear in; blurred if the gates are."""
    targets: Float[Tensor, "P 3"]
    groups: Int[Tensor, "P"]
    """The camera of each pixel (or another part of the images), at least two of them. What is
    learned from all but one is judged on that one."""

    def select(self, rows: Bool[Tensor, "P"]) -> "UnseenPixels":
        """Some of the pixels."""
        return UnseenPixels(
            self.images[:, rows], self.columns[:, rows], self.targets[rows], self.groups[rows]
        )

    @staticmethod
    def cat(parts: Sequence["UnseenPixels"]) -> "UnseenPixels":
        """Those of all parts."""
        return UnseenPixels(
            torch.cat([part.images for part in parts], dim=1),
            torch.cat([part.columns for part in parts], dim=1),
            torch.cat([part.targets for part in parts]),
            torch.cat([part.groups for part in parts]),
        )


@dataclass(frozen=True, eq=False)
class Correction:
    """The numbers of `corrected_logits`."""

    bias: Float[Tensor, "E"]
    slopes: Float[Tensor, "C"]

    def logits(self, columns: Float[Tensor, "E P C"]) -> Float[Tensor, "E P"]:
        """The corrected logits."""
        return corrected_logits(columns, self.bias, self.slopes)


@dataclass(frozen=True)
class Form:
    """Which numbers of a correction are fitted; all others are 0."""

    has_bias: bool
    columns: slice
    """Of those that logits are linear in."""


FORMS = {
    "average": Form(False, slice(0, 0)),
    "scaled logits": Form(False, slice(LOGIT, LOGIT + 1)),
    "biases": Form(True, slice(0, 0)),
    "biased logits": Form(True, slice(LOGIT, LOGIT + 1)),
    "evidence": Form(True, slice(None)),
}
"""From the plain average of the experts to everything."""


@dataclass(frozen=True, eq=False)
class Stacked:
    """The correction that was chosen, and what spoke for it."""

    form: str
    correction: Correction
    errors: dict[str, float]
    """Mean squared error of each form, on groups that it was not fitted on."""


Gates = Callable[[Float[Tensor, "E P"]], Float[Tensor, "E P 1"]]


def stack(pixels: UnseenPixels, temperature: float, config: GateConfig) -> Stacked:
    """The correction that does best on groups of pixels which it was not fitted on, fitted on all.

    Args:
        temperature: divides the logits.
        config: smoothing of the gates.

    Raises:
        ValueError: there are fewer than two groups.
    """
    pixels = UnseenPixels(
        pixels.images.double(), pixels.columns.double(), pixels.targets.double(), pixels.groups
    )
    groups = pixels.groups.unique().tolist()
    if len(groups) < 2:
        raise ValueError(f"Stacking expects pixels of at least two groups, got {len(groups)}.")
    gates = gates_of(temperature, config)
    errors = {}
    for name, form in FORMS.items():
        own_errors = torch.zeros_like(pixels.targets[:, 0])
        for group in groups:
            own = pixels.groups == group
            correction = fit(pixels.select(~own), form, gates)
            own_errors[own] = squared_errors(pixels.select(own), correction, gates)
        errors[name] = float(own_errors.mean())
    # `min` takes the first of equals, which is the simplest.
    best = min(errors, key=lambda name: errors[name])
    return Stacked(best, fit(pixels, FORMS[best], gates), errors)


def gates_of(temperature: float, config: GateConfig) -> Gates:
    """Gates of single pixels; blurred ones have blurred columns."""
    return partial(_gates, temperature=temperature, config=replace(config, blur=0.0))


def fit(pixels: UnseenPixels, form: Form, gates: Gates) -> Correction:
    """The numbers of a form that make the blend's squared error smallest, with a ridge penalty."""
    experts, _, width = pixels.columns.shape
    bias = pixels.columns.new_zeros(experts, requires_grad=form.has_bias)
    spread = pixels.columns.flatten(0, 1).std(0).clamp(min=1e-6)
    chosen = torch.zeros_like(spread)
    chosen[form.columns] = 1.0
    slopes = pixels.columns.new_zeros(width, requires_grad=bool(chosen.any()))
    free = [value for value in (bias, slopes) if value.requires_grad]

    def correction() -> Correction:
        return Correction(bias - bias.mean(), slopes * chosen / spread)

    if free:
        unit = squared_errors(pixels, correction(), gates).mean().detach()
        optimizer = torch.optim.LBFGS(
            free, max_iter=MAX_ITERATIONS, line_search_fn="strong_wolfe", tolerance_change=1e-9
        )

        @torch.enable_grad()
        def loss() -> Tensor:
            optimizer.zero_grad()
            error = squared_errors(pixels, correction(), gates).mean() / unit.clamp(min=1e-12)
            total = error + RIDGE * sum(value.square().sum() for value in free)
            total.backward()
            return total

        optimizer.step(loss)
    found = correction()
    return Correction(found.bias.detach(), found.slopes.detach())


def squared_errors(
    pixels: UnseenPixels, correction: Correction, gates: Gates
) -> Float[Tensor, "P"]:
    """Of the blend with corrected gates, mean over colours."""
    blend = (gates(correction.logits(pixels.columns)) * pixels.images).sum(0)
    return (blend - pixels.targets).square().mean(-1)


def _gates(
    logits: Float[Tensor, "E P"], temperature: float, config: GateConfig
) -> Float[Tensor, "E P 1"]:
    return gates_from(logits[..., None, None], temperature, config)[..., 0]
