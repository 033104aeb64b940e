"""nerfstudio's commands inside this process, as if they had been typed."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module


@contextmanager
def typed(command: Sequence[str]) -> Iterator[None]:
    """Put `command` in the place of the command line, which nerfstudio parses and which names the
    run that is opened (see `named_config_path`)."""
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
