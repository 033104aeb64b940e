"""Every table that needs a CUDA machine, by name; without a name, the list of them.

    python -m benchmarks.experiments reference method+smoke --data DATA --out outputs/tables

Experiments run one after the other, those joined by + at once, on all GPUs there are. Tables go to
OUT/<scene>, row by row, and the log of each experiment to OUT/NAME.log. Finished runs are found
again under RUNS/<scene>, so that the same command goes on after an interruption. Options such as
--budget take the place of what the experiment has.
"""

import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, Protocol

import tyro

from benchmarks.quality.depth_consistency import Depth
from benchmarks.quality.distillation import Distillation
from benchmarks.quality.mixtures import Mixtures
from benchmarks.quality.pruning import Pruning
from benchmarks.quality.router_variants import RouterVariants
from benchmarks.quality.validation import Validation
from benchmarks.speed.compact_run import Write
from benchmarks.speed.single_pass import SinglePass
from benchmarks.speed.training_step import TrainingStep
from benchmarks.tables import RESULTS
from benchmarks.trainings import Scene
from moegs_ns.launch.jobs import run_module, visible_devices

STG, FOURD, EX4D, ED3D = "moegs-stg", "moegs-4dgaussians", "moegs-ex4dgs", "moegs-ed3dgs"
COLORS = "--pipeline.model.color-correction True"
BEFORE_AFTER = (f"{STG}/seed-0", f"{FOURD}/seed-0", "moegs-router/seed-0-ex4dgs-stg")
"""Runs of `corrected` whose frames are timed."""
DENSE = "--points-file init_t0_22k.npz --min-points 10"


class Benchmark(Protocol):
    """What an experiment is made of."""

    def main(self) -> None:
        """Do it."""


@dataclass(frozen=True)
class GpuTests:
    """Parity of the kernels: the tests that need a GPU."""

    def main(self) -> None:
        """Run them; the log has the result."""
        run_module(["pytest", "-q", "-m", "gpu", "tests"])


@dataclass(frozen=True)
class Step:
    """Chains of benchmarks that run at once; those of a chain run one after the other."""

    chains: tuple[tuple[Benchmark, ...], ...]
    at_once: int | None = None
    """Chains at a time; None for all."""
    one_gpu_each: bool = False
    """Whether the chains share the GPUs out, one for each; else they deal out all by themselves."""
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
        chains = [tuple(tuple(map(change, chain)) for chain in step.chains) for step in self.steps]
        steps = (replace(step, chains=own) for step, own in zip(self.steps, chains, strict=True))
        return replace(self, steps=tuple(steps))


