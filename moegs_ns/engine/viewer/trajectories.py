"""How the Gaussians near a point move over the clip."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from moegs_ns.experts.base import Expert
from moegs_ns.mixture.live import LiveChoices, none_of

MOST_TIMES = 25
"""Instants that a line is drawn through."""
VISIBLE = 0.01
"""Opacity below which a Gaussian is nowhere."""
SMALLEST_PATH = 0.01
"""Shortest way of what counts as moving, in units of the scene's extent."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The way of one Gaussian."""

    expert: int
    number: int
    """Row in the expert's full set."""
    points: Float[Tensor, "P 3"]
    """In the world, while it is visible; at least two."""


@torch.no_grad()
def trajectories(
    experts: Sequence[Expert],
    choices: LiveChoices,
    point: Float[Tensor, "3"],
    time: Float[Tensor, ""],
    count: int,
) -> list[Trajectory]:
    """The ways of those `count` moving Gaussians that are nearest to a point at a time."""
    is_on = choices.is_on or (True,) * len(experts)
    found: list[tuple[float, Trajectory]] = []
    for k, expert in enumerate(experts):
        here = choices.select(k, expert.at(time))
        if not is_on[k]:
            here = none_of(here)
        here = here.select(here.opacities >= VISIBLE)
        assert here.ids is not None
        # More than are asked for, since some of the nearest stand still.
        nearest = (here.means - point).norm(dim=-1)
        rows = nearest.argsort()[: 20 * count]
        ways = _ways(expert, here.ids[rows])
        for row, way in zip(rows.tolist(), ways, strict=True):
            if _length(way) > SMALLEST_PATH * expert.scene.extent:
                found.append((float(nearest[row]), Trajectory(k, int(here.ids[row]), way)))
    found.sort(key=lambda pair: pair[0])
    return [one for _, one in found[:count]]


def _ways(expert: Expert, ids: Tensor) -> list[Float[Tensor, "_ 3"]]:
    """Where some Gaussians of an expert's full set are over the clip, while they are visible."""
    num_times = min(MOST_TIMES, int(expert.num_frames))
    ways: list[list[Tensor]] = [[] for _ in ids]
    place = torch.full((expert.num_gaussians,), -1, device=ids.device)
    place[ids] = torch.arange(len(ids), device=ids.device)
    for time in torch.linspace(0.0, 1.0, num_times, device=ids.device):
        now = expert.at(time)
        own = place if now.ids is None else place[now.ids]
        chosen = torch.nonzero((own >= 0) & (now.opacities >= VISIBLE))[:, 0]
        for index, mean in zip(own[chosen].tolist(), now.means[chosen], strict=True):
            ways[index].append(mean)
    return [torch.stack(way) if way else torch.zeros(0, 3) for way in ways]


def _length(points: Float[Tensor, "P 3"]) -> float:
    return float((points[1:] - points[:-1]).norm(dim=-1).sum())
