"""Time training steps of any method inside nerfstudio's own loop, and frames of finished runs.

    python -m benchmarks.speed.training_step --warmup 600 --steps 200 --profiled 20 \
        --command "moegs-4dgaussians --data DATA/dnerf_mutant dnerf-data" --runs RUN RUN

The device is synchronised after every block of steps, so that the host may run ahead within one,
as it does in training. `--profiled` steps after the timed ones count the kernels, the waits for the
device and the operators that cost the host most. Frames are rendered one at a time, each
synchronised, as `moegs report` does.
"""

import shlex
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import tyro
from nerfstudio.scripts.train import _set_random_seed
from nerfstudio.utils import writer
from torch.profiler import ProfilerActivity, profile

from benchmarks.tables import RESULTS, Table
from moegs_ns.engine.trainer import MoegsPipeline, MoegsTrainer, load_pipeline
from moegs_ns.evaluation.tables import Row
from moegs_ns.evaluation.timing import synchronize
from moegs_ns.launch.jobs import UNWATCHED
from moegs_ns.launch.plan import parse
from moegs_ns.models.expert_model import ExpertModel
from moegs_ns.reports.scores import frame_seconds
from moegs_ns.runs.checkpoint import open_run


@dataclass(frozen=True, kw_only=True)
class TrainingStep(Table):
    """Milliseconds a step of each command, after a warm-up in which the scene takes shape, and
    milliseconds a frame of each run."""

    command: tuple[str, ...] = ()
    """What would follow `ns-train`, one string per row of the table."""
    runs: tuple[Path, ...] = ()
    """config.yml or folder of finished runs whose frames are timed."""
    name: str = "training_step"
    results_dir: Path = RESULTS / "machine"
    warmup: int = 600
    """Steps before the first one that counts."""
    steps: int = 200
    """Steps that are timed."""
    block: int = 1
    """Steps between two synchronisations."""
    profiled: int = 20
    """Steps that are profiled afterwards; 0 for none."""
    operators: int = 25
    """Operators printed of a profile."""
    frames: int = 100
    """Frames of each run at most, spread evenly over its held-out views."""

    def rows(self) -> Iterator[Row]:
        """Rows of the commands, then those of the runs."""
        for command in self.command:
            with TemporaryDirectory() as folder:
                trainer = make_trainer(command, Path(folder))
                times, averages = self.time_steps(trainer)
                # nerfstudio never forgets a run's log writers, and would log the next run to all.
                writer.EVENT_WRITERS.clear()
            row = figures(f"training step of {command}", trainer.pipeline, times)
            yield row | (self.profile_figures(averages) if self.profiled else {})
            del trainer
            torch.cuda.empty_cache()
        for path in self.runs:
            pipeline = load_pipeline(open_run(path))
            times = [1e3 * seconds for seconds in frame_seconds(pipeline, self.frames)]
            yield figures(f"frame of {path}", pipeline, times)
            del pipeline
            torch.cuda.empty_cache()

    def time_steps(self, trainer: MoegsTrainer) -> tuple[list[float], Any]:
        """Milliseconds a step of each block in nerfstudio's loop; then a profile's averages."""
        inner, times, started = trainer.train_iteration, [], 0.0
        profiler = profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA])

        def train_iteration(step: int) -> Any:
            nonlocal started
            done = step - self.warmup
            if done == 0:
                synchronize()
                started = time.perf_counter()
            if self.profiled and done == self.steps:
                profiler.start()
            result = inner(step)
            done += 1
            if 0 < done <= self.steps and done % self.block == 0:
                synchronize()
                times.append(1e3 * (time.perf_counter() - started) / self.block)
                started = time.perf_counter()
            if self.profiled and done == self.steps + self.profiled:
                synchronize()
                profiler.stop()  # What follows the last step, a checkpoint, is not part of it.
            return result

        trainer.train_iteration = train_iteration  # type: ignore[method-assign]
        trainer.config.max_num_iterations = self.warmup + self.steps + self.profiled
        trainer.train()
        return times, profiler.key_averages() if self.profiled else None

    def profile_figures(self, averages: Any) -> dict[str, float]:
        """Kernels and synchronising calls a step; prints where the host's time goes."""
        print(averages.table(sort_by="self_cpu_time_total", row_limit=self.operators))
        print(averages.table(sort_by="self_cuda_time_total", row_limit=self.operators))

        def per_step(*names: str) -> float:
            found = (each.count for each in averages if any(name in each.key for name in names))
            return round(sum(found) / self.profiled, 1)

        return {
            "kernels": per_step("cudaLaunchKernel", "cuLaunchKernel"),
            "waits": per_step("cudaStreamSynchronize", "cudaDeviceSynchronize"),
            "copies": per_step("cudaMemcpyAsync"),
            "operators": per_step("aten::"),
        }


def figures(what: str, pipeline: MoegsPipeline, times: Sequence[float]) -> Row:
    """One row: median, mean, which rounds of growth are part of, and spread in milliseconds."""
    model, times = pipeline.model, sorted(times)
    whole = model.expert if isinstance(model, ExpertModel) else model.mixture
    return {
        "what": what, "gaussians": whole.num_gaussians,
        "median_ms": round(statistics.median(times), 3),
        "mean_ms": round(statistics.fmean(times), 3),
        "p10_ms": round(times[len(times) // 10], 3),
        "p90_ms": round(times[len(times) * 9 // 10], 3),
        "n": len(times),
    }  # fmt: skip


def make_trainer(command: str, output_dir: Path) -> MoegsTrainer:
    """The trainer that `ns-train` would build, set up but not started."""
    method, *args = shlex.split(command)
    options = ["--output-dir", str(output_dir), "--steps-per-save", "1000000", *UNWATCHED]
    options += ["--logging.local-writer.enable", "False"]
    config = parse([method, *options, *args])
    config.pipeline.datamanager.data = config.data
    config.set_timestamp()
    config.save_config()
    _set_random_seed(config.machine.seed)
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    return trainer


if __name__ == "__main__":
    tyro.cli(TrainingStep, description=__doc__).main()
