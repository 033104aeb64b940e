"""The scripts for GPUs, with a stand-in for Python: every command that they give is understood.

A misspelt option would otherwise be noticed on a rented machine.
"""

import json
import shlex
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import compact_run
import depth_consistency
import distillation
import mixture
import pruning
import pytest
import router_variants
import single_pass
import training_step
import tyro
import validation
from command_lines import parse
from tiny import TinyRuns

from moegs_ns.launch import jobs as trainings
from moegs_ns.launch.jobs import TrainingJob
from moegs_ns.reports.scores import score_run
from moegs_ns.runs.checkpoint import open_run
from moegs_ns.scripts.main import Command

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
OPTIONS = {
    "compact_run.py": compact_run.Command,
    "depth_consistency.py": depth_consistency.Depth,
    "distillation.py": distillation.Distillation,
    "mixture.py": mixture.Mixture,
    "pruning.py": pruning.Pruning,
    "router_variants.py": router_variants.RouterVariants,
    "single_pass.py": single_pass.Options,
    "training_step.py": training_step.TrainingStep,
    "validation.py": validation.Validation,
}
STAND_IN = f"""#!{sys.executable}
import json, os, sys
if "-c" in sys.argv:
    print("5 7")  # the GPUs that may be used
else:
    with open(os.environ["CALLS"], "a") as calls:
        calls.write(json.dumps(sys.argv[1:]) + "\\n")
    with open(os.environ["CALLS"] + ".gpus", "a") as gpus:
        gpus.write(os.environ.get("CUDA_VISIBLE_DEVICES", "any") + "\\n")
"""


def calls_of(script: str, folder: Path, *arguments: str, **variables: str) -> list[list[str]]:
    """What a script would run, one command line after the other."""
    folder.mkdir(exist_ok=True)
    stand_in = folder / "python3"
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)
    environment = {
        "PATH": f"{folder}:/usr/local/bin:/usr/bin:/bin", "CALLS": str(folder / "calls"),
        "OUT": str(folder / "out"), "RUNS": str(folder / "runs"), "MOEGS_DATA": "/scenes",
        **variables,
    }  # fmt: skip
    command = ["bash", str(BENCHMARKS / script), *arguments]
    subprocess.run(command, env=environment, cwd=BENCHMARKS.parent, check=True, timeout=60)
    return [json.loads(line) for line in (folder / "calls").read_text().splitlines()]


def understood(call: list[str]) -> object:
    """What the called program makes of its options; an error if it does not know them."""
    words = [word for word in call if word not in ("-W", "ignore")]
    if words[:2] == ["-m", "nerfstudio.scripts.train"]:
        return parse(*words[2:])
    if words[:2] == ["-m", "moegs_ns.scripts.main"]:
        return tyro.cli(Command, args=words[2:])
    if words[:2] == ["-m", "pytest"]:
        return words
    return tyro.cli(OPTIONS[Path(words[0]).name], args=words[1:])


def test_every_command_of_every_table_is_understood(tmp_path: Path):
    found = [understood(call) for call in calls_of("gpu_tables.sh", tmp_path)]
    mixtures = {each.name: each for each in found if isinstance(each, mixture.Mixture)}
    assert set(mixtures) == {
        "method", "students", "dnerf", "basketball_full", "basketball_corrected",
        "basketball_seeds", "basketball_budget_10", "basketball_budget_50", "basketball_joint",
        "basketball_alone",
    }  # fmt: skip
    assert [name for name, each in mixtures.items() if each.one_by_one] == ["basketball_alone"]
    kinds = {type(each) for each in found}
    assert set(OPTIONS.values()) - {compact_run.Command} | {compact_run.Write} <= kinds
    assert mixtures["basketball_joint"].joint and not mixtures["method"].joint


def test_every_training_of_every_mixture_is_understood(tmp_path: Path):
    """Also the options that are passed on inside a string."""
    calls = calls_of(
        "gpu_tables.sh", tmp_path, "dnerf+full+corrected", "alone", "budgets", "method"
    )
    for each in map(understood, calls):
        if isinstance(each, mixture.Mixture):
            experts = each.experts(seed=0)
            for training in experts.values():
                parse(*training.args())
            for training, _ in each.routers(0, experts):
                parse(*training.args())


@pytest.mark.parametrize(
    ("stage", "num_gpus", "at_once"),
    [("alone", 1, [1, 1]), ("alone", 2, [1, 1]), ("full", 1, [3, 1]), ("full", 2, [2, 1])],
)
def test_a_gpu_has_one_training_at_a_time_where_times_count(
    tmp_path: Path, monkeypatch, stage: str, num_gpus: int, at_once: list[int]
):
    """The methods that are named, then their mixture."""
    stg, ed3dgs, ex4dgs = methods = ["moegs-stg", "moegs-ed3dgs", "moegs-ex4dgs"]
    (call,) = calls_of("gpu_tables.sh", tmp_path, stage, METHODS=" ".join(methods))
    asked = understood(call)
    ((mixed, _),) = asked.routers(0, asked.experts(0))
    assert mixed.folder.name == "seed-0-stg-ed3dgs-ex4dgs"
    started: list[tuple[list[str], int]] = []
    finished: set[Path] = set()

    def train(runs, at_once):
        started.append(([run.method for run in runs], at_once))
        finished.update(run.folder for run in runs)

    def progress(folder: Path) -> trainings.Progress:
        return trainings.Progress(is_finished=folder in finished)

    monkeypatch.setattr(mixture, "train_side_by_side", train)
    monkeypatch.setattr(mixture, "progress_of", progress)
    monkeypatch.setattr(mixture, "visible_devices", lambda: list("012")[:num_gpus])
    for name in ("print_scores", "save_sheet", "gain_rows", "Pair"):
        monkeypatch.setattr(mixture, name, lambda *_: None)
    monkeypatch.setattr(mixture.Mixture, "write", lambda *_: None)
    monkeypatch.setattr(
        mixture.Mixture,
        "score_all",
        lambda _, runs, scores: scores.update({run.folder: 0 for run in runs}),
    )
    asked.main()
    assert started == [([stg, ed3dgs, ex4dgs], at_once[0]), (["moegs-router"], at_once[1])]


