"""How the number of Gaussians changes: as in 3D Gaussian splatting, or as in 3DGS-MCMC."""

from collections.abc import Callable

import torch

from moegs_ns.training.densification import Densifier, Growth
from moegs_ns.training.relocation import draw_targets, relocate, relocate_dead

GROWTH_RATE = 0.05
"""Gaussians that a round adds, as a share of all, until the cap (3DGS-MCMC)."""


class ByGradients:
    """Clone and split by screen gradients, remove what is transparent; resets make some so."""

    has_resets = True
    """Whether opacities may be reset."""

    def grow(self, densifier: Densifier, on_new: Callable[[slice], None] | None = None) -> None:
        """A round, in which Gaussians are added; see `Densifier.grow`."""
        densifier.grow(on_new)

    def prune(self, densifier: Densifier) -> int:
        """Remove nearly transparent Gaussians, never all of them; returns how many."""
        return densifier.prune()


class ByRelocation:
    """Move what is transparent onto others, and add a share of all until the cap (3DGS-MCMC,
    Kheradmand et al., NeurIPS 2024), without its noise on positions.

    Others are drawn by opacity, and share what they showed with what is put onto them, so that
    images stay as they were. A Gaussian that is put there lives at the same time.
    """

    has_resets = False

    def grow(self, densifier: Densifier, on_new: Callable[[slice], None] | None = None) -> None:
        """See `ByGradients`. No Gaussian is new in that it needs a time of its own, so `on_new` is
        called with an empty range, for what depends on where Gaussians are."""
        opacities = densifier.parameters["opacities"].detach().sigmoid()
        is_dead = opacities <= densifier.config.prune_opa
        if not bool(is_dead.all()):
            relocate_dead(densifier, is_dead, torch.where(is_dead, 0.0, opacities))
            self._add(densifier)
            if on_new is not None:
                on_new(slice(densifier.parameters.num_rows, densifier.parameters.num_rows))
        densifier.reset_statistics()

    def _add(self, densifier: Densifier) -> None:
        """Put new Gaussians onto others, as far as the cap allows."""
        count, config = densifier.parameters.num_rows, densifier.config
        added = min(int(GROWTH_RATE * count), config.max_gaussians - count - densifier.reserved)
        if added <= 0:
            return
        opacities = densifier.parameters["opacities"].detach().sigmoid()
        targets = draw_targets(opacities, added, densifier.generator)
        rows = {name: value.detach()[targets] for name, value in densifier.parameters.items()}
        densifier.append(rows)
        relocate(densifier, torch.arange(count, count + added, device=targets.device), targets)

    def prune(self, densifier: Densifier) -> int:
        """Nothing: what is transparent is moved."""
        return 0


GROWTH: dict[Growth, ByGradients | ByRelocation] = {
    "gradients": ByGradients(),
    "relocation": ByRelocation(),
}
