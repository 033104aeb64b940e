"""Command-line arguments: of configurations, and of commands that run in this process."""

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any

import tyro
from nerfstudio.data.dataparsers.base_dataparser import DataParserConfig

from moegs_ns.errors import hide_warnings_of_nerfstudio


def option_args(config: Any, default: Any, prefix: str = "", skip: Sequence[str] = ()) -> list[str]:
    """The options that turn `default` into `config`, which are dataclasses of one type.

    Raises:
        ValueError: a value has no form on a command line.
    """
    args: list[str] = []
    for field in fields(config):
        value, default_value = getattr(config, field.name), getattr(default, field.name)
        if field.name in ("_target", *skip) or value == default_value:
            continue
        name = prefix + field.name.replace("_", "-")
        if is_dataclass(value) and type(value) is type(default_value):
            args += option_args(value, default_value, f"{name}.")
        else:
            args += [f"--{name}", *_value_args(value, name)]
    return args


def parser_args(config: DataParserConfig) -> list[str]:
    """The name of a parser and its options but for --data, as they come last in `ns-train`.

    Raises:
        ValueError: the parser is not registered.
    """
    from nerfstudio.configs.dataparser_configs import all_dataparsers

    for name, default in all_dataparsers.items():
        if type(default) is type(config):
            return [name, *option_args(config, default, skip=["data"])]
    raise ValueError(
        f"Expected a parser that nerfstudio lists, got a {type(config).__name__}; register it, or "
        "train the experts one by one."
    )


def _value_args(value: Any, name: str) -> list[str]:
    if isinstance(value, tuple | list):
        return [arg for part in value for arg in _value_args(part, name)]
    if isinstance(value, Enum):
        return [value.name]
    if value is None or isinstance(value, bool | int | float | str | Path):
        return [str(value)]
    raise ValueError(
        f"Expected a value of --{name} for a command line, got {value!r}; train the experts one "
        "by one and name their runs in --experts."
    )


def output_option(*earlier_names: str) -> Any:
    """What names the file or folder that a command writes: `--output` in all of them, and the names
    that it had before."""
    return tyro.conf.arg(name="output", prefix_name=False, aliases=list(earlier_names))


@contextmanager
def replaced_argv(argv: Sequence[str]) -> Iterator[None]:
    """Replace `sys.argv`, which nerfstudio parses, and in which `named_config_path` looks."""
    before = sys.argv
    sys.argv = list(argv)
    try:
        yield
    finally:
        sys.argv = before


def run_nerfstudio(script: str, args: Sequence[str]) -> None:
    """Run one of nerfstudio's commands in this process."""
    command = import_module(f"nerfstudio.scripts.{script}").entrypoint
    writer = import_module("nerfstudio.utils.writer")
    try:
        with replaced_argv([f"ns-{script}", *args]), warnings.catch_warnings():
            hide_warnings_of_nerfstudio()
            command()
    finally:
        # nerfstudio never forgets a run's log writers, and would log the next run to all of them.
        writer.EVENT_WRITERS.clear()
