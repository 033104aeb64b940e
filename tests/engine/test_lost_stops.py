"""Signals that came within compiled code, which dropped or replaced what the handler raised."""

from pathlib import Path
from unittest.mock import Mock

import pytest

from moegs_ns.engine.trainer import MoegsTrainer
from moegs_ns.launch import processes
from moegs_ns.launch.processes import Stopped


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mock:
    """In a process that a signal should have ended."""
    monkeypatch.setattr(processes, "_stopped", Stopped(130))
    return Mock(spec=MoegsTrainer, base_dir=tmp_path)


def test_a_dropped_stop_ends_the_training_at_its_next_look(trainer: Mock):
    with pytest.raises(Stopped):
        MoegsTrainer._check_loss(trainer, 3)


def test_a_replaced_stop_ends_the_training_as_a_stop(trainer: Mock):
    trainer._train.side_effect = SystemError("a function returned a result with an exception set")
    with pytest.raises(Stopped):
        MoegsTrainer.train(trainer)
