"""Where moving seeds are at all times: by their velocities, and by the seeds of other times."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from moegs_ns.scene import InitialPoints

ALONE = 2.0
"""How far seeds of a single time are extrapolated, in clips: also to keys beyond its ends."""
LAID_TOGETHER = 12
ROUNDS = 4
"""Tracks that are moved together onto the seeds of a time, and how often."""


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


@dataclass(frozen=True, eq=False)
class SeedGroup:
    """Moving seeds of one time: places in the world, displacements in clips, and how far from each
    what it stands for may be, in world units."""

    xyz: Float[Tensor, "n 3"]
    velocities: Float[Tensor, "n 3"]
    reaches: Float[Tensor, "n"]

    def near(self, distances: Float[Tensor, "m n"]) -> tuple[Tensor, Tensor]:
        """The nearest seed by these distances, and whether it is within its reach."""
        nearest = distances.argmin(1)
        return nearest, distances.gather(1, nearest[:, None])[:, 0] <= self.reaches[nearest]

    def velocities_at(self, positions: Float[Tensor, "m 3"]) -> Float[Tensor, "m 3"]:
        """Those of the nearest seeds; 0 where none is within its reach."""
        nearest, is_near = self.near(torch.cdist(positions, self.xyz))
        return self.velocities[nearest] * is_near[:, None]

    def carried(
        self, positions: Float[Tensor, "m 3"], later: "SeedGroup", duration: float
    ) -> Float[Tensor, "m 3"]:
        """Where positions at this time are at that of `later`, `duration` clips after it.

        Each goes on by the velocity here, or by that of a later seed which comes from nearer to it.
        Then neighbourhoods are laid onto the later seeds.
        """
        forwards = positions + duration * self.velocities_at(positions)
        ahead = torch.cdist(forwards, later.xyz)
        back = torch.cdist(positions, later.xyz - duration * later.velocities)
        nearest, is_near = later.near(back)
        is_better = is_near & (back.amin(1) < ahead.amin(1))
        backwards = positions + duration * later.velocities[nearest]
        moved = torch.where(is_better[:, None], backwards, forwards)
        around = torch.cdist(positions, positions)
        around = around.topk(min(LAID_TOGETHER, len(positions)), largest=False).indices
        for _ in range(ROUNDS):
            nearest, is_near = later.near(torch.cdist(moved, later.xyz))
            offsets, weights = (later.xyz[nearest] - moved) * is_near[:, None], is_near.float()
            found = weights[around].sum(1).clamp(min=1.0)
            moved = moved + offsets[around].sum(1) / found[:, None]
        return moved


def follow_seeds(
    seeds: InitialPoints, velocities: Float[Tensor, "N 3"], reaches: Float[Tensor, "N"]
) -> SeedTracks:
    """Tracks of moving seeds, so that what was seeded at several times is there once.

    The seeds of the first time are carried to the second one, from there to the third, and so on,
    by their `velocities` (in world units per clip) and the seeds that they meet; see
    `SeedGroup.carried`. A later seed with no track within its reach (in world units) begins one of
    its own, as things may appear. Before its first time and after the last one a track goes on for
    a gap between times, then rests; that of seeds of a single time goes on through the clip.
    """
    assert seeds.times is not None
    times = seeds.times.unique()
    gap = seeds.time_gap if len(times) > 1 else ALONE
    rows = [torch.nonzero(seeds.times == time)[:, 0] for time in times]
    groups = [SeedGroup(seeds.xyz[own], velocities[own], reaches[own]) for own in rows]
    chosen, first = rows[0], groups[0]
    path = [first.xyz - gap * first.velocities, first.xyz]
    for k, step in enumerate(times.diff().tolist(), start=1):
        group = groups[k]
        path.append(groups[k - 1].carried(path[-1], group, step))
        is_new = torch.cdist(group.xyz, path[-1]).amin(1) > group.reaches
        new, velocity = group.xyz[is_new], group.velocities[is_new]
        chosen = torch.cat([chosen, rows[k][is_new]])
        earlier = [torch.cat([way, new - step * velocity]) for way in path[:-1]]
        path = [*earlier, torch.cat([path[-1], new])]
    path.append(path[-1] + gap * groups[-1].velocities_at(path[-1]))
    all_times = torch.cat([times[:1] - gap, times, times[-1:] + gap])
    return SeedTracks(chosen, all_times, torch.stack(path, dim=1))
