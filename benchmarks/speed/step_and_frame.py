"""Milliseconds of a training step of each method, and of a frame of each run.

    python -m benchmarks.speed.step_and_frame --data DATA/panoptic_basketball \
        --parser panoptic-data --parser-options="--frames 0 66" \
        --methods moegs-stg moegs-ex4dgs --runs RUN RUN

Every method is trained anew. The device is synchronised only at the ends of blocks of steps, so
that the host may run ahead within one, as it does in training; `training_step` synchronises every
step and profiles. Frames are rendered one at a time, each synchronised, as `moegs report` does.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import tyro
from nerfstudio.utils import writer

from benchmarks.speed.timing import Timing, synchronize, time_calls
from benchmarks.speed.training_step import gaussian_count, make_trainer
from benchmarks.tables import RESULTS, Table, free_memory
from benchmarks.trainings import Scene
from moegs_ns.engine.pipeline import MoegsPipeline, load_pipeline
from moegs_ns.engine.trainer import MoegsTrainer
from moegs_ns.evaluation.tables import Row
from moegs_ns.runs.checkpoint import open_run

WARM_UP_FRAMES = 8


@dataclass(frozen=True, kw_only=True)
class StepAndFrame(Table):
    """One row for each method that is trained and each run that is rendered."""

    scene: Annotated[Scene, tyro.conf.arg(name="")]
    methods: tuple[str, ...] = ()
    """Methods whose training steps are timed; also with options, as would follow `ns-train`."""
    runs: tuple[Path, ...] = ()
    """config.yml or folder of finished runs whose frames are timed."""
    name: str = "step_and_frame"
    results_dir: Path = RESULTS / "machine"
    warmup: int = 300
    """Steps before the first one that counts."""
    blocks: int = 10
    """Blocks of steps that are timed."""
    block: int = 30
    """Steps of a block."""
    frames: int = 100
    """Frames of each run at most, spread evenly over its held-out views."""

    def main(self) -> None:
        """Time and write."""
        self.write_each(self.rows())

    def rows(self) -> Iterator[Row]:
        """Rows of the methods, then those of the runs."""
        for method in self.methods:
            with TemporaryDirectory() as folder:
                scene = ["--data", str(self.scene.data), *self.scene.parser_args]
                trainer = make_trainer(f"{method} {' '.join(scene)}", Path(folder))
                timing = self.time_steps(trainer)
                # nerfstudio never forgets a run's log writers, and would log the next run to all.
                writer.EVENT_WRITERS.clear()
            count = gaussian_count(trainer.pipeline)
            yield {"what": f"training step of {method}", "gaussians": count} | timing.columns()
            del trainer
            free_memory()
        for path in self.runs:
            pipeline = load_pipeline(open_run(path))
            timing = self.time_frames(pipeline)
            count = gaussian_count(pipeline)
            yield {"what": f"frame of {path}", "gaussians": count} | timing.columns()
            del pipeline
            free_memory()

    def time_steps(self, trainer: MoegsTrainer) -> Timing:
        """Milliseconds a step of each block in nerfstudio's loop."""
        inner, times, started = trainer.train_iteration, [], 0.0

        def train_iteration(step: int) -> Any:
            nonlocal started
            if step == self.warmup:
                synchronize()
                started = time.perf_counter()
            result = inner(step)
            done = step + 1 - self.warmup
            if done > 0 and done % self.block == 0:
                synchronize()
                now = time.perf_counter()
                times.append(1e3 * (now - started) / self.block)
                started = now
            return result

        trainer.train_iteration = train_iteration  # type: ignore[method-assign]
        trainer.config.max_num_iterations = self.warmup + self.blocks * self.block
        trainer.train()
        return Timing.of(times)

    @torch.no_grad()
    def time_frames(self, pipeline: MoegsPipeline) -> Timing:
        """Milliseconds of single frames over held-out cameras, each at another time."""
        cameras = pipeline.datamanager.eval_dataset.cameras.to(pipeline.device)
        rows = torch.linspace(0, len(cameras) - 1, min(len(cameras), self.frames)).long().tolist()
        rows = rows[:WARM_UP_FRAMES] + rows
        views = iter([cameras[row : row + 1] for row in rows])
        warmup = min(WARM_UP_FRAMES, len(rows) // 2)
        return time_calls(
            lambda: pipeline.model.get_outputs_for_camera(next(views)),
            len(rows) - warmup, warmup,
        )  # fmt: skip


if __name__ == "__main__":
    tyro.cli(StepAndFrame, description=__doc__).main()
