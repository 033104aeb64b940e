"""Every named experiment, without a GPU: all that it would train and score is understood.

A misspelt option would otherwise be noticed on a rented machine.
"""

import contextlib
import shlex
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import tyro
from command_lines import parse

from benchmarks import experiments as command_line
from benchmarks import runner, trainings
from benchmarks.experiments import Options, experiments
from benchmarks.quality import mixtures
from benchmarks.quality.depth_consistency import Depth
from benchmarks.quality.distillation import Distillation
from benchmarks.quality.mixtures import Mixtures
from benchmarks.quality.pruning import Pruning
from benchmarks.quality.router_variants import RouterVariants
from benchmarks.quality.validation import Validation
from benchmarks.runner import Benchmark, Experiment, Runner, Step
from benchmarks.speed.compact_run import Write
from benchmarks.speed.embedding_smoothness import EmbeddingSmoothness
from benchmarks.speed.single_pass import SinglePass
from benchmarks.speed.training_step import TrainingStep
from benchmarks.tables import command
from benchmarks.trainings import Scene
from moegs_ns.launch import jobs
from moegs_ns.launch.executors import LocalExecutor
from moegs_ns.launch.jobs import TrainingJob

STAGES = [
    "reference",
    "smoke",
    "method",
    "students",
    "dnerf",
    "full",
    "corrected",
    "compact",
    "alone",
    "budgets",
    "router",
    "honest",
    "tf32",
    "sharing",
]
OPTIONS = Options(data=Path("/scenes"), out=Path("/out"), runs=Path("/runs"))
KNOWN = experiments(OPTIONS)


def jobs_of(benchmark: Benchmark) -> list[TrainingJob]:
    """What a benchmark trains."""
    if isinstance(benchmark, Mixtures):
        experts = benchmark.experts(seed=0)
        return [*experts.values(), *(router for router, _ in benchmark.routers(0, experts))]
    if isinstance(benchmark, Distillation):
        return [benchmark.student(*key) for key in benchmark.settings()]
    if isinstance(benchmark, Validation):
        return list(benchmark.jobs().values())
    if isinstance(benchmark, RouterVariants):
        return [benchmark.variant(text, 0) for text in benchmark.variants]
    return []


@pytest.mark.parametrize("name", KNOWN)
def test_every_training_of_every_experiment_is_understood(name: str):
    """Also the options that are passed on inside a string."""
    for benchmark in KNOWN[name].benchmarks():
        for job in jobs_of(benchmark):
            config = parse(*job.args())
            assert config.data.is_relative_to("/scenes")
            assert job.folder.is_relative_to("/runs")
        if isinstance(benchmark, TrainingStep):
            for line in benchmark.command:
                parse(*shlex.split(line))


def test_every_stage_and_every_kind_of_benchmark_is_there():
    assert set(STAGES) <= set(KNOWN)
    kinds = {type(each) for experiment in KNOWN.values() for each in experiment.benchmarks()}
    assert kinds >= {
        Mixtures, Distillation, Validation, RouterVariants, Pruning, Depth, Write, SinglePass,
        TrainingStep,
    }  # fmt: skip


def test_no_two_tables_are_written_to_one_file():
    tables = [
        cast(Any, each).results_dir / cast(Any, each).name
        for experiment in KNOWN.values()
        for each in experiment.benchmarks()
        if hasattr(each, "results_dir")
    ]
    assert len(set(tables)) == len(tables)


def test_settings_of_the_published_tables():
    tables = {
        each.name: each
        for experiment in KNOWN.values()
        for each in experiment.benchmarks()
        if isinstance(each, Mixtures)
    }
    assert [name for name, each in tables.items() if each.one_by_one] == ["peer", "alone"]
    assert tables["joint"].joint and not tables["method"].joint
    assert {name: tables[name].budget for name in ("seeds", "budget_10", "budget_50", "full")} == {
        "seeds": 0.2, "budget_10": 0.1, "budget_50": 0.5, "full": 1.0,
    }  # fmt: skip
    assert tables["seeds"].seeds == (0, 1, 2, 3, 4)
    assert tables["full"].scene.parser_options == "--frames 0 149"
    assert tables["corrected"].expert_options == ("all: --pipeline.model.color-correction True",)


