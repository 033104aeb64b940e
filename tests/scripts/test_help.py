"""What a newcomer reads first: help that fits a screen, with examples that can be typed."""

import shlex
import sys
from typing import get_args

import pytest
import tyro

from moegs_ns.scripts import main as command
from moegs_ns.scripts.help import EXAMPLES, help_options, joined, shortened_help

SCREEN = 50


def help_of(monkeypatch, capsys, *words: str) -> list[str]:
    monkeypatch.setattr(sys, "argv", ["moegs", *words, "--help"])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("words", [[], *([name] for name in EXAMPLES)])
def test_help_fits_a_screen_and_begins_with_examples(monkeypatch, capsys, words: list[str]):
    monkeypatch.setenv("COLUMNS", "80")
    if words == ["train"] and not help_options(words):
        pytest.skip("this version of tyro knows no short help")
    lines = help_of(monkeypatch, capsys, *words)
    assert len(lines) <= SCREEN, len(lines)
    assert any(line.strip().startswith("moegs ") for line in lines[:6])


def test_every_command_has_examples():
    assert {each.__name__.lower() for each in get_args(command.Command)} == set(EXAMPLES)


@pytest.mark.parametrize(
    "example", [line for lines in EXAMPLES.values() for line in lines if "prepare" not in line]
)
def test_examples_can_be_typed(example: str):
    words = shlex.split(example)
    assert words[0] == "moegs"
    assert hasattr(tyro.cli(command.Command, args=command.as_spelled_now(words[1:])), "main")


def test_names_without_explanations_stand_beside_each_other():
    wide = "│   • a                    │\n│   • b                    │\n╰──╯\n"
    first, last = joined(wide).splitlines()
    assert first.split() == ["│", "a", "b", "│"] and last == "╰──╯"
    explained = "│   • a: why               │\n"
    assert joined(explained) == explained


def test_other_words_are_left_alone(capsys):
    with shortened_help(["train", "--help", "more"]):
        sys.stdout.write("as it is\n")
    assert capsys.readouterr().out == "as it is\n"
