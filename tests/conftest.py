"""What all tests share: the one rule for skipping, and the toy scene."""

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

# As in the commands, and before torch is loaded: see moegs_ns/__init__.py.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if not Path("/proc/driver/nvidia").exists():
    # Triton, which torch loads, asks once whether its kernels are run by Python.
    os.environ.setdefault("TRITON_INTERPRET", "1")

if find_spec("beartype") is not None and os.environ.get("MOEGS_CHECK_SHAPES") != "0":
    from shape_checker import check_shapes

    # Before anything imports the package, as nerfstudio does when it looks for methods.
    check_shapes()

import nerfstudio.configs.method_configs  # noqa: F401  first: see moegs_ns/scripts/main.py
import pytest
import torch
from tiny import TinyRuns, make_tiny_runs
from toys import make_gaussians, make_view

from moegs_ns.cameras import View
from moegs_ns.gaussians import Gaussians
from moegs_ns.launch import jobs as trainings
from moegs_ns.launch.cli_args import run_nerfstudio

# For `benchmarks`; last, so that an installed package comes before the checkout.
sys.path.append(str(Path(__file__).parents[1]))

if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    # Workers that all use all cores would wait for each other.
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(workers)))

# Tests look at the errors themselves, not at the sentences that the command makes of them.
os.environ.setdefault("MOEGS_TRACEBACK", "1")

DATA = Path(os.environ.get("MOEGS_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, and say why; mark what needs trained runs."""
    for item in items:
        if "tiny_runs" in getattr(item, "fixturenames", ()):
            item.add_marker("runs")
    reasons = {}
    if not torch.cuda.is_available():
        reasons["gpu"] = "needs a CUDA device"
    if not DATA.is_dir():
        reasons["data"] = f"needs real scenes in {DATA}; set MOEGS_DATA to their folder"
    if find_spec("pycolmap") is None:
        reasons["colmap"] = "needs pycolmap; run `pip install moegs_ns[prepare]`"
    if find_spec("ray") is None:
        reasons["cluster"] = "needs Ray; run `pip install moegs_ns[cluster]`"
    for item in items:
        for mark, reason in reasons.items():
            if item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def data_dir() -> Path:
    """Folder of real scenes, for tests marked `data`."""
    return DATA


@pytest.fixture
def generator() -> torch.Generator:
    """A fresh seeded generator; the only source of random numbers in a test."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def toy_gaussians(generator: torch.Generator) -> Gaussians:
    """48 Gaussians of SH degree 2 in front of `toy_view`."""
    return make_gaussians(generator)


@pytest.fixture
def toy_view() -> View:
    """One camera, 37 x 29 pixels: no multiple of the tile size."""
    return make_view()


@pytest.fixture(scope="session")
def tiny_runs(tmp_path_factory: pytest.TempPathFactory) -> TinyRuns:
    """A generated scene with two trained experts and their router; about half a minute."""
    return make_tiny_runs(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def typed_commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Trainings run in this process instead of in their own; the words that they were given."""
    commands: list[list[str]] = []

    def run(words: Sequence[str], *_: object) -> int:
        assert words[0] == "nerfstudio.scripts.train"
        commands.append(list(words[1:]))
        run_nerfstudio("train", words[1:])
        return 0

    monkeypatch.setattr(trainings, "run_module", run)
    return commands