@dataclass(frozen=True)
class Options:
    """Which experiments, where, and what differs from their settings."""

    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Experiments; those joined by + run at once."""
    data: Path = Path(os.environ.get("MOEGS_DATA", "data"))
    """Folder of the scenes."""
    dnerf: str = "dnerf_mutant"
    """The D-NeRF scene in it."""
    out: Path = RESULTS
    """Folder of tables and logs."""
    runs: Path = Path("outputs/benchmark")
    """Folder of runs."""
    frames: tuple[int, int] | None = None
    """First and last frame of the PanopticSports scene."""
    budget: float | None = None
    router_budget: float | None = None
    seeds: tuple[int, ...] | None = None
    methods: tuple[str, ...] | None = None
    """Experts or students; mixtures are then of all of them, unless --mixtures names others."""
    mixtures: tuple[str, ...] | None = None
    expert_options: tuple[str, ...] | None = None
    router_options: str | None = None
    train_options: str | None = None
    max_views: int | None = None
    at_once: int | None = None
    steps: int | None = None

    def basketball(self, last_frame: int, more: str = "") -> Scene:
        """The PanopticSports scene up to a frame."""
        first, last = self.frames or (0, last_frame)
        frames = f"--frames {first} {last} {more}".strip()
        return Scene(self.data / "panoptic_basketball", "panoptic-data", frames)

    def places(self, scene: str) -> dict[str, Any]:
        """Where tables, images and runs of a scene are."""
        out = self.out / scene
        return {"results_dir": out, "images_dir": out, "output_dir": self.runs / scene}

    def applied(self, benchmark: Any) -> Any:
        """The benchmark with those of its settings that are given here."""
        names = ("budget", "router_budget", "seeds", "methods", "mixtures", "expert_options")
        names += ("router_options", "train_options", "max_views", "at_once", "steps")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if "methods" in given:
            given.setdefault("mixtures", ())
        if isinstance(benchmark, RouterVariants | Pruning):
            given.pop("budget", None)  # Theirs is that of routers.
        own = {each.name for each in fields(benchmark)}
        return replace(benchmark, **{k: v for k, v in given.items() if k in own})


def experiments(o: Options) -> dict[str, Experiment]:
    """All experiments by name."""
    clip, whole, places = o.basketball(66), o.basketball(149), o.places("basketball")
    runs, dnerf = places["output_dir"], Scene(o.data / o.dnerf, "dnerf-data")
    found = {
        "reference": _reference(o),
        "smoke": _in_turns(
            "parity of the kernels, and one pass against separate passes",
            GpuTests(), SinglePass(results_dir=o.out / "synthetic"),
        ),
        "method": _method(o),
        "students": _students(o),
        "dnerf": _in_turns(
            "four experts and a mixture of one moving camera (MoE-GS, Table 10)",
            Mixtures(
                name="mixture", scene=dnerf, budget=1.0, **o.places(o.dnerf),
                methods=("moegs-4dgaussians-dnerf", "moegs-ed3dgs-dnerf", EX4D, STG),
                mixtures=("moegs-4dgaussians-dnerf,moegs-ed3dgs-dnerf",),
            ),
        ),
        "full": _in_turns("four experts at full recipes on all frames, and the published mixtures",
                          _whole_clip(o, "full")),
        "corrected": _in_turns("as full, with colour correction",
                               _whole_clip(o, "corrected", expert_options=(f"all: {COLORS}",))),
        "compact": _in_turns(
            "after corrected: compact runs to carry elsewhere, for speed.compact_run compare",
            *(Write(runs / "corrected" / method / "seed-0", o.out / f"{method}-compact")
              for method in (STG, FOURD)),
        ),
        "alone": _in_turns("as full, one training on each GPU at a time, so that times count",
                           _whole_clip(o, "alone", one_by_one=True)),
        "budgets": _budgets(o),
        "router": _router(o),
        "tf32": _in_turns(
            "4DGaussians with and without TF32 on validation cameras; times are no figures",
            Validation(
                name="validation_tf32", scene=o.basketball(66, DENSE), **places,
                val_cameras=(4, 12, 20, 26), budget=0.5, seeds=(0, 1, 2), at_once=3,
                variants=tuple(f"tf32-{on}: {FOURD} --pipeline.model.expert.tf32 {on}"
                               for on in (True, False)),
            ),
        ),
        "sharing": _sharing(o),
        "basketball": _in_turns("two experts at a fifth of the steps and their mixture",
                                Mixtures(name="mixture", scene=clip, **places)),
        "before_after": _in_turns(
            "after corrected: a training step of every method, frames of runs; nothing beside it",
            TrainingStep(
                name="step_and_frame", warmup=300, steps=300, block=30, profiled=0,
                command=tuple(step_command(m, whole) for m in (STG, FOURD, EX4D, ED3D)),
                runs=tuple(runs / "corrected" / name for name in BEFORE_AFTER),
                results_dir=o.out / "machine",
            ),
        ),
    }  # fmt: skip
    return {name: each.mapped(o.applied) for name, each in found.items()}


def _in_turns(about: str, *benchmarks: Benchmark) -> Experiment:
    return Experiment(about, (Step((benchmarks,)),))


def step_command(method: str, scene: Scene) -> str:
    """What would follow `ns-train`."""
    return f"{method} --data {scene.data} {scene.parser} {scene.parser_options}"


def _reference(o: Options) -> Experiment:
    """4DGaussians at its full recipe where the reference implementation was measured too."""
    peers = (
        Mixtures(
            name="peer", scene=Scene(o.data / "dnerf_mutant", "dnerf-data"), budget=1.0,
            methods=("moegs-4dgaussians-dnerf",), one_by_one=True, **o.places("dnerf_mutant"),
        ),
        Mixtures(
            name="peer", scene=o.basketball(74, DENSE), budget=1.0,
            methods=(FOURD,), one_by_one=True, **o.places("basketball"),
        ),
    )  # fmt: skip
    return _in_turns(
        "4DGaussians beside the reference; its times count, so nothing beside it", *peers
    )


def _method(o: Options) -> Experiment:
    """Experts and mixtures first, then everything that can be done to a mixture."""
    scene, places = o.basketball(66), o.places("basketball")
    runs = places["output_dir"] / "method"
    two, three = (runs / "moegs-router" / f"seed-0-ex4dgs-stg{more}" for more in ("", "-ed3dgs"))
    first = Mixtures(
        name="method", scene=scene, methods=(EX4D, STG, ED3D), router_budget=0.2, **places,
        mixtures=(f"{EX4D},{STG}", f"{EX4D},{STG},{ED3D}"),
    )  # fmt: skip
    on_one_gpu = (
        (
            Pruning(name="pruning_two", run=two, max_views=200, **places),
            Depth(runs=(three,), fuse_views=o.max_views or 200, results_dir=places["results_dir"]),
        ),
        (Pruning(name="pruning_three", run=three, max_views=200, **places),),
    )
    variants = RouterVariants(
        name="router_variants", scene=scene, budget=o.router_budget or 0.2, **places,
        experts=tuple(runs / method / "seed-0" for method in (EX4D, STG, ED3D)),
    )  # fmt: skip
    students = Distillation(
        name="distillation", scene=scene, teacher=three, methods=(STG, EX4D, ED3D), seeds=(0,),
        **places,
    )  # fmt: skip
    at_once = Step((*on_one_gpu, (variants,), (students,)), one_gpu_each=True)
    about = "experts, mixtures of two and three; then pruning, router variants, students, depth"
    return Experiment(about, (Step(((first,),)), at_once))


def _students(o: Options) -> Experiment:
    """Without the tint of single cameras, held-out views differ by far less between trainings."""
    families, places = (ED3D, EX4D, STG), o.places("basketball")
    name = "seed-0-ex4dgs-stg-ed3dgs"
    teacher = Mixtures(
        name="teacher", scene=o.basketball(66), methods=families, router_budget=0.2, **places,
        mixtures=(f"{EX4D},{STG},{ED3D}",), expert_options=(f"all: {COLORS}",),
    )  # fmt: skip
    students = Distillation(
        name="students", scene=o.basketball(66), methods=families, seeds=(0, 1), at_once=6,
        teacher=places["output_dir"] / "teacher" / "moegs-router" / name, train_options=COLORS,
        **places,
    )  # fmt: skip
    return _in_turns("a mixture with colour correction, and students that correct colours too",
                     teacher, students)  # fmt: skip


def _whole_clip(o: Options, name: str, **settings: Any) -> Mixtures:
    """The longest training first, so that two GPUs end together."""
    return Mixtures(
        name=name, scene=o.basketball(149), budget=1.0, methods=(ED3D, EX4D, STG, FOURD),
        mixtures=(
            f"{EX4D},{STG}", f"{STG},{FOURD}", f"{EX4D},{STG},{ED3D}",
            f"{EX4D},{STG},{ED3D},{FOURD}",
        ),
        **o.places("basketball"), **settings,
    )  # fmt: skip


def _budgets(o: Options) -> Experiment:
    """MoE-GS, Tables 6 and 12, and appendix B.1."""
    three = (ED3D, EX4D, FOURD)
    shared: dict[str, Any] = {"scene": o.basketball(66), "router_budget": 0.2}
    shared |= o.places("basketball")
    tables = (
        Mixtures(name="seeds", methods=three, seeds=(0, 1, 2, 3, 4), seeds_at_once=2, **shared),
        Mixtures(name="budget_10", methods=three, budget=0.1, **shared),
        Mixtures(name="joint", methods=(EX4D, STG), joint=True, **shared),
        Mixtures(name="budget_50", methods=three, budget=0.5, **shared),
    )
    about = "three experts at 10, 20 and 50 % of the steps, five seeds, joint against two stages"
    return Experiment(about, (Step(tuple((table,) for table in tables), at_once=3),))


def _router(o: Options) -> Experiment:
    """How long and at what rates the router is trained, on cameras that neither stage has seen."""
    shared: dict[str, Any] = {"scene": o.basketball(66), "val_cameras": (4, 12, 20, 26)}
    shared |= {"seeds": (0,), "at_once": 4} | o.places("basketball")
    experts = Validation(
        name="validation_router_experts", **shared,
        variants=(f"ex4dgs: {EX4D} {COLORS}", f"stg: {STG} {COLORS}"),
    )  # fmt: skip
    folder = shared["output_dir"] / experts.name
    over = f"--experts {folder / EX4D / 'ex4dgs'} {folder / STG / 'stg'}"
    decay = "--optimizers.router-weights.scheduler.max-steps 5000"
    routers = Validation(
        name="validation_router_training", **shared,
        variants=(
            f"published: moegs-router --budget 1 {over}",
            f"1500-steps: moegs-router --budget 0.3 {over}",
            f"500-steps: moegs-router --budget 0.1 {over}",
            f"decay-within-the-steps: moegs-router --budget 1 {decay} {over}",
            f"rates-of-Technicolor: moegs-router-technicolor --budget 1 {over}",
            "smooth-gates: moegs-router --budget 1 "
            f"--pipeline.model.recipe.weight-gate-change 0.05 {over}",
        ),
    )  # fmt: skip
    about = "steps and rates of the router on validation cameras, experts of full recipes"
    return _in_turns(about, experts, routers)


def _sharing(o: Options) -> Experiment:
    """Three trainings side by side on one GPU, as they are and as clients of MPS."""
    scene, steps = o.basketball(74), []
    for name, around in (("plain", nullcontext), ("mps", mps)):
        tables = (
            TrainingStep(
                name=f"sharing_{name}_{method}", warmup=400, steps=1500, profiled=0,
                results_dir=o.out / "machine",
                command=(step_command(f"moegs-{method}", scene),),
            )
            for method in ("stg", "ex4dgs", "ed3dgs")
        )  # fmt: skip
        steps.append(Step(tuple((table,) for table in tables), around=around))
    about = "training steps side by side with and without MPS; its times count, nothing beside it"
    return Experiment(about, tuple(steps))


@contextmanager
def mps() -> Iterator[None]:
    """Processes that are started meanwhile are clients of NVIDIA's MPS.

    Raises:
        RuntimeError: it does not start.
    """
    pipes = tempfile.mkdtemp()
    names = ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY")
    os.environ.update(dict.fromkeys(names, pipes))
    control = "nvidia-cuda-mps-control"
    try:
        if not shutil.which(control) or subprocess.run([control, "-d"], check=False).returncode:
            raise RuntimeError(
                "Expected NVIDIA's MPS to start, but it did not; its half of the tables is missing."
            )
        yield
        subprocess.run([control], input="quit\n", text=True, check=False)
    finally:
        for name in names:
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
        process = multiprocessing.get_context("spawn").Process(
            target=logged_main, args=(benchmark, log)
        )
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


def main(options: Options) -> int:
    """List experiments, or run those that are named; the exit status."""
    known = experiments(options)
    if not options.names:
        for name, experiment in known.items():
            print(f"{name:<13} {experiment.about}")
        return 0
    groups = [group.split("+") for group in options.names]
    if unknown := [name for group in groups for name in group if name not in known]:
        wrong = f"Expected experiments out of {', '.join(known)}; got {', '.join(unknown)}."
        print(wrong, file=sys.stderr)
        return 2
    runner, is_well = Runner(options.out), True
    for group in groups:
        with ThreadPoolExecutor(len(group)) as pool:
            is_well &= all(list(pool.map(lambda name: runner.run(name, known[name]), group)))
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, description=__doc__)))
