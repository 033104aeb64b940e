"""`moegs`: what nerfstudio's own commands do not offer."""

import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from moegs_ns.errors import one_sentence_errors, quiet_imports

with quiet_imports():
    # First, and from here: nerfstudio walks the import stack once for each method that it knows,
    # which takes three times as long deeper in the stack.
    import nerfstudio.configs.method_configs  # noqa: F401
    import tyro

    from moegs_ns.launch.processes import errors_are_stops, stop_on_signals
    from moegs_ns.scripts.analyse import Analyse
    from moegs_ns.scripts.benchmark import Benchmark
    from moegs_ns.scripts.data import Data
    from moegs_ns.scripts.demo import Demo
    from moegs_ns.scripts.export import Export
    from moegs_ns.scripts.fuse import Fuse
    from moegs_ns.scripts.help import help_options, shortened_help
    from moegs_ns.scripts.info import Info, View
    from moegs_ns.scripts.paper import Paper, one_option_each
    from moegs_ns.scripts.prepare import Prepare
    from moegs_ns.scripts.render import Render
    from moegs_ns.scripts.report import Report
    from moegs_ns.scripts.train import Train

Command = (
    Analyse | Benchmark | Data | Demo | Export | Fuse
    | Info | Paper | Prepare | Render | Report | Train | View
)  # fmt: skip
DESCRIPTION = """What nerfstudio's own commands do not offer for mixtures of dynamic experts.

moegs train --experts stg 4dgaussians --data DATA n3v-data

moegs view RUN

`moegs COMMAND --help` explains a command, `ns-train METHOD --help` nerfstudio's options of a
training, `moegs --version` tells the version."""
ALIASES = {"recipe": "train"}
"""Names of commands until version 0.1."""
RUN_OPTIONS = ("--load-config", "--load_config")
"""What named the run of `moegs render` until version 0.2."""


def as_spelled_now(words: Sequence[str]) -> list[str]:
    """The words after `moegs`, with names of earlier versions replaced: `--load-config RUN` of
    `moegs render` is RUN, as in all other commands; scenes of `moegs paper` have an option each."""
    args = [ALIASES.get(name, name) for name in words[:1]] + list(words[1:])
    if args[:1] == ["paper"]:
        return one_option_each(args)
    if args[:1] != ["render"]:
        return args
    joined = [part for word in args for part in _option_and_value(word)]
    return [word for word in joined if word not in RUN_OPTIONS]


def _option_and_value(word: str) -> list[str]:
    option, sign, value = word.partition("=")
    return [option, value] if sign and option in RUN_OPTIONS else [word]


def entrypoint() -> None:
    """The console script: `main` as a program of its own, which signals stop in one sentence."""
    stop_on_signals()
    main()


def main() -> None:
    """Run a command; a mistake ends in one sentence and exit status 1."""
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"moegs {version('moegs_ns')}\n")
        return
    args = as_spelled_now(sys.argv[1:])
    options: Any = help_options(args)
    with one_sentence_errors(), errors_are_stops():
        with shortened_help(args):
            command = tyro.cli(Command, args=args, prog="moegs", description=DESCRIPTION, **options)
        command.main()


if __name__ == "__main__":
    entrypoint()
