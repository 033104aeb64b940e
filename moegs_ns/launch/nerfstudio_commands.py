"""nerfstudio's commands inside this process, with arguments instead of a command line."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module


@contextmanager
def typed(command: Sequence[str]) -> Iterator[None]:
    """Replace `sys.argv`, which nerfstudio parses, and in which `named_config_path` looks."""
    before = sys.argv
    sys.argv = list(command)
    try:
        yield
    finally:
        sys.argv = before


def run_nerfstudio(script: str, arguments: Sequence[str]) -> None:
    """Run one of nerfstudio's commands in this process."""
    command = import_module(f"nerfstudio.scripts.{script}").entrypoint
    writer = import_module("nerfstudio.utils.writer")
    try:
        with typed([f"ns-{script}", *arguments]):
            command()
    finally:
        # nerfstudio never forgets a run's log writers, and would log the next run to all of them.
        writer.EVENT_WRITERS.clear()
