"""Every table that needs a CUDA machine, by name; without a name, the list of them.

    python -m benchmarks.experiments reference method+smoke --data DATA --out outputs/tables

Experiments run one after the other, those joined by + at once, on all GPUs there are. Tables go to
OUT/<scene>, row by row, and the log of each experiment to OUT/NAME.log. Finished runs are found
again under RUNS/<scene>, so that the same command goes on after an interruption. Options such as
--budget take the place of what the experiment has.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import tyro

from benchmarks.options import COLORS, ED3D, EX4D, FOURD, FREE, STG, TRACKED, VAL_CAMERAS, Options
from benchmarks.quality.depth_consistency import Depth
from benchmarks.quality.distillation import Distillation
from benchmarks.quality.from_videos import FromVideos
from benchmarks.quality.growth import growth_experiments
from benchmarks.quality.mixtures import Mixtures
from benchmarks.quality.pruning import Pruning
from benchmarks.quality.router_variants import RouterVariants
from benchmarks.quality.validation import Validation
from benchmarks.runner import Benchmark, Experiment, Runner, Step, mps
from benchmarks.speed.compact_run import Write
from benchmarks.speed.single_pass import SinglePass
from benchmarks.speed.training_step import TrainingStep
from moegs_ns.launch.jobs import run_module
from moegs_ns.models.stacking import WITHOUT

BEFORE_AFTER = (f"{STG}/seed-0", f"{FOURD}/seed-0", "moegs-router/seed-0-ex4dgs-stg")
"""Runs of `corrected` whose frames are timed."""
GATES = "--pipeline.model.gates"
UNCORRECTED = " ".join(WITHOUT)
DENSE = "--points-file init_t0_22k.npz --min-points 10"


@dataclass(frozen=True)
class GpuTests:
    """Parity of the kernels: the tests that need a GPU."""

    def main(self) -> None:
        """Run them; the log has the result."""
        run_module(["pytest", "-q", "-m", "gpu", "tests"])


def experiments(o: Options) -> dict[str, Experiment]:
    """All experiments by name."""
    clip = o.basketball(66)
    runs = clip["output_dir"] / "corrected"
    found = {
        "reference": _in_turns(
            "4DGaussians beside the reference; its times count, so nothing beside it",
            Mixtures(name="peer", budget=1.0, one_by_one=True, **o.monocular("dnerf_mutant"),
                     methods=("moegs-4dgaussians-dnerf",)),
            Mixtures(name="peer", budget=1.0, one_by_one=True, **o.basketball(74, DENSE),
                     methods=(FOURD,)),
        ),
        "smoke": _in_turns(
            "parity of the kernels, and one pass against separate passes",
            GpuTests(), SinglePass(results_dir=o.out / "synthetic"),
        ),
        "method": _method(o),
        "students": _students(o),
        "dnerf": _in_turns(
            "four experts and a mixture of one moving camera (MoE-GS, Table 10)",
            Mixtures(
                name="mixture", budget=1.0, **o.monocular(o.dnerf),
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
            *(Write(runs / method / "seed-0", o.out / f"{method}-compact")
              for method in (STG, FOURD)),
        ),
        "alone": _in_turns("as full, one training on each GPU at a time, so that times count",
                           _whole_clip(o, "alone", one_by_one=True)),
        "budgets": _budgets(o),
        "router": _router(o),
        "honest": _honest(o),
        "stacking_room": _stacking(o.room()),
        "stacking_basketball": _stacking(o.basketball(149), COLORS),
        **growth_experiments(o),
        "fast_motion": _fast_motion(o),
        "tf32": _in_turns(
            "4DGaussians with and without TF32 on validation cameras; times are no figures",
            Validation(
                name="validation_tf32", **o.basketball(66, DENSE), val_cameras=VAL_CAMERAS,
                budget=0.5, seeds=(0, 1, 2), at_once=3,
                variants=tuple(f"tf32-{on}: {FOURD} --pipeline.model.expert.tf32 {on}"
                               for on in (True, False)),
            ),
        ),
        "sharing": _sharing(o),
        "basketball": _in_turns("two experts at a fifth of the steps and their mixture",
                                Mixtures(name="mixture", **clip)),
        "before_after": _before_after(o),
        "from_videos": _from_videos(o),
    }  # fmt: skip
    return {name: each.mapped(o.applied) for name, each in found.items()}


def _fast_motion(o: Options) -> Experiment:
    """The families for fast motion beside Spacetime Gaussians, and mixtures, at full recipes."""
    shared: dict[str, Any] = {
        "name": "fast_motion", "budget": 1.0, "methods": (FREE, TRACKED, STG),
        "mixtures": (f"{FREE},{STG}", f"{TRACKED},{STG}", f"{FREE},{TRACKED},{STG}"),
    }  # fmt: skip
    return _in_turns(
        "FreeTimeGS, Dynamic3DGaussians and Spacetime Gaussians, and their mixtures, on two scenes",
        Mixtures(**o.basketball(149), **shared, expert_options=(f"all: {COLORS}",)),
        Mixtures(**o.room(), **shared),
    )


def _from_videos(o: Options) -> Experiment:
    """What a calibration from the videos alone costs."""
    about = "videos without calibration to an expert, beside the given calibration"
    settings = o.basketball(149)
    return _in_turns(about, FromVideos(work=o.runs / "from_videos", budget=0.2, **settings))


def _in_turns(about: str, *benchmarks: Benchmark) -> Experiment:
    return Experiment(about, (Step((benchmarks,)),))


def _at_once(*benchmarks: Benchmark, **settings: Any) -> Step:
    return Step(tuple((each,) for each in benchmarks), **settings)


def _method(o: Options) -> Experiment:
    """Experts and mixtures first, then everything that can be done to a mixture."""
    clip, folders, methods = o.basketball(66), o.folders("basketball"), (EX4D, STG, ED3D)
    runs = clip["output_dir"] / "method"
    two, three = (runs / "moegs-router" / f"seed-0-ex4dgs-stg{more}" for more in ("", "-ed3dgs"))
    first = Mixtures(
        name="method", methods=methods, router_budget=0.2, **clip,
        mixtures=(f"{EX4D},{STG}", f"{EX4D},{STG},{ED3D}"),
    )  # fmt: skip
    chains = (
        (
            Pruning(name="pruning_two", run=two, max_views=200, **folders),
            Depth(runs=(three,), fuse_views=o.max_views or 200, results_dir=clip["results_dir"]),
        ),
        (Pruning(name="pruning_three", run=three, max_views=200, **folders),),
        (
            RouterVariants(
                name="router_variants", budget=o.router_budget or 0.2, **clip,
                experts=tuple(runs / method / "seed-0" for method in methods),
            ),
        ),
        (
            Distillation(
                name="distillation", teacher=three, methods=(STG, EX4D, ED3D), seeds=(0,), **clip
            ),
        ),
    )  # fmt: skip
    about = "experts, mixtures of two and three; then pruning, router variants, students, depth"
    return Experiment(about, (Step(((first,),)), Step(chains, one_gpu_each=True)))


def _students(o: Options) -> Experiment:
    """Without the tint of single cameras, held-out views differ by far less between trainings."""
    shared: dict[str, Any] = o.basketball(66) | {"methods": (ED3D, EX4D, STG)}
    teacher = shared["output_dir"] / "teacher" / "moegs-router" / "seed-0-ex4dgs-stg-ed3dgs"
    return _in_turns(
        "a mixture with colour correction, and students that correct colours too",
        Mixtures(
            name="teacher", router_budget=0.2, **shared,
            mixtures=(f"{EX4D},{STG},{ED3D}",), expert_options=(f"all: {COLORS}",),
        ),
        Distillation(
            name="students", seeds=(0, 1), at_once=6, teacher=teacher, train_options=COLORS,
            **shared,
        ),
    )  # fmt: skip


def _whole_clip(o: Options, name: str, **settings: Any) -> Mixtures:
    """The longest training first, so that two GPUs end together."""
    return Mixtures(
        name=name, budget=1.0, methods=(ED3D, EX4D, STG, FOURD), **o.basketball(149), **settings,
        mixtures=(
            f"{EX4D},{STG}", f"{STG},{FOURD}", f"{EX4D},{STG},{ED3D}",
            f"{EX4D},{STG},{ED3D},{FOURD}",
        ),
    )  # fmt: skip


def _budgets(o: Options) -> Experiment:
    """MoE-GS, Tables 6 and 12, and appendix B.1."""
    three = (ED3D, EX4D, FOURD)
    shared: dict[str, Any] = o.basketball(66) | {"router_budget": 0.2}
    step = _at_once(
        Mixtures(name="seeds", methods=three, seeds=(0, 1, 2, 3, 4), seeds_at_once=2, **shared),
        Mixtures(name="budget_10", methods=three, budget=0.1, **shared),
        Mixtures(name="joint", methods=(EX4D, STG), joint=True, **shared),
        Mixtures(name="budget_50", methods=three, budget=0.5, **shared),
        at_once=3,
    )
    about = "three experts at 10, 20 and 50 % of the steps, five seeds, joint against two stages"
    return Experiment(about, (step,))


def _router(o: Options) -> Experiment:
    """How long and at what rates the router is trained, on cameras that neither stage has seen."""
    shared: dict[str, Any] = o.basketball(66)
    shared |= {"val_cameras": VAL_CAMERAS, "seeds": (0,), "at_once": 4}
    experts = Validation(
        name="validation_router_experts", **shared,
        variants=(f"ex4dgs: {EX4D} {COLORS}", f"stg: {STG} {COLORS}"),
    )  # fmt: skip
    folder = shared["output_dir"] / experts.name
    over = f"{UNCORRECTED} --experts {folder / EX4D / 'ex4dgs'} {folder / STG / 'stg'}"
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


def _honest(o: Options) -> Experiment:
    """Gates that learn before the experts' finish, beside ordinary ones over the same experts, and
    over experts that saw all cameras from the start. To choose among them, keep cameras back with
    --train-options="--val-cameras ..." and another --out and --runs."""
    methods, pairs = (ED3D, EX4D, STG, FOURD), (f"{STG},{FOURD}", f"{EX4D},{STG}")
    tables: list[Benchmark] = []
    for scene, more in ((o.room(), ""), (o.basketball(49), COLORS)):
        shared: dict[str, Any] = {"budget": 0.25, "router_budget": 0.4, "methods": methods} | scene
        runs = shared["output_dir"] / "honest"
        left_out = "--honest-cameras auto"
        tables += [
            Mixtures(
                name="honest", mixtures=pairs, expert_options=(f"all: {more} {left_out}",),
                router_options=left_out, **shared,
            ),
            Mixtures(
                name="all_cameras", mixtures=pairs, expert_options=(f"all: {more}",), **shared
            ),
            RouterVariants(
                name="honest_gates", budget=0.4, fuse=False, at_once=3, **scene,
                experts=tuple(runs / method / "seed-0" for method in (STG, FOURD)),
                variants=tuple(
                    f"{honest}{smooth}: moegs-router {first} {second}"
                    for honest, first in (("ordinary", UNCORRECTED), ("honest", left_out))
                    for smooth, second in (
                        ("", ""), (", a quarter equal", f"{GATES}.uniform 0.25"),
                        (", blurred", f"{GATES}.blur 0.02"),
                    )
                ),
            ),
        ]  # fmt: skip
    return _in_turns("experts that leave cameras out until their finish, and their gates", *tables)


def _stacking(scene: dict[str, Any], more: str = "") -> Experiment:
    """Routers over the same four experts, with gates corrected by what copies show on cameras that
    they left out, and without. Choices as for `honest`."""
    methods, experts = (ED3D, EX4D, STG, FOURD), scene["output_dir"] / "stacking_experts"
    tables: list[Benchmark] = [
        Mixtures(name=experts.name, budget=1.0, methods=methods, mixtures=(), **scene,
                 expert_options=(f"all: {more}",))
    ]  # fmt: skip
    tables += [
        RouterVariants(
            name=f"stacking_{len(mixed)}", fuse=False, at_once=3, **scene,
            experts=tuple(experts / method / "seed-0" for method in mixed),
            variants=(
                f"ordinary: moegs-router {UNCORRECTED}", "stacked: moegs-router",
                f"stacked, blurred: moegs-router {GATES}.blur 0.02",
            ),
        )
        for mixed in (methods, (EX4D, STG, ED3D), (EX4D, STG))
    ]  # fmt: skip
    return _in_turns("gates corrected by copies that left cameras out, for N = 2, 3 and 4", *tables)


def _training_steps(
    o: Options, name: str, last_frame: int, *methods: str, **settings: Any
) -> TrainingStep:
    """Training steps of methods on the PanopticSports scene."""
    scene = o.basketball(last_frame)["scene"]
    data = f"--data {scene.data} {scene.parser} {scene.parser_options}"
    commands = tuple(f"{method} {data}" for method in methods)
    return TrainingStep(
        name=name, results_dir=o.out / "machine", command=commands, profiled=0, **settings
    )


def _before_after(o: Options) -> Experiment:
    runs = tuple(o.runs / "basketball" / "corrected" / name for name in BEFORE_AFTER)
    return _in_turns(
        "after corrected: a training step of every method, frames of runs; nothing beside it",
        _training_steps(o, "step_and_frame", 149, STG, FOURD, EX4D, ED3D, runs=runs,
                        warmup=300, steps=300, block=30),
    )  # fmt: skip


def _sharing(o: Options) -> Experiment:
    """Three trainings side by side on one GPU, as they are and as clients of MPS."""
    steps = (
        _at_once(
            *(
                _training_steps(o, f"sharing_{name}_{method.removeprefix('moegs-')}", 74, method,
                                warmup=400, steps=1500)
                for method in (STG, EX4D, ED3D)
            ),
            around=around,
        )
        for name, around in (("plain", nullcontext), ("mps", mps))
    )  # fmt: skip
    about = "training steps side by side with and without MPS; its times count, nothing beside it"
    return Experiment(about, tuple(steps))


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
