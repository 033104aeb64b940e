"""Stacking (Wolpert 1992): gates learn whom to trust from images that no expert was trained on.

A router learns on images that its experts have fitted, and so trusts those that fit best, which
may be those that overfit most. Copies of the experts, trained for a few steps without some of the
cameras, show what their families do on unseen views. What is learned from them are few numbers: the
slopes of a linear function of the router's logits and of the evidence behind them. The slopes hold
for the copies and for the experts alike; the evidence is measured anew for the experts, and so is a
bias per expert, on their own training images: a family that needs many steps has bad copies, which
says nothing of the expert.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from moegs_ns.mixture.mixture import GateConfig, gates_from
from moegs_ns.routers import corrected_logits

RIDGE_OF_BIASES, RIDGE_OF_SLOPES = 1e-3, 1e-2
"""Weights of the squared numbers, slopes for columns of unit spread, against the error in units of
that of the plain average; without them a few cameras' luck is taken for a law."""
MAX_ITERATIONS = 30
"""Of L-BFGS; a dozen numbers need fewer."""
LOGIT = 0
"""Column of the router's logit, the first of `correction_columns`."""


@dataclass(frozen=True, eq=False)
class SampledPixels:
    """P pixels of images; those that slopes are learned from are of images that no expert drew
    in its training."""

    images: Float[Tensor, "E P 3"]
    """The experts' colours."""
    columns: Float[Tensor, "E P C"]
    """What corrected logits are linear in; blurred if the gates are."""
    targets: Float[Tensor, "P 3"]
    groups: Int[Tensor, "P"]
    """The camera of each pixel (or another part of the images). What is learned from all groups of
    the copies' pixels but one is judged on that one; nothing reads those of the experts' pixels."""

    def double(self) -> "SampledPixels":
        """In double precision, for fits."""
        return replace(
            self, images=self.images.double(), columns=self.columns.double(),
            targets=self.targets.double(),
        )  # fmt: skip

    def select(self, rows: Bool[Tensor, "P"]) -> "SampledPixels":
        """Some of the pixels."""
        return SampledPixels(
            self.images[:, rows], self.columns[:, rows], self.targets[rows], self.groups[rows]
        )

    @staticmethod
    def cat(parts: Sequence["SampledPixels"]) -> "SampledPixels":
        """Those of all parts."""
        return SampledPixels(
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
CANDIDATES = ("average", "evidence")
"""Forms that a correction may have. Those between them are a little better or worse than evidence
for copies, which is chance, and worse for experts; `stacking_transfer` compares all of them."""


@dataclass(frozen=True, eq=False)
class Stacked:
    """The correction that was chosen, and what spoke for it."""

    form: str
    correction: Correction
    errors: dict[str, float]
    """Mean squared error of each candidate for the copies, on groups that it was not fitted on."""


Gates = Callable[[Float[Tensor, "E P"]], Float[Tensor, "E P 1"]]


def stack(
    unseen: SampledPixels, seen: SampledPixels, temperature: float, config: GateConfig
) -> Stacked:
    """The correction of the experts' gates that copies and training images tell.

    Args:
        unseen: drawn by the copies; slopes are fitted on these, and judged by groups that they were
            not fitted on.
        seen: drawn by the experts, of images that they were trained on; biases are fitted on these.
        temperature: divides the logits.
        config: smoothing of the gates.

    Raises:
        ValueError: there are fewer than two groups of unseen pixels.
    """
    unseen, seen = unseen.double(), seen.double()
    groups = unseen.groups.unique().tolist()
    if len(groups) < 2:
        raise ValueError(f"Stacking expects pixels of at least two groups, got {len(groups)}.")
    gates = gates_of(temperature, config)
    errors = {}
    for name in CANDIDATES:
        own_errors = torch.zeros_like(unseen.targets[:, 0])
        for group in groups:
            own = unseen.groups == group
            correction = fit(unseen.select(~own), FORMS[name], gates)
            own_errors[own] = squared_errors(unseen.select(own), correction, gates)
        errors[name] = float(own_errors.mean())
    # `min` takes the first of equals, which is the simplest.
    best = min(errors, key=lambda name: errors[name])
    form = FORMS[best]
    return Stacked(best, with_own_biases(fit(unseen, form, gates), form, seen, gates), errors)


def gates_of(temperature: float, config: GateConfig) -> Gates:
    """Gates of single pixels; blurred ones have blurred columns."""
    return partial(_gates, temperature=temperature, config=replace(config, blur=0.0))


def fit(pixels: SampledPixels, form: Form, gates: Gates) -> Correction:
    """The numbers of a form that make the blend's squared error smallest, with a ridge penalty."""
    experts, _, width = pixels.columns.shape
    bias = pixels.columns.new_zeros(experts, requires_grad=form.has_bias)
    spread = pixels.columns.flatten(0, 1).std(0).clamp(min=1e-6)
    chosen = torch.zeros_like(spread)
    chosen[form.columns] = 1.0
    slopes = pixels.columns.new_zeros(width, requires_grad=bool(chosen.any()))
    return _fitted(pixels, gates, bias, slopes, chosen / spread)


def with_own_biases(
    correction: Correction, form: Form, pixels: SampledPixels, gates: Gates
) -> Correction:
    """The slopes as they are, and the biases, if the form has any, that fit other pixels best."""
    bias = torch.zeros_like(correction.bias, requires_grad=form.has_bias)
    return _fitted(pixels, gates, bias, correction.slopes, torch.ones_like(correction.slopes))


def _fitted(
    pixels: SampledPixels,
    gates: Gates,
    bias: Float[Tensor, "E"],
    slopes: Float[Tensor, "C"],
    units: Float[Tensor, "C"],
) -> Correction:
    """Fit those of biases and slopes that require gradients; slopes are in `units`."""
    ridges = ((bias, RIDGE_OF_BIASES), (slopes, RIDGE_OF_SLOPES))
    free = [(value, ridge) for value, ridge in ridges if value.requires_grad]

    def correction() -> Correction:
        return Correction(bias - bias.mean(), slopes * units)

    if free:
        unit = squared_errors(pixels, correction(), gates).mean().detach()
        optimizer = torch.optim.LBFGS(
            [value for value, _ in free], max_iter=MAX_ITERATIONS,
            line_search_fn="strong_wolfe", tolerance_change=1e-9,
        )  # fmt: skip

        @torch.enable_grad()
        def loss() -> Tensor:
            optimizer.zero_grad()
            error = squared_errors(pixels, correction(), gates).mean() / unit.clamp(min=1e-12)
            total = error + sum(ridge * value.square().sum() for value, ridge in free)
            total.backward()
            return total

        optimizer.step(loss)
    found = correction()
    return Correction(found.bias.detach(), found.slopes.detach())


def squared_errors(
    pixels: SampledPixels, correction: Correction, gates: Gates
) -> Float[Tensor, "P"]:
    """Of the blend with corrected gates, mean over colours."""
    blend = (gates(correction.logits(pixels.columns)) * pixels.images).sum(0)
    return (blend - pixels.targets).square().mean(-1)


def _gates(
    logits: Float[Tensor, "E P"], temperature: float, config: GateConfig
) -> Float[Tensor, "E P 1"]:
    return gates_from(logits[..., None, None], temperature, config)[..., 0]
