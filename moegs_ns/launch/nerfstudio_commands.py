"""What nerfstudio's own commands do differently with this package's methods at hand.

They import all methods before anything else. They read configurations with PyYAML's `Loader`, which
may be taught other constructors, end with Python's hook for errors, which may be replaced, and read
their command line only after that import. What they do with a run of ours is looked at when they
ask its configuration for checkpoints.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import torch
import yaml

from moegs_ns.data.camera_path_files import check_camera_path, read_camera_path
from moegs_ns.data.scene_files import check_ordinary
from moegs_ns.errors import (
    FULL,
    USER_ERRORS,
    hide_warnings_of_nerfstudio,
    is_sentence,
    print_own_sentences,
    print_sentence,
)
from moegs_ns.launch.processes import end_with_command
from moegs_ns.runs.checkpoint import named_config_path, open_run
from moegs_ns.runs.config_yaml import LARGEST, is_trusted, restrict

SCRIPTS = "nerfstudio.scripts."
"""What the names of modules with commands begin with, for `python -m`."""

OUR_TAG = "!!python/object:moegs_ns."
"""What the configuration of a run of one of our methods begins with."""
VIEWER_COMMANDS = ("ns-viewer", "run_viewer.py")
HOST_OPTION = "--viewer.websocket-host"
LOCAL_HOST = "127.0.0.1"
FUSE = (
    "`moegs fuse RUN --output FILE.ply --time T` writes those of one time, `moegs export RUN "
    "--ply-sequence --output FOLDER` those of every frame"
)
RAYS = f"a model of rays, but this run's are Gaussians; {FUSE}."
INSTEAD = {
    "gaussian-splat": f"Gaussians that stand still, but this run's move; {FUSE}.",
    "pointcloud": RAYS,
    "tsdf": RAYS,
    "poisson": RAYS,
    "marching-cubes": RAYS,
    "spiral": "a datamanager of rays, but this run has none; use `moegs render RUN path:spiral`, "
    "along which the clip plays.",
}
"""What ns-export and ns-render expect where they would end in an assertion, and what to use."""
WAIT_POLICY = "OMP_WAIT_POLICY"
"""Variable of the environment that says whether OpenMP's threads spin or sleep."""


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


def start_again_without_spinning() -> None:
    """On a CPU replace this process by the same command whose OpenMP threads sleep while they wait.

    nerfstudio has loaded torch by now, and OpenMP reads the policy only once. With threads that
    spin 60 steps of STG at 160 x 120 pixels took 162 s on two busy cores instead of 13 s, so a few
    seconds of imports are repaid.
    """
    asks_for_help = any(word in ("-h", "--help") for word in sys.argv[1:])
    if WAIT_POLICY in os.environ or torch.cuda.is_available() or asks_for_help:
        return
    os.environ[WAIT_POLICY] = "PASSIVE"
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def prepare_nerfstudio_commands() -> None:
    """In nerfstudio's commands read foreign configurations safely, and end our mistakes in one
    sentence; nothing in other programs, which have loaders and hooks of their own. A process that
    another command started ends with that."""
    is_command = is_nerfstudio_command()
    if is_command:
        # First, as it begins anew, with the environment as it is.
        start_again_without_spinning()
    end_with_command()
    if not is_command:
        return
    hide_warnings_of_nerfstudio()
    if not is_trusted():
        restrict(yaml.Loader)
    sys.excepthook = end_in_a_sentence
    look_at_command_line()


def look_at_command_line() -> None:
    """Before a command of nerfstudio begins: a viewer serves this machine alone, and what would be
    waited for or read without end in the place of a config ends the command in a sentence."""
    sys.argv = with_local_viewer(sys.argv)
    path = named_config_path()
    if path is None or path.is_dir() or not path.exists():
        return
    try:
        check_ordinary(path, "the config.yml of a trained run", LARGEST)
    except ValueError as error:
        print_sentence(error)
        raise SystemExit(1) from error


def end_in_a_sentence(
    kind: type[BaseException], error: BaseException, where: TracebackType | None
) -> None:
    """For `sys.excepthook`: also leaves no half a file of results, and says what is wrong with the
    run that the command opens where nerfstudio or PyYAML stumble over that."""
    if isinstance(error, OSError) and error.errno in FULL:
        remove_half_results(sys.argv)
    elif isinstance(error, Exception) and not is_sentence(error):
        fault = fault_of_named_run()
        if fault is not None:
            kind, error, where = type(fault), fault, fault.__traceback__
    print_own_sentences(kind, error, where)


def fault_of_named_run() -> BaseException | None:
    """Why the run that the command line names as --load-config cannot be opened, if it cannot."""
    path = named_config_path()
    try:
        if path is not None:
            open_run(path)
    except USER_ERRORS as fault:
        return fault
    return None


def remove_half_results(argv: Sequence[str]) -> None:
    """Delete the results that ns-eval, if `argv` is its command line, was writing, unless whole."""
    if not is_evaluation(argv):
        return
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--output-path", "--output_path", type=Path, default=Path("output.json"))
    path = parser.parse_known_args(argv[1:])[0].output_path
    if path.suffix == ".json" and path.is_file():
        try:
            json.loads(path.read_text("utf8"))
        except ValueError:
            path.unlink()


def is_evaluation(argv: Sequence[str]) -> bool:
    """Whether a command line is that of ns-eval."""
    return Path(argv[0]).stem.removeprefix("ns-") == "eval"


def with_local_viewer(argv: Sequence[str]) -> list[str]:
    """The command line, by which `ns-viewer` serves a run of ours on this machine alone unless it
    says where: the viewer has no password, and nerfstudio's default is every address."""
    words, path = list(argv), named_config_path()
    is_viewer = Path(words[0]).name in VIEWER_COMMANDS
    options = [word.partition("=")[0].replace("_", "-") for word in words]
    if not is_viewer or path is None or not is_ours(path) or HOST_OPTION in options:
        return words
    return [*words, HOST_OPTION, LOCAL_HOST]


def is_ours(config_path: Path) -> bool:
    """Whether a configuration is that of one of our methods, as its first line says."""
    try:
        with config_path.open(encoding="utf8", errors="replace") as file:
            return file.readline(200).startswith(OUR_TAG)
    except OSError:
        return False


def check_command(argv: Sequence[str]) -> None:
    """Refuse what nerfstudio's commands cannot do with a run of ours, before it is loaded.

    Raises:
        ValueError: the command needs another kind of model, or its camera path cannot be drawn.
        OSError: the camera path cannot be read.
    """
    kind = argv[1] if len(argv) > 1 else ""
    if kind in INSTEAD:
        raise ValueError(f"{kind} expects {INSTEAD[kind]}")
    output = _value_of("--output-path", argv)
    if is_evaluation(argv) and output is not None and output.suffix != ".json":
        raise ValueError(
            f"--output-path expects the name of a .json file for the scores, got {output}."
        )
    path = _value_of("--camera-path-filename", argv)
    if path is not None:
        check_camera_path(read_camera_path(path), path)


def _value_of(option: str, argv: Sequence[str]) -> Path | None:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(option, option.replace("-", "_").replace("__", "--", 1), dest="value")
    found = parser.parse_known_args(list(argv[1:]))[0].value
    return None if found is None else Path(found)
