"""A run of somebody malicious, opened by every command: nothing executes, one sentence."""

import itertools
import os
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from inputs.changes import saved
from inputs.folders import copied
from inputs.running import SCRIPTS, run
from inputs.runs import CONFIG, NEWEST, OPEN, Malicious
from malicious_configs import CALL, MALICIOUS

from moegs_ns.scripts.main import Command

OPENS_NONE = {"moegs data", "moegs demo", "moegs paper", "moegs prepare"}
"""Commands of ours that take no run, or train their own."""
TAKE_NONE = {
    *("ns-process-data", "ns-download-data", "ns-install-cli", "ns-dev-test"),
    "ns-dev-sync-viser-message-defs",
}
"""Commands of nerfstudio that take no run."""


def config(text: str) -> Callable[[Path], object]:
    """A malicious config; those that are only a part of one are a field of a true one."""
    return lambda place: (place / CONFIG).write_text(text.replace("{mark}", str(place / "MARK")))


def field(place: Path) -> None:
    """In the last line of a config that is right otherwise."""
    path = place / CONFIG
    path.write_text(f"{path.read_text()}\nextra: {CALL}\n".replace("{mark}", str(place / "MARK")))


def named(place: Path) -> None:
    """The class of the model is a function of nerfstudio that runs a shell."""
    path, target = place / CONFIG, "moegs_ns.models.expert_model.ExpertModel"
    text = path.read_text()
    assert target in text
    path.write_text(text.replace(f"{target} ''", "nerfstudio.utils.scripts.run_command ''"))


def checkpoint(content: bytes | None) -> Callable[[Path], object]:
    """Pickled code, in torch's archive or bare."""

    def write(place: Path) -> None:
        if content is None:
            torch.save({"pipeline": Malicious(), "step": 3}, place / NEWEST)
        else:
            (place / NEWEST).write_bytes(content)

    return write


def poses(place: Path) -> None:
    """The run's scene has pickled code in the place of poses."""
    array = np.array([Malicious()], dtype=object)
    (place / "photos" / "poses_bounds.npy").write_bytes(saved(array))


RUNS: dict[str, Callable[[Path], object]] = {
    "config: the whole file": config(MALICIOUS["the whole file"]),
    "config: nested in lists": config(MALICIOUS["nested in lists"]),
    "config: a getattr": config(MALICIOUS["a getattr"]),
    "config: a new field": field,
    "config: a function of nerfstudio": named,
    "checkpoint of torch": checkpoint(None),
    "checkpoint that is a pickle": checkpoint(b"cposix\nsystem\n(S'touch MARK'\ntR."),
    "poses of the scene": poses,
}
LATER = {("checkpoint of torch", "moegs train"), ("poses of the scene", "moegs info")}
"""The one looks whether the checkpoint is whole, which the router's training reads; the other says
that it cannot read the scene, and what the run is."""
NEEDED = ("expert", "other", "router", "photos")
_numbers = itertools.count()


@pytest.mark.parametrize("command", OPEN)
@pytest.mark.parametrize("kind", RUNS)
def test_nothing_executes(kind: str, command: str, base: Path):
    place = copied(base, base.parent / f"malicious-{os.getpid()}-{next(_numbers)}", NEEDED)
    RUNS[kind](place)
    outcome = run(OPEN[command].replace(" router ", " expert "), place)
    assert not list(place.rglob("MARK"))
    assert not outcome.has_traceback, outcome
    if (kind, command) not in LATER:
        assert outcome.status == 1 and " Error: " in f" {outcome.printed}", outcome


def test_every_command_of_ours_is_tried():
    """A new one belongs into `OPEN`, or takes no run."""
    known = {name for name in OPEN if name.startswith("moegs ")} | OPENS_NONE
    assert {f"moegs {each.__name__.lower()}" for each in get_args(Command)} == known


def test_every_command_of_nerfstudio_is_tried():
    entries = distribution("nerfstudio").entry_points
    scripts = {each.name for each in entries if each.group == "console_scripts"}
    assert {name for name in scripts if name.startswith("ns-")} - TAKE_NONE == set(SCRIPTS)
    assert {name.split()[0] for name in OPEN} == {"moegs", *SCRIPTS}
