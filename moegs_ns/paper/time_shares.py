"""Trainings that take a share of the time of a whole one.

A step gets slower as Gaussians are added, and fixed costs do not shrink with the steps, so a tenth
of the steps is not a tenth of the time. A budget scales every schedule of a training, which a limit
of time would cut off in the middle. So a share of the time is a budget of steps that is found by
trying: a straight line in logarithms through what was measured tells the next one.
"""

import math
from collections.abc import Callable, Iterator, Sequence

from moegs_ns.launch.jobs import TrainingJob
from moegs_ns.paper.trainings import seconds_of

TRIES = 3
"""Trainings for one share at most."""
TOLERANCE = 0.05
"""Of the share: what is nearer needs no further training."""


def next_budget(share: float, measured: Sequence[tuple[float, float]]) -> float | None:
    """The budget to try next for a share of the time; None if a measured one is near enough.

    Args:
        measured: budgets and their times, both as shares of the whole training.
    """
    points = sorted({*measured, (1.0, 1.0)})
    if any(is_near(time, share) for _, time in measured):
        return None
    if len(points) == 1:
        return share
    # The two budgets around the share, or the two that are nearest to it.
    below = [point for point in points if point[1] <= share][-1:]
    above = [point for point in points if point[1] > share][:1]
    pair = [*below, *above] if below and above else points[:2]
    (x0, y0), (x1, y1) = ((math.log(budget), math.log(time)) for budget, time in pair)
    if y1 <= y0:  # Times that do not grow tell nothing of where to look.
        return None
    steps = math.exp(x0 + (math.log(share) - y0) * (x1 - x0) / (y1 - y0))
    return float(f"{min(1.0, steps):.4g}")


def is_near(time: float, share: float) -> bool:
    """Whether a time, as a share of that of the whole training, is one that was asked for."""
    return abs(time / share - 1.0) <= TOLERANCE


def attempts(
    whole: TrainingJob, at_budget: Callable[[float], TrainingJob], share: float
) -> Iterator[TrainingJob]:
    """The trainings for a share of the time, each asked for once the one before it is finished; the
    last one that is known where one is not."""
    budget: float | None = share
    measured: list[tuple[float, float]] = []
    tried: set[TrainingJob] = set()
    while budget is not None and len(tried) < TRIES:
        job = at_budget(budget)
        if job in tried:
            return
        tried.add(job)
        yield job
        times = seconds_of(job), seconds_of(whole)
        if times[0] is None or times[1] is None:
            return
        measured.append((budget, times[0] / times[1]))
        budget = next_budget(share, measured)


def nearest(whole: TrainingJob, tried: Sequence[TrainingJob], share: float) -> TrainingJob:
    """The training whose time is nearest to a share of that of the whole one, by ratio; the first
    one where times are not known."""

    def distance(job: TrainingJob) -> float:
        part, total = seconds_of(job), seconds_of(whole)
        if part is None or total is None:
            return math.inf
        return abs(math.log(part / total / share))

    return min(tried, key=distance)
