"""Commands as users type them, run in this process: what they print and how they end."""

import gc
import io
import os
import re
import resource
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

import tyro
import yaml
from nerfstudio.configs.experiment_config import ExperimentConfig
from nerfstudio.engine.trainer import Trainer
from nerfstudio.utils import writer

from moegs_ns.errors import TRACEBACK
from moegs_ns.launch import jobs, locks, nerfstudio_commands
from moegs_ns.launch.cli_args import replaced_argv
from moegs_ns.launch.locks import give_up
from moegs_ns.models import viewing
from moegs_ns.runs.config_yaml import restrict
from moegs_ns.scripts import main as moegs

SECONDS = 60.0
"""After which a command counts as hanging, on machines that do other things as well."""
BYTES = 3 * 2**30
"""Memory that a command may take."""
STARTS = "(training starts)"
"""Printed in the place of a training."""
SCRIPTS = {
    "ns-train": "train",
    "ns-eval": "eval",
    "ns-render": "render",
    "ns-export": "exporter",
    "ns-viewer": "viewer.run_viewer",
}


class NerfstudiosLoader(yaml.Loader):
    """As nerfstudio's commands have it once our methods are imported."""


restrict(NerfstudiosLoader)


class TooLate(BaseException):
    """A command takes longer than `SECONDS`."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    status: int
    printed: str
    """Without line breaks of terminals."""
    seconds: float
    """Of work, without what other processes take from it."""

    @property
    def has_traceback(self) -> bool:
        return "Traceback (most recent call last)" in self.printed

    def sentence(self, folder: Path) -> str:
        """The error without what comes before, and with paths as seen from the folder."""
        text = self.printed.replace(f"{folder.resolve()}/", "").replace(str(folder), ".")
        text = re.sub(r" MOEGS_TRACEBACK=1 in the .*", "", text)
        return re.split(r"(?<!\w)Error: ", text, maxsplit=1)[-1]


def run(command: str, folder: Path) -> Outcome:
    """Type a command in a folder. Trainings end where their first step would begin."""
    words = shlex.split(command)
    printed = io.StringIO()
    started, before = time.process_time(), Path.cwd()
    os.chdir(folder)
    # What was told once may be told of this command again.
    viewing._tell_once.cache_clear()
    try:
        with redirect_stdout(printed), redirect_stderr(printed), _as_a_program(), _in_time():
            status = _status(words)
    finally:
        os.chdir(before)
        writer.EVENT_WRITERS.clear()
        for claimed in list(locks._claimed):
            give_up(claimed)
    text = " ".join(printed.getvalue().split())
    return Outcome(status, text, time.process_time() - started)


def _status(words: Sequence[str]) -> int:
    try:
        if words[0] == "moegs":
            with replaced_argv(words):
                moegs.main()
        else:
            _run_nerfstudio(words)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception:
        # What reaches the interpreter's own hook.
        traceback.print_exc()
        return 1
    return 0


def _run_nerfstudio(words: Sequence[str]) -> None:
    if words[0] == "ns-train":
        words = [*words[:2], "--vis", "tensorboard", *words[2:]]
    command = import_module(f"nerfstudio.scripts.{SCRIPTS[words[0]]}").entrypoint
    with replaced_argv(words):
        nerfstudio_commands.look_at_command_line()
        try:
            command()
        except Exception as error:
            # The hook of the interpreter, for one of nerfstudio's commands.
            with patch.object(sys, "__excepthook__", traceback.print_exception):
                nerfstudio_commands.end_in_a_sentence(type(error), error, error.__traceback__)
            raise SystemExit(1) from error


@contextmanager
def _as_a_program() -> Iterator[None]:
    with (
        patch.dict(os.environ, {TRACEBACK: "0"}),
        patch.object(yaml, "Loader", NerfstudiosLoader),
        patch.object(Trainer, "train", _start_training),
        # What costs most of the time here, and says nothing.
        patch.object(ExperimentConfig, "print_to_terminal"),
        patch.object(gc, "collect"),
        patch.object(tyro, "cli", _parsed_once),
        patch.object(jobs, "run_module", _start_process),
    ):
        yield


_parse, _parsed = tyro.cli, dict[Any, Any]()


def _parsed_once(form: Any, **options: Any) -> Any:
    """What tyro makes of a command line, of which many inputs have the same."""
    key = str(form), tuple(options.get("args") or sys.argv)
    if key not in _parsed:
        _parsed[key] = _parse(form, **options)
    return deepcopy(_parsed[key])


def _start_training(trainer: Trainer) -> None:
    sys.stdout.write(f"{STARTS}\n")


def _start_process(*_: object) -> int:
    sys.stdout.write(f"{STARTS}\n")
    raise SystemExit(0)


@contextmanager
def _in_time() -> Iterator[None]:
    """Within `SECONDS` and `BYTES`."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooLate

    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = signal.signal(signal.SIGALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, limits[1]))
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