def test_options_take_the_place_of_settings():
    changed = experiments(replace(OPTIONS, budget=0.01, seeds=(3,), frames=(0, 5), max_views=7))
    for each in changed["method"].benchmarks():
        if isinstance(each, Mixtures | Distillation):
            assert (each.budget, each.seeds) == (0.01, (3,))
            assert each.scene.parser_options == "--frames 0 5"
        if isinstance(each, RouterVariants):
            assert each.budget == 0.2  # that of routers
        if isinstance(each, Pruning):
            assert each.max_views == 7


def test_the_methods_that_are_named_make_one_mixture():
    (alone,) = experiments(replace(OPTIONS, methods=("moegs-ed3dgs",)))["alone"].benchmarks()
    assert isinstance(alone, Mixtures) and alone.one_by_one
    assert list(alone.experts(0)) == ["moegs-ed3dgs"]
    assert not alone.routers(0, alone.experts(0))


@pytest.mark.parametrize(
    ("name", "num_gpus", "at_once"),
    [("alone", 1, [1, 1]), ("alone", 2, [1, 1]), ("full", 1, [3, 1]), ("full", 2, [2, 1])],
)
def test_a_gpu_has_one_training_at_a_time_where_times_count(
    monkeypatch, name: str, num_gpus: int, at_once: list[int]
):
    """The methods that are named, then their mixture."""
    stg, ed3dgs, ex4dgs = methods = ("moegs-stg", "moegs-ed3dgs", "moegs-ex4dgs")
    (table,) = experiments(replace(OPTIONS, methods=methods))[name].benchmarks()
    assert isinstance(table, Mixtures)
    ((mixed, _),) = table.routers(0, table.experts(0))
    assert mixed.folder.name == "seed-0-stg-ed3dgs-ex4dgs"
    started: list[tuple[list[str], int]] = []
    finished: set[Path] = set()

    def train(executor: LocalExecutor, runs):
        started.append(([run.method for run in runs], executor.at_once))
        finished.update(run.folder for run in runs)

    def progress(folder: Path) -> jobs.Progress:
        return jobs.Progress(is_finished=folder in finished)

    monkeypatch.setattr(LocalExecutor, "train_all", train)
    monkeypatch.setattr(mixtures, "progress_of", progress)
    monkeypatch.setattr(trainings, "visible_devices", lambda: list("012")[:num_gpus])
    for stub in ("print_scores", "save_sheet", "gain_rows", "Pair"):
        monkeypatch.setattr(mixtures, stub, lambda *_: None)
    monkeypatch.setattr(Mixtures, "write", lambda *_: None)
    monkeypatch.setattr(
        Mixtures, "score_all", lambda _, runs, scores: scores.update({r.folder: 0 for r in runs})
    )
    table.main()
    assert started == [([stg, ed3dgs, ex4dgs], at_once[0]), (["moegs-router"], at_once[1])]


class TestScoresOverSeveralGpus:
    def test_each_gpu_has_a_run_and_the_table_their_order(self, tmp_path: Path, monkeypatch):
        table = Mixtures(name="table", scene=Scene(Path("s"), "n3v-data"), output_dir=tmp_path)
        first, second = table.experts(seed=0).values()
        both_began, indices = threading.Barrier(2, timeout=30), {}
        second_ended = threading.Event()

        def scored(folder: Path, index: int) -> dict:
            indices[folder] = index
            both_began.wait()
            if folder == second.folder:
                second_ended.set()
            assert second_ended.wait(30)
            return {"method": folder.parent.name}

        tables = []
        monkeypatch.setattr(jobs, "visible_devices", lambda: ["5", "7"])
        monkeypatch.setattr(mixtures, "report", scored)
        monkeypatch.setattr(mixtures, "Score", lambda method: f"score of {method}")
        monkeypatch.setattr(mixtures, "asdict", lambda score: score)
        monkeypatch.setattr(Mixtures, "write", lambda _, rows: tables.append(rows))
        scores: Any = {Path("before"): "score of an earlier seed"}
        table.score_all([first, second], scores)
        assert sorted(indices.values()) == [0, 1]
        assert list(scores) == [Path("before"), first.folder, second.folder]
        assert tables[-1] == [
            "score of an earlier seed", "score of moegs-stg", "score of moegs-4dgaussians",
        ]  # fmt: skip


