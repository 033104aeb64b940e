"""What the record of a mixture's training knows of its experts' trainings."""

import json
from pathlib import Path

import pytest
from tiny import TinyRuns, train_tiny

from moegs_ns.data.dataparsers.n3v import N3VDataParserConfig
from moegs_ns.models.mixture_model import MixtureModelConfig
from moegs_ns.runs.checkpoint import training_record
from moegs_ns.scripts.train import Train


def make_run(folder: Path, **record) -> Path:
    folder.mkdir()
    (folder / "config.yml").touch()
    if record:
        (folder / "training.json").write_text(json.dumps(record))
    return folder / "config.yml"


def test_the_seconds_of_all_experts_and_windows_are_added(tmp_path: Path):
    paths = [make_run(tmp_path / f"{place}", seconds=10.0**place) for place in range(3)]
    experts = (paths[0].parent, Path(f"{paths[1]}+{paths[2]}"))
    assert MixtureModelConfig(experts=experts).expert_seconds() == 111.0


def test_a_sum_without_one_of_its_parts_is_none(tmp_path: Path):
    known, silent = make_run(tmp_path / "a", seconds=1.0), make_run(tmp_path / "b")
    assert MixtureModelConfig(experts=(known, silent)).expert_seconds() is None
    assert MixtureModelConfig(experts=(known, tmp_path / "gone.yml")).expert_seconds() is None
    assert MixtureModelConfig().expert_seconds() is None


def test_a_pruned_mixture_has_the_experts_of_the_whole_one(tmp_path: Path):
    whole = make_run(tmp_path / "whole", seconds=1.0, expert_seconds=50.0)
    assert MixtureModelConfig(mixture_run=whole).expert_seconds() == 50.0
    older = make_run(tmp_path / "older", seconds=1.0)
    assert MixtureModelConfig(mixture_run=older).expert_seconds() is None


def test_it_is_kept_when_the_experts_are_gone(tiny_runs: TinyRuns, tmp_path: Path):
    """A training that goes on needs nothing but its own run."""
    options = ("--experts", *tiny_runs.experts, "--budget", "0.0006")
    first = train_tiny("moegs-router", tiny_runs.scene, tmp_path, *options)
    text = (first.parent / "config.yml").read_text()
    (first.parent / "config.yml").write_text(text.replace(tiny_runs.output.name, "gone"))
    load = ("--load-dir", str(first.parent / "nerfstudio_models"), "--budget", "0.0008")
    again = train_tiny("moegs-router", tiny_runs.scene, tmp_path, *load, name="again")
    known = sum(training_record(Path(expert))["seconds"] for expert in tiny_runs.experts)
    assert training_record(first)["expert_seconds"] == pytest.approx(known)
    assert training_record(again)["expert_seconds"] == pytest.approx(known)


def test_the_table_of_a_recipe_names_runs_below_the_given_folder(tmp_path: Path, monkeypatch):
    opened: list[Path] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("moegs_ns.scripts.train.open_run", opened.append)
    monkeypatch.setattr("moegs_ns.scripts.train.report_runs", lambda runs, path: None)
    recipe = Train(N3VDataParserConfig(), ("stg",), data=tmp_path / "scene")
    sources = recipe.sources()
    ((training,),) = trainings = recipe.trainings(sources)
    router = recipe.router_training(sources, trainings)
    recipe.report(sources, trainings, router)
    scene = Path("outputs/scene")
    assert opened == [
        scene / "moegs-stg" / training.folder.name, scene / "moegs-router" / router.folder.name
    ]  # fmt: skip
