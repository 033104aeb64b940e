"""Budgets of steps that take a share of the time."""

from pathlib import Path

import pytest

from moegs_ns.launch.jobs import TrainingJob
from moegs_ns.paper import time_shares
from moegs_ns.paper.time_shares import attempts, nearest, next_budget


def seconds(budget: float) -> float:
    """Of a training whose steps get slower, with a fixed cost at its beginning."""
    return 20.0 + 980.0 * budget**1.4


class Clock:
    """Notes what was trained, and tells its time."""

    def __init__(self, monkeypatch, time=seconds) -> None:
        self.trained: list[TrainingJob] = []
        self.time = time
        monkeypatch.setattr(time_shares, "seconds_of", self.seconds_of)

    def seconds_of(self, job: TrainingJob) -> float | None:
        return self.time(job.budget) if job in self.trained else None

    def job(self, budget: float) -> TrainingJob:
        return TrainingJob("m", (), Path("/d"), ("p",), budget, 0, Path("/o"), "e")

    def train_all(self, share: float) -> list[TrainingJob]:
        """What the study does: each attempt is trained before the next one is asked for."""
        tried = []
        for job in attempts(self.job(1.0), self.job, share):
            self.trained.append(job)
            tried.append(job)
        return tried


@pytest.mark.parametrize("share", [0.5, 0.2, 0.1])
def test_the_share_of_the_time_is_reached_by_few_trainings(monkeypatch, share: float):
    clock = Clock(monkeypatch)
    clock.trained.append(clock.job(1.0))
    tried = clock.train_all(share)
    assert len(tried) <= time_shares.TRIES
    best = nearest(clock.job(1.0), tried, share)
    assert seconds(best.budget) / seconds(1.0) == pytest.approx(share, rel=0.05)
    # Asked again, the same trainings are found.
    assert list(attempts(clock.job(1.0), clock.job, share)) == tried


def test_steps_of_equal_cost_need_one_training(monkeypatch):
    clock = Clock(monkeypatch, time=lambda budget: 1000.0 * budget)
    clock.trained.append(clock.job(1.0))
    assert [job.budget for job in clock.train_all(0.2)] == [0.2]


def test_before_anything_is_trained_the_first_attempt_is_known(monkeypatch):
    clock = Clock(monkeypatch)
    (first,) = attempts(clock.job(1.0), clock.job, 0.1)
    assert first.budget == 0.1
    assert nearest(clock.job(1.0), [first], 0.1) == first


def test_times_that_do_not_grow_end_the_search():
    assert next_budget(0.1, [(0.1, 1.2), (0.5, 1.1)]) is None
    assert next_budget(0.5, [(0.5, 0.52)]) is None


def test_more_steps_are_asked_for_where_the_time_was_too_short():
    first = next_budget(0.5, [(0.5, 0.4)])
    assert first is not None and 0.5 < first < 1.0
