"""docs/datasets.md: its commands parse, and it describes every parser of ours."""

import shlex
from pathlib import Path

import pytest
import tyro
from command_lines import parse
from nerfstudio.plugins.registry_dataparser import discover_dataparsers
from pyproject import PROJECT

from moegs_ns.scripts.main import Command

PAGE = Path(__file__).parent.parent / "docs" / "datasets.md"
LINES = [line for line in PAGE.read_text().splitlines() if line.startswith("ns-train ")]
PREPARING = [line for line in PAGE.read_text().splitlines() if line.startswith("moegs ")]
PARSERS = PROJECT["entry-points"]["nerfstudio.dataparser_configs"]


@pytest.mark.parametrize("line", LINES)
def test_commands_of_the_page_parse(line: str):
    method, *options = shlex.split(line)[1:]
    config = parse(method, *options)
    assert config.method_name == method
    name = next(option for option in options if option.endswith("-data") and option[0] != "-")
    known = discover_dataparsers()[0]
    if name in known:
        assert type(config.pipeline.datamanager.dataparser) is type(known[name])


@pytest.mark.parametrize("line", PREPARING)
def test_preparing_commands_of_the_page_parse(line: str):
    tyro.cli(Command, prog="moegs", args=shlex.split(line, comments=True)[1:])


def test_all_parsers_are_described():
    text = PAGE.read_text()
    assert len(LINES) >= 8
    for name in PARSERS:
        assert f"`{name}`" in text


def test_our_parsers_are_found_and_none_hides_one_of_nerfstudio():
    from nerfstudio.configs.dataparser_configs import dataparsers

    assert set(PARSERS) <= set(discover_dataparsers()[0])
    assert not set(PARSERS) & set(dataparsers)
