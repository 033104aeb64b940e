"""Ctrl-C in a benchmark ends the trainings that run, and starts no other."""

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from training_helpers import TEMPLATE

from benchmarks import trainings
from moegs_ns.launch import jobs


def test_ctrl_c_starts_no_other_training(monkeypatch: pytest.MonkeyPatch):
    started: list[int] = []
    is_ended = threading.Event()

    def work(job: jobs.TrainingJob, index: int) -> None:
        started.append(job.seed)
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        assert is_ended.wait(10), "nobody ended the process of this training"

    def end(then: Callable[[], object]) -> None:
        is_ended.set()
        then()

    monkeypatch.setattr(trainings, "train_and_report", work)
    monkeypatch.setattr(jobs, "end_processes", end)
    # Also where whoever started the tests ignores it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            list(trainings.train_and_report_all([replace(TEMPLATE, seed=n) for n in range(4)], 1))
    finally:
        signal.signal(signal.SIGINT, before)
    assert is_ended.is_set() and started == [0]
