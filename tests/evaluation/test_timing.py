"""Timings are synchronised, warmed up and made in turns; columns of hand-made times."""

import pytest

from moegs_ns.evaluation import timing
from moegs_ns.evaluation.timing import columns, time_calls, time_in_turns, timed


class FakeDevice:
    """A clock that stands still but for the work, which is done once somebody waits for it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.queued, self.calls = 0.0, 0.0, []
        monkeypatch.setattr(timing, "synchronize", self.synchronize)
        monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now)

    def synchronize(self) -> None:
        self.now, self.queued = self.now + self.queued, 0.0

    def work(self, name: str, *milliseconds: float):
        """A call that queues so much work, the last one again and again."""
        times = list(milliseconds)

        def call() -> None:
            self.calls.append(name)
            self.queued += 1e-3 * (times.pop(0) if len(times) > 1 else times[0])

        return call


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> FakeDevice:
    return FakeDevice(monkeypatch)


def test_a_call_is_timed_until_the_device_is_idle(device: FakeDevice):
    device.work("before", 100.0)()
    assert timed(device.work("a", 5.0)) == pytest.approx(5.0)


def test_first_calls_do_not_count(device: FakeDevice):
    times = time_calls(device.work("a", 90.0, 80.0, 3.0, 4.0), repeats=2, warmup=2)
    assert times == pytest.approx([3.0, 4.0]) and len(device.calls) == 4


def test_calls_are_made_in_turns(device: FakeDevice):
    times = time_in_turns({"a": device.work("a", 9.0, 1.0), "b": device.work("b", 8.0, 2.0)}, 3)
    assert device.calls == ["a", "b"] * 4
    assert times["a"] == pytest.approx([1.0] * 3) and times["b"] == pytest.approx([2.0] * 3)


def test_columns_are_median_extremes_and_number():
    assert columns([5.0, 1.0, 2.0, 100.0], "x_") == {
        "x_median_ms": 3.5, "x_min_ms": 1.0, "x_max_ms": 100.0, "x_n": 4,
    }  # fmt: skip


def test_no_repeats_are_refused():
    with pytest.raises(ValueError, match="at least one repeat, got 0"):
        time_calls(lambda: None, repeats=0)
