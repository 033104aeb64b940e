"""How an expert moves its Gaussians: trajectories and their speed, curvature and coherence."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from moegs_ns.experts.base import Expert

MIN_OPACITY = 0.05
"""A Gaussian counts at a time from this opacity on; hidden ones may be anywhere."""
MOVING_SHARE = 0.01
"""Gaussians whose visible path is longer than this fraction of the scene's extent are moving."""
STILL_STEP = 1e-6
"""Steps shorter than this fraction of the extent have no direction."""
NUM_NEIGHBOURS = 8
NUM_COHERENCE_STEPS = 8
"""Steps over which neighbours are compared, spread over the clip."""


@dataclass(frozen=True, eq=False)
class Trajectories:
    """Positions of chosen Gaussians of one expert over time, in the world."""

    times: Float[Tensor, "T"]
    rows: Int[Tensor, "n"]
    """Indices into the expert's full set."""
    means: Float[Tensor, "T n 3"]
    is_visible: Bool[Tensor, "T n"]

    @property
    def steps(self) -> Float[Tensor, "S n 3"]:
        """Displacements from each time to the next, S = T - 1."""
        return self.means.diff(dim=0)

    @property
    def is_step_visible(self) -> Bool[Tensor, "S n"]:
        """Whether a Gaussian is visible at both ends of a step."""
        return self.is_visible[1:] & self.is_visible[:-1]


@dataclass(frozen=True)
class MotionReport:
    """Motion of one expert (MoE-GS, appendix E). Means are over chosen Gaussians while visible.

    Lengths are in extents of the scene. A figure is NaN where nothing moves.
    """

    gaussians: int
    moving_share: float
    """Part of all Gaussians that move by more than `MOVING_SHARE` extents while visible."""
    chosen: int
    frames_per_step: float
    speed: float
    """Mean speed in extents per frame."""
    fast_speed: float
    """The speed that one step in twenty exceeds."""
    turn_degrees: float
    """Mean angle between a step and the next, weighted by their lengths."""
    curvature: float
    """Angle turned per length of path, in radians per extent."""
    coherence: float
    """Mean cosine between a Gaussian's step and the mean step of its neighbours; 1 is aligned."""
    difference: float
    """Mean difference between these two, as a fraction of the sum of their lengths; 0 is equal."""


@torch.no_grad()
def state_at(expert: Expert, time: Tensor) -> tuple[Float[Tensor, "N 3"], Bool[Tensor, "N"]]:
    """Positions of an expert's full set at one time, and which of them are visible."""
    gaussians = expert.at(time)
    is_visible = gaussians.opacities >= MIN_OPACITY
    if gaussians.ids is None:
        return gaussians.means, is_visible
    means = gaussians.means.new_zeros(expert.num_gaussians, 3)
    shown = torch.zeros(expert.num_gaussians, dtype=torch.bool, device=means.device)
    means[gaussians.ids], shown[gaussians.ids] = gaussians.means, is_visible
    return means, shown


def path_lengths(expert: Expert, times: Float[Tensor, "T"]) -> Float[Tensor, "N"]:
    """Length of every Gaussian's path while it is visible, in world units."""
    total = torch.zeros(expert.num_gaussians, device=times.device)
    before = state_at(expert, times[0])
    for time in times[1:]:
        now = state_at(expert, time)
        step = (now[0] - before[0]).norm(dim=-1)
        total += torch.where(now[1] & before[1], step, 0.0)
        before = now
    return total


def choose_moving(
    lengths: Float[Tensor, "N"], count: int, generator: torch.Generator
) -> Int[Tensor, "n"]:
    """Distinct rows, drawn with probabilities in proportion to their paths; fewer if fewer move."""
    weights = lengths.double().cpu()
    moving = torch.nonzero(weights > 0)[:, 0]
    # The smallest exponential variables of these rates are a weighted draw without replacement.
    draws = -torch.rand(len(moving), generator=generator, dtype=torch.float64).log()
    first = (draws / weights[moving]).argsort()[:count]
    return moving[first].sort().values.to(lengths.device)


def trace(expert: Expert, times: Float[Tensor, "T"], rows: Int[Tensor, "n"]) -> Trajectories:
    """Follow some Gaussians over time."""
    states = [state_at(expert, time) for time in times]
    means = torch.stack([means[rows] for means, _ in states])
    return Trajectories(times, rows, means, torch.stack([shown[rows] for _, shown in states]))


