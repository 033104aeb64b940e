"""Time and profile training steps of any method inside nerfstudio's own loop.

    python -m benchmarks.speed.training_step --name training_step --warmup 600 --steps 200 \
        --command "moegs-4dgaussians --data DATA/dnerf_mutant dnerf-data"

Steps are timed one by one between synchronisations; a second pass of `--profiled` steps counts the
kernels, the waits for the device and the operators that cost the host most.
"""

import shlex
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tyro
from nerfstudio.configs.method_configs import AnnotatedBaseConfigUnion
from nerfstudio.scripts.train import _set_random_seed
from nerfstudio.utils import writer
from torch.profiler import ProfilerActivity, profile

from benchmarks.speed.timing import synchronize
from benchmarks.tables import RESULTS, Table
from benchmarks.trainings import UNWATCHED
from moegs_ns.engine.pipeline import MoegsPipeline
from moegs_ns.engine.trainer import MoegsTrainer
from moegs_ns.models.expert_model import ExpertModel


@dataclass(frozen=True, kw_only=True)
class TrainingStep(Table):
    """Milliseconds a step of each command, after a warm-up in which the scene takes shape."""

    command: tuple[str, ...]
    """What would follow `ns-train`, one string per row of the table."""
    name: str = "training_step"
    results_dir: Path = RESULTS / "machine"
    warmup: int = 600
    """Steps before the first one that counts."""
    steps: int = 200
    """Steps that are timed."""
    profiled: int = 20
    """Steps that are profiled afterwards; 0 for none."""
    operators: int = 25
    """Operators printed of a profile."""

    def main(self) -> None:
        """Time every command and write the table."""
        self.write_each(self.measure(command) for command in self.command)

    def measure(self, command: str) -> dict[str, Any]:
        """One row: median, mean, which rounds of growth are part of, and spread; kernels and waits
        a step."""
        with TemporaryDirectory() as folder:
            trainer = make_trainer(command, Path(folder))
            clock = StepClock(trainer, self.warmup, self.steps, self.profiled)
            trainer.config.max_num_iterations = self.warmup + self.steps + self.profiled
            trainer.train()
            # nerfstudio never forgets a run's log writers, and would log the next run to all.
            writer.EVENT_WRITERS.clear()
        times = clock.milliseconds
        row: dict[str, Any] = {
            "command": command,
            "gaussians": gaussian_count(trainer.pipeline),
            "median_ms": round(statistics.median(times), 3),
            "mean_ms": round(statistics.fmean(times), 3),
            "p10_ms": round(sorted(times)[len(times) // 10], 3),
            "p90_ms": round(sorted(times)[len(times) * 9 // 10], 3),
            "steps": len(times),
        }
        return row | (clock.profile_figures(self.operators) if self.profiled else {})


class StepClock:
    """Wraps a trainer's iteration: synchronised times first, a profile of the last steps then."""

    def __init__(self, trainer: MoegsTrainer, warmup: int, steps: int, profiled: int) -> None:
        self.milliseconds: list[float] = []
        self._profiled = 0
        self._last: float | None = None
        self._profile = profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA])
        inner = trainer.train_iteration

        def train_iteration(step: int) -> Any:
            if warmup <= step <= warmup + steps:
                self._tick()
            if profiled and step == warmup + steps:
                self._profile.start()
            result = inner(step)
            if step >= warmup + steps:
                self._profiled += 1
            if profiled and self._profiled == profiled:
                self._stop()  # What follows the last step, a checkpoint, is not part of it.
            return result

        trainer.train_iteration = train_iteration  # type: ignore[method-assign]

    def _tick(self) -> None:
        """The loop from one iteration's begin to the next one's, bookkeeping included."""
        synchronize()
        now = time.perf_counter()
        if self._last is not None:
            self.milliseconds.append(1e3 * (now - self._last))
        self._last = now

    def _stop(self) -> None:
        synchronize()
        self._profile.stop()

    def profile_figures(self, operators: int) -> dict[str, float]:
        """Kernels and synchronising calls a step; prints where the host's time goes."""
        averages = self._profile.key_averages()
        print(averages.table(sort_by="self_cpu_time_total", row_limit=operators))
        print(averages.table(sort_by="self_cuda_time_total", row_limit=operators))
        counts = {event.key: event.count for event in averages}

        def per_step(*words: str) -> float:
            found = sum(n for key, n in counts.items() if any(word in key for word in words))
            return round(found / self._profiled, 1)

        operators_run = sum(n for key, n in counts.items() if key.startswith("aten::"))
        return {
            "kernels": per_step("cudaLaunchKernel", "cuLaunchKernel"),
            "waits": per_step("cudaStreamSynchronize", "cudaDeviceSynchronize"),
            "copies": per_step("cudaMemcpyAsync"),
            "operators": round(operators_run / self._profiled, 1),
        }


def make_trainer(command: str, output_dir: Path) -> MoegsTrainer:
    """The trainer that `ns-train` would build, set up but not started."""
    method, *args = shlex.split(command)
    options = ["--output-dir", str(output_dir), "--steps-per-save", "1000000", *UNWATCHED]
    options += ["--logging.local-writer.enable", "False"]
    config = tyro.cli(AnnotatedBaseConfigUnion, args=[method, *options, *args])
    config.pipeline.datamanager.data = config.data
    config.set_timestamp()
    config.save_config()
    _set_random_seed(config.machine.seed)
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    return trainer


def gaussian_count(pipeline: MoegsPipeline) -> int:
    """Gaussians of the expert or of all experts."""
    model = pipeline.model
    return (model.expert if isinstance(model, ExpertModel) else model.mixture).num_gaussians


if __name__ == "__main__":
    tyro.cli(TrainingStep, description=__doc__).main()
