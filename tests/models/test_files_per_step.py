"""How many files of the package a reader passes through to follow one step or one image."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import pytest
from nerfstudio.configs.method_configs import all_methods
from nerfstudio.engine.callbacks import TrainingCallbackLocation
from nerfstudio.utils import writer
from tiny import TinyRuns

import moegs_ns
from moegs_ns.data.dataparsers.n3v import N3VDataParserConfig
from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.runs.checkpoint import open_run

PACKAGE = Path(str(moegs_ns.__file__)).parent
EXPERT_LIMIT, ROUTER_LIMIT, VIEWER_LIMIT = 31, 31, 19
"""On the CPU; on a GPU backend_gsplat.py replaces backend_numba.py and numba_kernels.py."""


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


def assert_at_most(limit: int, files: set[str]) -> None:
    assert len(files) <= limit, "\n".join([f"{len(files)} files, at most {limit}:", *sorted(files)])


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


@pytest.mark.parametrize("family", ["stg", "4dgaussians", "ex4dgs", "ed3dgs"])
def test_a_step_of_an_expert_runs_few_files(tiny_runs: TinyRuns, tmp_path: Path, family: str):
    with training(f"moegs-{family}", tiny_runs.scene, tmp_path) as step:
        for number in range(2):
            step(number)
        assert_at_most(EXPERT_LIMIT, files_run(lambda: step(2)))


def test_a_step_of_a_router_runs_few_files(tiny_runs: TinyRuns, tmp_path: Path):
    with training("moegs-router", tiny_runs.scene, tmp_path, *tiny_runs.experts) as step:
        for number in range(2):
            step(number)
        assert_at_most(ROUTER_LIMIT, files_run(lambda: step(2)))


def test_an_image_of_a_mixture_runs_few_files(tiny_runs: TinyRuns):
    pipeline = load_pipeline(open_run(tiny_runs.router))
    model, camera = pipeline.model, pipeline.datamanager.train_dataset.cameras[:1]
    model.get_outputs_for_camera(camera)
    assert_at_most(VIEWER_LIMIT, files_run(lambda: model.get_outputs_for_camera(camera)))
