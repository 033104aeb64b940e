"""Relocation of Gaussians (3DGS-MCMC, Kheradmand et al., NeurIPS 2024): their number stays, and
those that show nothing are moved onto others, which share with them what they showed alone.

Plain torch, for every device; gsplat has a CUDA kernel for the same formula.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from moegs_ns.training.densification import Densifier
from moegs_ns.training.optimizers import replace_parameter

MOST_COPIES = 51
"""Gaussians that one is shared among, as far as the formula tells; so in gsplat."""


def shared(
    opacities: Float[Tensor, "m"], copies: Int[Tensor, "m"]
) -> tuple[Float[Tensor, "m"], Float[Tensor, "m"]]:
    """Opacity of each of `copies` equal Gaussians that show together what one showed, and the
    factor of their widths (Eq. 9 of the paper).

    In the middle they are exactly as opaque as the one; the sum over a line through it is kept too.
    The published double sum over binomials is one sum, since C(0, k) + ... + C(n-1, k) = C(n, k+1).
    """
    # Large alternating terms cancel each other; in single precision nothing would be left.
    old, number = (
        opacities.double().clamp(1e-7, 1.0 - 1e-7),
        copies.clamp(1, MOST_COPIES).double()[:, None],
    )
    new = -torch.expm1(torch.log1p(-old) / number[:, 0])
    k = torch.arange(1, MOST_COPIES + 1, device=old.device, dtype=old.dtype)
    log_binomials = (
        torch.lgamma(number + 1.0) - torch.lgamma(k + 1.0)
        - torch.lgamma((number - k).clamp(min=0.0) + 1.0)
    )  # fmt: skip
    signs = 1.0 - 2.0 * (k % 2 == 0).to(old)
    terms = signs * torch.exp(log_binomials + k * new[:, None].log()) / k.sqrt()
    total = torch.where(k <= number, terms, 0.0).sum(1)
    return new.to(opacities), (old / total).to(opacities)


def draw_targets(
    scores: Float[Tensor, "N"], count: int, generator: torch.Generator
) -> Int[Tensor, "n"]:
    """Rows drawn with replacement, in proportion to their scores."""
    drawn = torch.multinomial(scores.cpu(), count, replacement=True, generator=generator)
    return drawn.to(scores.device)


@torch.no_grad()
def relocate(densifier: Densifier, moved: Int[Tensor, "n"], targets: Int[Tensor, "n"]) -> None:
    """Move the rows `moved` onto `targets`, none of which is moved itself.

    A target and what is moved onto it become equal, with opacities and sizes that show together
    what the target showed. Statistics are those of the targets. Moments of what is moved begin at
    zero, as those of clones do, and so do a target's of opacity and size; its others stay, so that
    equal copies part.
    """
    parameters = densifier.parameters
    distinct, counts = torch.unique(targets, return_counts=True)
    new, factors = shared(parameters["opacities"].data[distinct].sigmoid(), counts + 1)
    for name, old in list(parameters.items()):
        values, reset = old.data.clone(), moved
        if name == "opacities":
            values[distinct] = new.clamp(min=densifier.config.prune_opa).logit(eps=1e-7)
        elif name == "scales":
            values[distinct] += factors.log()[:, None]
        if name in {"opacities", "scales"}:
            reset = torch.cat([moved, distinct])
        values[moved] = values[targets]
        # A new object, by which all changes of the set are noticed.
        parameters[name] = torch.nn.Parameter(values)
        replace_parameter(
            [densifier.optimizers[name]],
            old,
            parameters[name],
            lambda moments, rows=reset: moments.index_fill(0, rows, 0.0),
        )
    for values in densifier.statistics.values():
        values[moved] = values[targets]


def relocate_dead(
    densifier: Densifier, is_dead: Bool[Tensor, "N"], scores: Float[Tensor, "N"]
) -> int:
    """Move the marked rows onto others, drawn in proportion to scores that are 0 for the marked;
    nothing where all are marked. Returns how many are marked."""
    moved = torch.nonzero(is_dead)[:, 0]
    if 0 < len(moved) < len(is_dead):
        relocate(densifier, moved, draw_targets(scores, len(moved), densifier.generator))
    return len(moved)


def relocation_scores(
    opacities: Float[Tensor, "N"], gradients: Float[Tensor, "N"], is_dead: Bool[Tensor, "N"]
) -> Float[Tensor, "N"]:
    """How probable it is that a dead Gaussian goes where one is: half by opacity and half by mean
    screen gradient, each relative to its sum over the living; 0 for the dead."""
    parts = [torch.where(is_dead, 0.0, values) for values in (opacities, gradients)]
    return sum((part / part.sum().clamp(min=1e-12) for part in parts), torch.zeros_like(opacities))