def analyse_motion(
    expert: Expert, times: Float[Tensor, "T"], count: int, generator: torch.Generator
) -> tuple[MotionReport, Trajectories]:
    """Choose moving Gaussians, follow them and measure how they move."""
    extent = float(expert.scene_extent)
    lengths = path_lengths(expert, times)
    paths = trace(expert, times, choose_moving(lengths, count, generator))
    frames = max(1, int(expert.num_frames) - 1) / max(1, len(times) - 1)
    speeds = paths.steps.norm(dim=-1)[paths.is_step_visible] / (extent * frames)
    turn, curvature = turning(paths, extent)
    coherence, difference = neighbour_coherence(expert, paths, extent)
    report = MotionReport(
        gaussians=expert.num_gaussians,
        moving_share=_mean((lengths > MOVING_SHARE * extent).float()),
        chosen=len(paths.rows),
        frames_per_step=frames,
        speed=_mean(speeds),
        fast_speed=float(speeds.quantile(0.95)) if len(speeds) else math.nan,
        turn_degrees=math.degrees(turn),
        curvature=curvature,
        coherence=coherence,
        difference=difference,
    )
    return report, paths


def turning(paths: Trajectories, extent: float) -> tuple[float, float]:
    """Mean angle between consecutive steps in radians, and angle per extent of path."""
    steps, lengths = paths.steps, paths.steps.norm(dim=-1)
    is_step = paths.is_step_visible & (lengths > STILL_STEP * extent)
    is_turn = is_step[1:] & is_step[:-1]
    # Half-angle form: arccos would lose small angles to rounding.
    units = torch.nn.functional.normalize(steps, dim=-1)
    apart = (units[1:] - units[:-1]).norm(dim=-1)
    together = (units[1:] + units[:-1]).norm(dim=-1)
    angles = 2.0 * torch.atan2(apart, together)[is_turn]
    weights = (0.5 * (lengths[1:] + lengths[:-1]))[is_turn]
    if len(angles) == 0:
        return math.nan, math.nan
    mean = float((angles * weights).sum() / weights.sum())
    return mean, float(angles.sum() / weights.sum()) * extent


def neighbour_coherence(expert: Expert, paths: Trajectories, extent: float) -> tuple[float, float]:
    """Mean cosine and mean relative difference between steps of Gaussians and of neighbours."""
    cosines, differences = [], []
    num_steps = len(paths.times) - 1
    spread = torch.linspace(0, num_steps - 1, min(num_steps, NUM_COHERENCE_STEPS))
    for step in spread.long().tolist():
        before, after = (state_at(expert, paths.times[step + k]) for k in (0, 1))
        shown = torch.nonzero(before[1] & after[1])[:, 0]
        moved = after[0] - before[0]
        is_long = moved[paths.rows].norm(dim=-1) > STILL_STEP * extent
        rows = paths.rows[paths.is_step_visible[step] & is_long]
        if len(rows) == 0 or len(shown) < 2:
            continue
        around = moved[shown[neighbours(before[0][shown], before[0][rows])]].mean(1)
        own = moved[rows]
        cosines.append(torch.nn.functional.cosine_similarity(own, around, dim=-1))
        sizes = own.norm(dim=-1) + around.norm(dim=-1)
        differences.append((own - around).norm(dim=-1) / sizes)
    if not cosines:
        return math.nan, math.nan
    return _mean(torch.cat(cosines)), _mean(torch.cat(differences))


def neighbours(points: Float[Tensor, "M 3"], queries: Float[Tensor, "n 3"]) -> Int[Tensor, "n k"]:
    """Rows of the points nearest to each query, without the first: the query is a point itself."""
    from sklearn.neighbors import NearestNeighbors

    count = min(NUM_NEIGHBOURS + 1, len(points))
    search = NearestNeighbors(n_neighbors=count).fit(points.cpu().numpy())
    found = search.kneighbors(queries.cpu().numpy(), return_distance=False)
    return torch.from_numpy(found[:, 1:]).to(points.device)


def _mean(values: Tensor) -> float:
    return float(values.mean()) if values.numel() else math.nan
