"""What all commands have in common: the version, one name for what they write, bars."""

import io
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import tyro
from rich.console import Console

from moegs_ns import progress
from moegs_ns.scripts import main as command

OUTPUTS = {
    "analyse": (["RUN"], "output_dir", "--output-dir"),
    "benchmark": (["RUN"], "output_dir", "--output"),
    "demo": ([], "output_dir", "--output-dir"),
    "export": (["RUN"], "output_dir", "--output-dir"),
    "fuse": (["RUN"], "output", "--output-path"),
    "render": (["RUN"], "output_path", "--output-path"),
    "report": (["RUN"], "output_path", "--output-path"),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_every_command_calls_what_it_writes_output(name: str):
    words, field, earlier = OUTPUTS[name]
    for option in ("--output", earlier):
        parsed: Any = tyro.cli(command.Command, args=[name, *words, option, "here"])
        assert getattr(parsed, field) == Path("here"), option


def test_points_are_written_to_an_output_as_well():
    for option in ("--output", "--output-path"):
        words = ["prepare", "points", "--data", "D", option, "here.npz", "n3v-data"]
        parsed: Any = tyro.cli(command.Command, args=words)
        assert parsed.what.output == Path("here.npz")


def test_the_table_of_a_whole_training_is_its_output():
    for option in ("--output", "--output-path"):
        words = ["train", "--experts", "stg", "--data", "D", option, "here.json", "n3v-data"]
        parsed: Any = tyro.cli(command.Command, args=words)
        assert parsed.output_path == Path("here.json") and parsed.output_dir == Path("outputs")


def test_the_router_of_a_whole_training_is_a_method():
    """`--router` of ns-train is a run, so that name is only kept for scripts."""
    for option in ("--router-method", "--router"):
        words = ["train", "--experts", "stg", "--data", "D", option, "pixel-router", "n3v-data"]
        parsed: Any = tyro.cli(command.Command, args=words)
        assert parsed.router == "pixel-router"


def test_the_version(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["moegs", "--version"])
    command.main()
    assert capsys.readouterr().out == f"moegs {version('moegs_ns')}\n"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_bars_are_for_terminals(monkeypatch, is_terminal: bool):
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=is_terminal, width=80)
    monkeypatch.setattr(progress, "CONSOLE", console)
    assert list(progress.track(range(3), "Counting sheep")) == [0, 1, 2]
    assert list(progress.track(iter("ab"), "Reading letters", 2)) == ["a", "b"]
    text = shown.getvalue()
    assert ("Counting sheep" in text and "Reading letters" in text) == is_terminal
    assert is_terminal or text == ""
