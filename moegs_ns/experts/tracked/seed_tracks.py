"""Where moving seeds are at all times: they go on with the velocities of the seeds around them."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from moegs_ns.scene import InitialPoints

ALONE = 2.0
"""How far seeds of a single time are extrapolated, in clips: also to keys beyond its ends."""


@dataclass(frozen=True, eq=False)
class SeedTracks:
    """Positions of n seeds at T times; straight in between, at rest before and after them."""

    seeds: Int[Tensor, "n"]
    """Row of the seed that each track passes through."""
    times: Float[Tensor, "T"]
    """Ascending, in clips; the first and the last one may lie outside of the clip."""
    positions: Float[Tensor, "n T 3"]
    """In the world."""

    def at(self, times: Float[Tensor, "K"]) -> Float[Tensor, "n K 3"]:
        """Positions at any times, in clips."""
        inside = times.clamp(float(self.times[0]), float(self.times[-1]))
        later = torch.searchsorted(self.times, inside).clamp(1, len(self.times) - 1)
        start, end = self.times[later - 1], self.times[later]
        share = ((inside - start) / (end - start))[:, None]
        return torch.lerp(self.positions[:, later - 1], self.positions[:, later], share)


def follow_seeds(
    seeds: InitialPoints, velocities: Float[Tensor, "N 3"], reaches: Float[Tensor, "N"]
) -> SeedTracks:
    """Tracks of moving seeds, so that what was seeded at several times is there once.

    The seeds of the first time are extrapolated to the second one by their `velocities` (in world
    units per clip), from there on by that of the nearest seed of the time reached, and so on; with
    no seed within its reach (in world units) a track rests until the next time. A later seed that
    no track comes as near to begins a track of its own, as things may appear. Before its first time
    and after the last one a track goes on for a gap between times, then rests; that of seeds of a
    single time goes on through the clip.
    """
    assert seeds.times is not None
    xyz, times = seeds.xyz, seeds.times.unique()
    gap = seeds.time_gap if len(times) > 1 else ALONE
    groups = [torch.nonzero(seeds.times == time)[:, 0] for time in times]

    def moved(positions: Tensor, group: Tensor, duration: float) -> Tensor:
        distances, nearest = torch.cdist(positions, xyz[group]).min(1)
        nearest = group[nearest]
        is_near = distances <= reaches[nearest]
        return positions + duration * velocities[nearest] * is_near[:, None]

    chosen = groups[0]
    path = [xyz[chosen] - gap * velocities[chosen], xyz[chosen]]
    for before, group, step in zip(groups[:-1], groups[1:], times.diff().tolist(), strict=True):
        path.append(moved(path[-1], before, step))
        is_new = torch.cdist(xyz[group], path[-1]).amin(1) > reaches[group]
        new = group[is_new]
        earlier, chosen = xyz[new] - step * velocities[new], torch.cat([chosen, new])
        path = [torch.cat([positions, earlier]) for positions in path[:-1]] + [
            torch.cat([path[-1], xyz[new]])
        ]
    path.append(moved(path[-1], groups[-1], gap))
    all_times = torch.cat([times[:1] - gap, times, times[-1:] + gap])
    return SeedTracks(chosen, all_times, torch.stack(path, dim=1))
