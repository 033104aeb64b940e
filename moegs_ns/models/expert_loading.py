"""The weights of a mixture's experts, from their runs: before their finish and after it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from moegs_ns.experts.base import Expert
from moegs_ns.experts.windows import WindowedExpert
from moegs_ns.mixture.mixture import Mixture
from moegs_ns.models.camera_corrections import ExpertCorrections
from moegs_ns.models.expert_sources import is_run, split_windows
from moegs_ns.runs.checkpoint import (
    Run,
    check_same_scene,
    open_run,
    stored_scene,
    without_prefix,
)

MOVED = 0.2
"""Largest median motion of Gaussians in the finish, relative to that of permuted ones."""


def existing_runs(path: Path) -> list[Run]:
    """The runs that make one expert of a mixture; empty if one is gone."""
    paths = split_windows(str(path))
    return list(map(open_run, paths)) if all(is_run(run) for run in paths) else []


def load_experts(
    experts: Sequence[Expert],
    corrections: ExpertCorrections,
    paths: Sequence[Path],
    *,
    before_finish: bool,
) -> bool:
    """Take the weights of a mixture's experts, and what they say of cameras, from their runs.

    Runs that are gone are skipped: a resumed run has the weights in its own checkpoint.

    Args:
        before_finish: take the weights of before experts saw the images that they had left out.
            Colours and poses of cameras are always those of the end: they are few numbers, and
            cameras that were left out have none before.

    Returns:
        Whether all runs were there.

    Raises:
        ValueError: an expert was trained on another scene or time range, or its windows on
            different cameras.
    """
    for k, (expert, path) in enumerate(zip(experts, paths, strict=True)):
        runs = existing_runs(path)
        if not runs:
            CONSOLE.print(f"The expert run {path} is gone; using this run's own checkpoint.")
            return False
        states = [run.model_state() for run in runs]
        earlier = [run.model_state(before_finish=True) for run in runs] if before_finish else states
        load_expert(expert, runs, earlier)
        corrections.load(k, states, str(path))
    return True


def load_expert(expert: Expert, runs: Sequence[Run], states: Sequence[dict[str, Any]]) -> None:
    """Take the weights of an expert, or of its windows, from states of the runs' models.

    Raises:
        ValueError: a run is of another scene or time range, or windows are of different cameras.
    """
    members = expert.members if isinstance(expert, WindowedExpert) else [expert]
    for member, run, model_state in zip(members, runs, states, strict=True):
        state = without_prefix(model_state, "expert.")
        check_same_scene(stored_scene(state), member.scene, run)
        member.load_state_dict(state)
    if isinstance(expert, WindowedExpert):
        expert.share_scene()


def finish_experts(experts: Sequence[Expert], paths: Sequence[Path]) -> None:
    """Give a mixture's experts the weights that they have after their finish, Gaussian by Gaussian.

    Raises:
        FileNotFoundError: runs are gone.
        ValueError: Gaussians are not those of before the finish.
    """
    for expert, path in zip(experts, paths, strict=True):
        runs = existing_runs(path)
        if not runs:
            raise FileNotFoundError(
                f"Expected the finished expert in {path}, which is gone; restore it, and resume "
                "this run from its last checkpoint."
            )
        parameters = dict(expert.named_parameters())
        before = {name: parameters[name].clone() for name in parameters if name.endswith("means")}
        load_expert(expert, runs, [run.model_state() for run in runs])
        after = dict(expert.named_parameters())
        for name, value in before.items():
            if not follows(value, after[name]):
                raise ValueError(
                    f"Expected the same Gaussians before and after the finish, but {name} of "
                    f"{path} are others; train the expert and this router anew."
                )


def follows(before: Tensor, after: Tensor) -> bool:
    """Whether rows of positions are those of before, moved a little: much less than they would be
    if they had been permuted."""
    if before.shape != after.shape:
        return False
    if len(before) < 2:
        return True
    moved, apart = (after - before).abs().median(), (after - before.roll(1, 0)).abs().median()
    return bool(moved <= MOVED * apart)


def load_mixture(mixture: Mixture, corrections: ExpertCorrections, path: Path) -> None:
    """Take the weights of experts and router from the run of a mixture, unless it is gone.

    Raises:
        ValueError: it was trained on another scene or time range.
    """
    if not path.exists():
        CONSOLE.print(f"The mixture's run {path} is gone; using this run's own checkpoint.")
        return
    run = open_run(path)
    state = run.model_state()
    weights = without_prefix(state, "mixture.")
    stored = stored_scene(without_prefix(weights, "expert_modules.0."))
    check_same_scene(stored, mixture.experts[0].scene, run, role="a mixture")
    mixture.load_state_dict(weights)
    corrections.load_state_dict(without_prefix(state, "corrections."))
