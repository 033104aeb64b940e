"""A teacher whose expert is made of windows has a gate for students of their family."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from moegs_ns.experts.base import ExpertConfig
from moegs_ns.experts.ex4dgs.expert import Ex4DGSExpertConfig
from moegs_ns.experts.stg.expert import STGExpertConfig
from moegs_ns.experts.windows import joined_config
from moegs_ns.models.expert_model import ExpertModelConfig
from moegs_ns.models.mixture_model import MixtureModelConfig
from moegs_ns.models.teacher import find_gate
from moegs_ns.runs.checkpoint import Run


def teacher(**experts: ExpertConfig) -> Any:
    run = Mock(spec=Run, config_path=Path("teacher/config.yml"))
    run.config = Mock()
    run.config.pipeline.model = MixtureModelConfig(
        expert_names=tuple(experts),
        expert_models=tuple(ExpertModelConfig(expert=expert) for expert in experts.values()),
    )
    return run


def windows(*members: ExpertConfig) -> ExpertConfig:
    return joined_config(members, [(10 * k, 10 * k + 9) for k in range(len(members))])


def test_the_gate_of_windows_is_that_of_their_family():
    run = teacher(stg=windows(STGExpertConfig(), STGExpertConfig()), ex4dgs=Ex4DGSExpertConfig())
    assert find_gate(run, STGExpertConfig(), None) == "stg"
    assert find_gate(run, STGExpertConfig(), "stg") == "stg"
    assert find_gate(run, Ex4DGSExpertConfig(), None) == "ex4dgs"


def test_windows_of_several_families_stand_for_none():
    white = (1.0, 1.0, 1.0)
    mixed = windows(STGExpertConfig(background=white), Ex4DGSExpertConfig(background=white))
    run = teacher(stg_ex4dgs=mixed)
    with pytest.raises(ValueError, match=r"of the student's family \(STGExpert\).*--teacher"):
        find_gate(run, STGExpertConfig(), None)
    assert find_gate(run, STGExpertConfig(), "stg_ex4dgs") == "stg_ex4dgs"


def test_windows_and_a_whole_expert_of_one_family_must_be_told_apart():
    run = teacher(stg=windows(STGExpertConfig(), STGExpertConfig()), stg_2=STGExpertConfig())
    with pytest.raises(ValueError, match=r"several experts.*stg, stg_2.*--teacher-gate"):
        find_gate(run, STGExpertConfig(), None)