def test_the_table_of_times_holds_the_only_method_that_is_named(tmp_path: Path):
    (call,) = calls_of("gpu_tables.sh", tmp_path, "alone", METHODS="moegs-ed3dgs")
    single = understood(call)
    assert single.one_by_one and list(single.experts(0)) == ["moegs-ed3dgs"]
    assert not single.routers(0, single.experts(0))


class TestScoresOverSeveralGpus:
    def runs(self, folder: Path) -> list[TrainingJob]:
        asked = mixture.Mixture("table", Path("scene"), "n3v-data", output_dir=folder)
        return list(asked.experts(seed=0).values())

    def test_each_gpu_has_a_run_and_the_table_their_order(self, tmp_path, monkeypatch):
        first, second = self.runs(tmp_path)
        both_began, places = threading.Barrier(2, timeout=30), {}
        second_ended = threading.Event()

        def scored(folder: Path, place: int) -> str:
            places[folder] = place
            both_began.wait()
            if folder == second.folder:
                second_ended.set()
            assert second_ended.wait(30)
            return f"score of {folder.parent.name}"

        for module in (mixture, trainings):
            monkeypatch.setattr(module, "visible_devices", lambda: ["5", "7"])
        monkeypatch.setattr(mixture, "scored_by_command", scored)
        monkeypatch.setattr(mixture, "asdict", lambda score: score)
        tables = []
        monkeypatch.setattr(mixture.Mixture, "write", lambda *words: tables.append(words[-1]))
        scores = {Path("before"): "score of an earlier seed"}
        asked = mixture.Mixture("table", Path("scene"), "n3v-data", output_dir=tmp_path)
        asked.score_all([first, second], scores)
        assert sorted(places.values()) == [0, 1]
        assert list(scores) == [Path("before"), first.folder, second.folder]
        assert tables[-1] == [
            "score of an earlier seed", "score of moegs-stg", "score of moegs-4dgaussians",
        ]  # fmt: skip

    def test_a_command_scores_a_run_as_this_process_does(self, tiny_runs: TinyRuns):
        folder = tiny_runs.config("moegs-stg").parent
        apart, here = mixture.scored_by_command(folder, 0), score_run(open_run(folder))
        assert replace(apart, fps=0.0) == replace(here, fps=0.0) and apart.fps > 0.0

    def test_a_failure_names_the_log(self, tmp_path):
        (tmp_path / "run").mkdir()
        with pytest.raises(RuntimeError, match=r"score\.log"):
            mixture.scored_by_command(tmp_path / "run", 0)
        assert "config.yml" in (tmp_path / "run" / "score.log").read_text()


def test_every_student_is_understood(tmp_path: Path):
    calls = calls_of("gpu_tables.sh", tmp_path, "method", "students")
    found = [each for each in map(understood, calls) if isinstance(each, distillation.Distillation)]
    assert len(found) == 2
    for each in found:
        for method in each.methods:
            for supervision in each.supervisions:
                parse(*each.words(method, supervision, seed=0)[1:])


def test_every_training_of_every_comparison_is_understood(tmp_path: Path):
    found = list(map(understood, calls_of("gpu_tables.sh", tmp_path, "tf32", "router")))
    names = ["validation_tf32", "validation_router_experts", "validation_router_training"]
    assert [each.name for each in found] == names
    for each in found:
        for place in range(len(each.variants)):
            parse(*each.words(place)[1:])


def test_every_shared_training_is_understood(tmp_path: Path):
    """Three as they are, then the same three as clients of MPS."""
    control = tmp_path / "nvidia-cuda-mps-control"
    control.write_text("#!/bin/sh\n")
    control.chmod(0o755)
    found = list(map(understood, calls_of("gpu_sharing.sh", tmp_path)))
    methods = ("stg", "ex4dgs", "ed3dgs")
    assert {each.name for each in found[:3]} == {f"sharing_plain_{name}" for name in methods}
    assert {each.name for each in found[3:]} == {f"sharing_mps_{name}" for name in methods}
    for each in found:
        parse(*shlex.split(each.command[0]))


def test_work_that_is_bound_to_a_gpu_gets_one_that_may_be_used(tmp_path: Path):
    calls_of("gpu_tables.sh", tmp_path, "method")
    assert set((tmp_path / "calls.gpus").read_text().split()) == {"any", "5", "7"}


def test_an_unknown_table_is_refused_before_any_is_made(tmp_path: Path):
    with pytest.raises(subprocess.CalledProcessError):
        calls_of("gpu_tables.sh", tmp_path, "reference", "everything")
    assert not (tmp_path / "calls").exists()
