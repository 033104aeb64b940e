"""What nerfstudio's own commands do differently with this package's methods at hand.

They import all methods before anything else. They read configurations with PyYAML's `Loader`, which
may be taught other constructors, and end with Python's hook for errors, which may be replaced.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import yaml

from moegs_ns.errors import FULL, print_own_sentences
from moegs_ns.launch.processes import end_with_command
from moegs_ns.runs.config_yaml import is_trusted, restrict

SCRIPTS = "nerfstudio.scripts."
"""What the names of modules with commands begin with, for `python -m`."""


def is_nerfstudio_command() -> bool:
    """Whether this process is one of nerfstudio's commands."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return Path(sys.argv[0]).name.startswith("ns-") or str(spec and spec.name).startswith(SCRIPTS)


def is_program() -> bool:
    """Whether this process was started as one of nerfstudio's commands, and not as a program that
    runs one of them."""
    main = sys.modules["__main__"]
    file = Path(getattr(main, "__file__", None) or "").name
    return file.startswith("ns-") or str(getattr(main.__spec__, "name", "")).startswith(SCRIPTS)


def prepare_nerfstudio_commands() -> None:
    """In nerfstudio's commands read foreign configurations safely, and end our mistakes in one
    sentence; nothing in other programs, which have loaders and hooks of their own. A process that
    another command started ends with that."""
    end_with_command()
    if not is_nerfstudio_command():
        return
    if not is_trusted():
        restrict(yaml.Loader)
    sys.excepthook = end_in_a_sentence


def end_in_a_sentence(
    kind: type[BaseException], error: BaseException, where: TracebackType | None
) -> None:
    """For `sys.excepthook`: also leaves no half a file of results."""
    if isinstance(error, OSError) and error.errno in FULL:
        remove_half_results(sys.argv)
    print_own_sentences(kind, error, where)


def remove_half_results(argv: Sequence[str]) -> None:
    """Delete the results that ns-eval, if `argv` is its command line, was writing, unless whole."""
    if Path(argv[0]).stem.removeprefix("ns-") != "eval":
        return
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--output-path", "--output_path", type=Path, default=Path("output.json"))
    path = parser.parse_known_args(argv[1:])[0].output_path
    if path.suffix == ".json" and path.is_file():
        try:
            json.loads(path.read_text("utf8"))
        except ValueError:
            path.unlink()
