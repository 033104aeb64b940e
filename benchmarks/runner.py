"""How experiments run: steps of chains of benchmarks, each in a process that sees some GPUs."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from threading import Lock
from typing import Protocol

from benchmarks.quality.depth_consistency import Depth
from benchmarks.quality.pruning import Pruning
from moegs_ns.launch.jobs import visible_devices
from moegs_ns.launch.mps import mps_daemon


class Benchmark(Protocol):
    """What an experiment is made of."""

    def main(self) -> None:
        """Measure and write."""


@dataclass(frozen=True)
class Step:
    """Chains of benchmarks that run at once; those of a chain run one after the other."""

    chains: tuple[tuple[Benchmark, ...], ...]
    at_once: int | None = None
    """Chains at a time; None for all."""
    one_gpu_each: bool = False
    """Whether each chain gets one of the GPUs; otherwise each sees all and deals them out."""
    around: Callable[[], AbstractContextManager[None]] = nullcontext


@dataclass(frozen=True)
class Experiment:
    """Steps that run one after the other."""

    about: str
    steps: tuple[Step, ...]

    def benchmarks(self) -> Iterator[Benchmark]:
        """Everything that it runs."""
        return (each for step in self.steps for chain in step.chains for each in chain)

    def mapped(self, change: Callable[[Benchmark], Benchmark]) -> "Experiment":
        """The same with every benchmark changed."""
        steps = (
            replace(step, chains=tuple(tuple(map(change, chain)) for chain in step.chains))
            for step in self.steps
        )
        return replace(self, steps=tuple(steps))


@contextmanager
def mps() -> Iterator[None]:
    """Processes that are started meanwhile are clients of NVIDIA's MPS.

    Raises:
        RuntimeError: it does not start.
    """
    with mps_daemon() as variables:
        os.environ.update(variables)
        try:
            yield
        finally:
            for name in variables:
                os.environ.pop(name, None)


class Runner:
    """Runs experiments in processes of their own."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.devices = visible_devices()
        self._starting = Lock()

    def run(self, name: str, experiment: Experiment) -> bool:
        """Run an experiment; whether all its parts ended well. One that fails stops no other."""
        print(f"{time.strftime('%T')} {name} begins", flush=True)
        log, is_well = self.out / f"{name}.log", True
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("")
        for step in experiment.steps:
            try:
                with step.around(), ThreadPoolExecutor(step.at_once or len(step.chains)) as pool:
                    run = partial(self.run_chain, log, step)
                    is_well &= all(list(pool.map(run, count(), step.chains)))
            except RuntimeError as error:
                print(error, flush=True)
                is_well = False
        how = "well" if is_well else "with failures"
        print(f"{time.strftime('%T')} {name} ends {how}", flush=True)
        return is_well

    def run_chain(self, log: Path, step: Step, index: int, chain: Sequence[Benchmark]) -> bool:
        """Run benchmarks one after the other; whether all ended well."""
        devices = ",".join(self.devices)
        # What computes in its own process needs a GPU to itself.
        if step.one_gpu_each and self.devices and isinstance(chain[0], Pruning | Depth):
            devices = self.devices[index % len(self.devices)]
        return not any([self.run_process(benchmark, devices, log) for benchmark in chain])

    def run_process(self, benchmark: Benchmark, devices: str, log: Path) -> int | None:
        """Run a benchmark in a process that sees some of the GPUs; its exit status."""
        process = get_context("spawn").Process(target=logged_main, args=(benchmark, log))
        with self._starting:  # An import may initialise CUDA, after which it is too late.
            os.environ["CUDA_VISIBLE_DEVICES"] = devices
            process.start()
        process.join()
        if process.exitcode:
            print(f"{type(benchmark).__name__} failed; see {log}.", flush=True)
        return process.exitcode


def logged_main(benchmark: Benchmark, log: Path) -> None:
    """What a process does: everything that it and its children print is added to the log."""
    with log.open("a") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    benchmark.main()
