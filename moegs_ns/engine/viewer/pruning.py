"""What pruning would leave: a preview that changes and writes nothing."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool
from torch import Tensor

from moegs_ns.cameras import View
from moegs_ns.experts.base import Expert
from moegs_ns.mixture.importance import CRITERIA, Importance
from moegs_ns.mixture.volume_mixture import VolumeMixture
from moegs_ns.models.expert_model import ExpertModel
from moegs_ns.models.mixture_model import MixtureModel
from moegs_ns.seeds import run_seed
from moegs_ns.splatting.rendering import weighted_contributions

NUM_VIEWS = 8
"""Training views that Gaussians are measured on: enough to look at, few enough to wait for."""


class PruningPreview:
    """Ranks all Gaussians once and keeps the best, as `--pipeline.model.prune.ratio` would."""

    def __init__(
        self,
        model: ExpertModel | MixtureModel,
        views: Callable[[], Iterator[View]],
    ) -> None:
        """A preview; `views` are those that Gaussians are measured on."""
        self._model, self._views = model, views
        self._measured: tuple[tuple[int, ...], Importance] | None = None

    def keep(self, ratio: float) -> list[Bool[Tensor, "_"]] | None:
        """Masks of what is left when a part of all Gaussians is pruned; None if nothing is.

        Measured again after the number of Gaussians has changed.
        """
        if ratio <= 0.0:
            return None
        experts = experts_of(self._model)
        counts = tuple(expert.num_gaussians for expert in experts)
        if self._measured is None or self._measured[0] != counts:
            self._measured = counts, importance(self._model, self._views())
        return self._measured[1].best(num_left(sum(counts), ratio))


def experts_of(model: ExpertModel | MixtureModel) -> list[Expert]:
    """The experts of a model."""
    return model.mixture.experts if isinstance(model, MixtureModel) else [model.expert]


def num_left(count: int, ratio: float) -> int:
    """Gaussians that are left of some when a part is pruned."""
    return round((1.0 - ratio) * count)


def importance(model: ExpertModel | MixtureModel, views: Iterator[View]) -> Importance:
    """Contribution to the images: by the gates where there are gates per pixel, plain for one
    expert; the largest opacity where all experts are one set."""
    if isinstance(model, MixtureModel):
        is_joint = isinstance(model.mixture, VolumeMixture)
        criterion = CRITERIA["opacity" if is_joint else "gated-contribution"]
        return criterion.measure(model.mixture, views, model.corrections.views, run_seed())
    return Importance([contributions(model.expert, views)])


def contributions(expert: Expert, views: Iterator[View]) -> Tensor:
    """Σ_u T·alpha of every Gaussian of an expert [N], in double precision."""
    total = torch.zeros(expert.num_gaussians, dtype=torch.double, device=expert.background.device)
    for view in views:
        with torch.no_grad():
            part = expert.at(view.time)
        ones = torch.ones(1, 1, view.height, view.width, 1, device=total.device)
        with torch.enable_grad():
            [found] = weighted_contributions([part], view, ones, near=[expert.near])
        ids = torch.arange(len(part), device=total.device) if part.ids is None else part.ids
        total.index_add_(0, ids, found[:, 0].double())
    return total
