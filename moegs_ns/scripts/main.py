"""`moegs`: what nerfstudio's own commands do not offer."""

import sys
from importlib.metadata import version

from moegs_ns.errors import one_sentence_errors, quiet_imports

with quiet_imports():
    # First, and from here: nerfstudio walks the import stack once for each method that it knows,
    # which takes three times as long deeper in the stack.
    import nerfstudio.configs.method_configs  # noqa: F401
    import tyro

    from moegs_ns.launch.processes import errors_are_stops, stop_on_signals
    from moegs_ns.scripts.analyse import Analyse
    from moegs_ns.scripts.data import Data
    from moegs_ns.scripts.demo import Demo
    from moegs_ns.scripts.export import Export
    from moegs_ns.scripts.fuse import Fuse
    from moegs_ns.scripts.prepare import Prepare
    from moegs_ns.scripts.render import Render
    from moegs_ns.scripts.report import Report
    from moegs_ns.scripts.train import Train

Command = Analyse | Data | Demo | Export | Fuse | Prepare | Render | Report | Train
DESCRIPTION = f"{__doc__} `moegs --version` tells the version."
ALIASES = {"recipe": "train"}
"""Names of commands until version 0.1."""


def entrypoint() -> None:
    """The console script: `main` as a program of its own, which signals stop in one sentence."""
    stop_on_signals()
    main()


def main() -> None:
    """Run a command; a mistake ends in one sentence and exit status 1."""
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"moegs {version('moegs_ns')}\n")
        return
    args = [ALIASES.get(name, name) for name in sys.argv[1:2]] + sys.argv[2:]
    with one_sentence_errors(), errors_are_stops():
        tyro.cli(Command, args=args, prog="moegs", description=DESCRIPTION).main()


if __name__ == "__main__":
    entrypoint()
