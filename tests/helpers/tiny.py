"""Small real runs that the contract tests share: a generated scene, two experts, their router."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from nerfstudio.scripts import train
from nerfstudio.utils import writer

from moegs_ns.data.dataparsers.n3v import N3VDataParserConfig
from moegs_ns.engine.trainer import MoegsTrainerConfig
from moegs_ns.launch.cli_args import replaced_argv, run_nerfstudio

TINY_BUDGETS = {
    "moegs-stg": 0.002,
    "moegs-4dgaussians": 0.004,
    "moegs-ex4dgs": 0.006,
    "moegs-ed3dgs": 0.001,
    "moegs-freetime": 0.002,
    "moegs-tracked": 0.002,
    "moegs-router": 0.01,
    "moegs-pixel-router": 0.01,
    "moegs-volume-router": 0.01,
}
"""60, 68, 240, 80, 60, 60 and 50 steps of the published recipes; 50 of any router."""
TINY_POINTS = 2000


@dataclass(frozen=True)
class TinyRuns:
    """A scene of 6 cameras, 6 frames, 48x36 pixels, few points, and the configs of runs on it."""

    scene: Path
    output: Path

    def config(self, method: str) -> Path:
        return self.output / "runs" / method / "first" / "config.yml"

    @property
    def experts(self) -> list[str]:
        return [str(self.config(method)) for method in ("moegs-stg", "moegs-4dgaussians")]

    @property
    def router(self) -> Path:
        return self.config("moegs-router")


def train_tiny(
    method: str,
    scene: Path,
    output: Path,
    *options: str,
    name: str = "first",
    parser_options: Sequence[str] = (),
) -> Path:
    """Train by nerfstudio's own command and return the run's config."""
    budget = [] if "--budget" in options else ["--budget", str(TINY_BUDGETS[method])]
    run_nerfstudio(
        "train",
        [
            method, *options, *budget, "--output-dir", str(output), "--experiment-name", "runs",
            "--timestamp", name, "--vis", "tensorboard", "--steps-per-eval-image", "0",
            "--data", str(scene), "n3v-data", *parser_options,
        ],
    )  # fmt: skip
    return output / "runs" / method / name / "config.yml"


def train_config(
    config: MoegsTrainerConfig,
    scene: Path,
    output: Path,
    *,
    steps: int,
    name: str = "first",
    frames: tuple[int, int] | None = None,
) -> Path:
    """Train for a few steps from a configuration, without the seconds that typing it costs."""
    config = deepcopy(config)
    config.pipeline.datamanager.data = scene
    config.pipeline.datamanager.dataparser = N3VDataParserConfig(frames=frames)
    config.pipeline.model.budget = steps / config.max_num_iterations
    config.output_dir, config.experiment_name, config.timestamp = output, "runs", name
    config.vis, config.steps_per_eval_image = "tensorboard", 0
    try:
        # The run's folder depends on the command line, which other tests may have left behind.
        with replaced_argv(["ns-train"]):
            train.main(config)
            return config.get_base_dir() / "config.yml"
    finally:
        writer.EVENT_WRITERS.clear()


def make_tiny_runs(folder: Path) -> TinyRuns:
    """Generate the scene and train everything."""
    from moegs_ns.demo.scene import write_demo_scene

    runs = TinyRuns(folder / "scene", folder / "outputs")
    write_demo_scene(
        runs.scene, num_cameras=6, num_frames=6, width=48, height=36, num_points=TINY_POINTS
    )
    for method in ("moegs-stg", "moegs-4dgaussians"):
        train_tiny(method, runs.scene, runs.output)
    train_tiny("moegs-router", runs.scene, runs.output, "--experts", *runs.experts)
    return runs


@contextmanager
def working_directory(folder: Path) -> Iterator[None]:
    """Run a block in another directory."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
