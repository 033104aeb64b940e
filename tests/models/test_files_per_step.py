"""Which files of the package a reader passes through to follow one step or one image."""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from nerfstudio.configs.method_configs import all_methods
from nerfstudio.engine.callbacks import TrainingCallbackLocation
from nerfstudio.utils import writer
from tiny import TinyRuns

import moegs_ns
from moegs_ns.data.dataparsers.n3v import N3VDataParserConfig
from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.runs.checkpoint import open_run

PACKAGE = Path(str(moegs_ns.__file__)).parent
ARCHITECTURE = Path(__file__).parents[2] / "docs" / "architecture.md"
LIMITS = {
    "stg": 19, "4dgaussians": 20, "ex4dgs": 23, "ed3dgs": 21, "freetime": 21, "tracked": 23,
    "router": 21, "viewer": 16,
}  # fmt: skip
"""On the CPU. On a GPU one file stands for the two of the Numba backend, and a step that replays a
graph runs neither projection nor deformation heads."""
WARMUP = 14 if torch.cuda.is_available() else 2
"""Calls before the one that is looked at; on a GPU graphs have been captured by then."""


def files_run(call: Callable[[], object]) -> set[str]:
    """Files of the package whose functions a call executes in this thread."""
    files: set[str] = set()

    def profile(frame, event, argument):
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(PACKAGE):
            files.add(str(path.relative_to(PACKAGE)))

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(before)
    return files


def assert_told(what: str, heading: str, files: set[str]) -> None:
    """The files are few, and the architecture lists them under the heading."""
    limit, found = LIMITS[what], "\n".join(sorted(files))
    assert len(files) <= limit, f"{len(files)} files, at most {limit}:\n{found}"
    section = ARCHITECTURE.read_text().split(f"### {heading}\n")[1].split("\n### ")[0]
    listed = set(re.findall(r"\(\.\./moegs_ns/([^)]+)\)", section))
    in_family = {file for file in files if re.fullmatch(r"experts/\w+/\w+\.py", file)}
    assert files - in_family <= listed, files - in_family - listed


@contextmanager
def training(method: str, scene: Path, output: Path, *experts: str) -> Iterator[Callable]:
    """One step of a training, callbacks included, as a function of its number."""
    config = deepcopy(all_methods[method])
    config.pipeline.datamanager.data = scene
    config.pipeline.datamanager.dataparser = N3VDataParserConfig()
    config.pipeline.model.budget = 200 / config.max_num_iterations
    config.output_dir, config.experiment_name, config.timestamp = output, "runs", "files"
    config.vis = "tensorboard"
    if experts:
        config.pipeline.model.experts = tuple(Path(path) for path in experts)
    config.set_timestamp()
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    trainer.pipeline.train()

    def step(number: int) -> None:
        locations = TrainingCallbackLocation
        for callback in trainer.callbacks:
            callback.run_callback_at_location(number, location=locations.BEFORE_TRAIN_ITERATION)
        trainer.train_iteration(number)
        for callback in trainer.callbacks:
            callback.run_callback_at_location(number, location=locations.AFTER_TRAIN_ITERATION)

    try:
        yield step
    finally:
        writer.EVENT_WRITERS.clear()


@pytest.mark.parametrize(
    "family", ["stg", "4dgaussians", "ex4dgs", "ed3dgs", "freetime", "tracked"]
)
def test_a_step_of_an_expert_runs_few_files(tiny_runs: TinyRuns, tmp_path: Path, family: str):
    with training(f"moegs-{family}", tiny_runs.scene, tmp_path) as step:
        for number in range(WARMUP):
            step(number)
        assert_told(family, "An expert's training step", files_run(lambda: step(WARMUP)))


def test_a_step_of_a_router_runs_few_files(tiny_runs: TinyRuns, tmp_path: Path):
    with training("moegs-router", tiny_runs.scene, tmp_path, *tiny_runs.experts) as step:
        for number in range(WARMUP):
            step(number)
        assert_told("router", "A router step", files_run(lambda: step(WARMUP)))


def test_an_image_of_a_mixture_runs_few_files(tiny_runs: TinyRuns):
    pipeline = load_pipeline(open_run(tiny_runs.router))
    model, camera = pipeline.model, pipeline.datamanager.train_dataset.cameras[:1]
    for _ in range(WARMUP):
        model.get_outputs_for_camera(camera)
    files = files_run(lambda: model.get_outputs_for_camera(camera))
    assert_told("viewer", "A viewer frame", files)