def test_processes_log_beside_the_tables_and_a_failure_stops_no_other(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    failing = Depth(runs=(tmp_path / "nowhere",), results_dir=tmp_path)
    first, last = (
        EmbeddingSmoothness(name=name, counts=(99,), repeats=1, device="cpu", results_dir=tmp_path)
        for name in ("first", "last")
    )
    experiment = Experiment("", (Step(((failing, first),)), Step(((last,),))))
    assert not Runner(tmp_path).run("table", experiment)
    log = (tmp_path / "table.log").read_text()
    assert "Expected the config.yml" in log and log.count("| cpu | 99 |") == 2
    assert (tmp_path / "first.md").is_file() and (tmp_path / "last.md").is_file()


def test_work_that_is_bound_to_a_gpu_gets_one_that_may_be_used(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(runner, "visible_devices", lambda: ["5", "7"])
    given: dict[str, str] = {}
    monkeypatch.setattr(
        Runner, "run_process", lambda _, each, gpus, log: given.update({each.name: gpus})
    )
    assert Runner(tmp_path).run("method", KNOWN["method"])
    assert (given["pruning_two"], given["depth_consistency"], given["pruning_three"]) == (
        "5", "5", "7",
    )  # fmt: skip
    assert given["method"] == given["distillation"] == "5,7"


def test_without_mps_its_half_is_told_to_be_missing(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    ran = []
    monkeypatch.setattr(Runner, "run_process", lambda _, each, gpus, log: ran.append(each.name))
    assert not Runner(tmp_path).run("sharing", KNOWN["sharing"])
    assert ran == [f"sharing_plain_{name}" for name in ("stg", "ex4dgs", "ed3dgs")]
    assert "Expected NVIDIA's MPS to start, but" in capsys.readouterr().out


def test_experiments_are_listed_and_none_is_run(capsys):
    assert command_line.main(OPTIONS) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == list(KNOWN)


def test_an_unknown_experiment_is_refused_before_any_is_run(monkeypatch, capsys):
    monkeypatch.setattr(Runner, "run", lambda *_: pytest.fail("ran"))
    assert command_line.main(replace(OPTIONS, names=("reference", "method+everything"))) == 2
    assert "got everything." in capsys.readouterr().err


def test_a_table_tells_the_command_as_it_is_typed(monkeypatch):
    script = str(Path(command_line.__file__))
    monkeypatch.setattr(sys, "argv", [script, "method", "--budget", "0.1"])
    assert command() == "python -m benchmarks.experiments method --budget 0.1"


@pytest.mark.parametrize("kind", [Mixtures, Distillation, Validation, RouterVariants, Pruning])
def test_parts_have_their_own_command(kind: type, capsys):
    with contextlib.suppress(SystemExit):
        tyro.cli(kind, args=["--help"])
    assert "--results-dir" in capsys.readouterr().out


@pytest.mark.parametrize(("mixtures", "count"), [(None, 1), ((), 0), (("moegs-stg",), 1)])
def test_experts_alone_train_no_router(mixtures: tuple[str, ...] | None, count: int):
    """Where routers are trained by another table, four experts' one would be trained in vain."""
    (scene,) = [each for each in KNOWN["stacking_room"].benchmarks() if isinstance(each, Mixtures)]
    assert scene.mixtures == ()
    benchmark = replace(scene, mixtures=mixtures)
    assert len(benchmark.routers(0, benchmark.experts(0))) == count
