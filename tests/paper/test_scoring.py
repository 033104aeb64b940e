"""Scores of runs by a command of their own."""

from dataclasses import replace
from pathlib import Path

import pytest
from tiny import TinyRuns

from moegs_ns.paper.scoring import report
from moegs_ns.reports.scores import Score, score_run
from moegs_ns.runs.checkpoint import open_run


def test_a_command_scores_a_run_as_this_process_does(tiny_runs: TinyRuns):
    folder = tiny_runs.config("moegs-stg").parent
    apart, here = Score(**report(folder, 0)), score_run(open_run(folder))
    assert replace(apart, fps=0.0) == replace(here, fps=0.0) and apart.fps > 0.0


def test_a_failure_names_the_log(tmp_path: Path):
    (tmp_path / "run").mkdir()
    with pytest.raises(RuntimeError, match=r"scores\.log"):
        report(tmp_path / "run", 0)
    assert "config.yml" in (tmp_path / "run" / "scores.log").read_text()
