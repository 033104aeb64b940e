"""What nerfstudio's own commands do differently with this package's methods at hand.

They import all methods before anything else. They read configurations with PyYAML's `Loader`, which
may be taught other constructors, and end with Python's hook for errors, which may be replaced.
"""

import sys
from pathlib import Path

import yaml

from moegs_ns.errors import print_own_sentences
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
    sys.excepthook = print_own_sentences
