"""How the command ends: without the warnings of its imports, and a mistake in one sentence."""

import errno
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.text import Text

TRACEBACK = "MOEGS_TRACEBACK"
"""Variable of the environment that shows where an error came from, if it is 1."""
IMPORT_WARNINGS = (FutureWarning, DeprecationWarning, UserWarning)
FULL = (errno.ENOSPC, errno.EDQUOT)
"""Numbers of the errors of a disk, or a share of it, that is full."""
USER_ERRORS = (ValueError, OSError, ImportError, RuntimeError, FloatingPointError)
"""Errors that a user can repair; others are ours, and keep their traceback."""


@contextmanager
def quiet_imports() -> Iterator[None]:
    """Show no warnings about what other packages use of each other while they are imported.

    Filters are left alone: some packages add their own on import, which must stay.
    """
    shown = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *args: Any, **kwargs: Any) -> None:
        if not issubclass(category, IMPORT_WARNINGS):
            shown(message, category, *args, **kwargs)

    warnings.showwarning = show
    try:
        yield
    except KeyboardInterrupt:
        # Nothing has begun, so there is nothing to say.
        raise SystemExit(128 + signal.SIGINT) from None
    finally:
        warnings.showwarning = shown


def hide_warnings_of_nerfstudio() -> None:
    """From now on show no warnings about what nerfstudio's trainer uses of torch: nobody who trains
    can do anything about them."""
    for category in IMPORT_WARNINGS:
        warnings.filterwarnings("ignore", category=category, module=r"nerfstudio\.(engine|utils)")


@contextmanager
def one_sentence_errors() -> Iterator[None]:
    """Print a mistake as one sentence and exit with status 1; see `TRACEBACK`."""
    try:
        yield
    except USER_ERRORS as error:
        if os.environ.get(TRACEBACK) == "1":
            raise
        print_sentence(error)
        raise SystemExit(1) from error


def print_sentence(error: BaseException) -> None:
    """Print what an error says, and how to see where it came from if that is not for users."""
    text = Text.assemble(("Error: ", "bold red"), str(error) or type(error).__name__)
    if not _is_raised_by_us(error):
        text.append(f"\n{TRACEBACK}=1 in the environment shows where this came from.")
    # Not wrapped, so that paths can be copied, and not marked up, as [1] is no style.
    Console(stderr=True, soft_wrap=True, highlight=False).print(text)


def print_own_sentences(
    kind: type[BaseException], error: BaseException, where: TracebackType | None
) -> None:
    """For `sys.excepthook` of nerfstudio's commands: our sentences without a traceback, that the
    disk is full, and that a path of the command line cannot be used; whatever else others raise
    with theirs."""
    is_ours = is_sentence(error)
    if isinstance(error, OSError) and error.errno in FULL and not is_ours:
        is_ours, reason = True, error.strerror
        error = OSError(
            f"The disk is full ({reason}); make room, then give the same command again."
        )
    elif isinstance(error, OSError) and not is_ours and (named := named_on_command_line(error)):
        is_ours, reason = True, error.strerror
        error = OSError(f"{named} cannot be read or written ({reason}); name another.")
    if is_ours and os.environ.get(TRACEBACK) != "1":
        print_sentence(error)
    else:
        sys.__excepthook__(kind, error, where)


def named_on_command_line(error: OSError) -> Path | None:
    """The path on this process's command line that an error of the operating system is about, as
    itself or as a folder on the way to it."""
    if not isinstance(error.filename, str | bytes):
        return None
    wrong = Path(os.fsdecode(error.filename))
    for word in sys.argv[1:]:
        named = Path(word.partition("=")[2] or word)
        if wrong == named or wrong in named.parents:
            return named
    return None


def is_sentence(error: BaseException) -> bool:
    """Whether an error is one of this package that tells a user what to repair."""
    return isinstance(error, USER_ERRORS) and _is_raised_by_us(error)


def _is_raised_by_us(error: BaseException) -> bool:
    """Whether the message is a sentence of this package, not of one that it uses."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(frames) and str(frames[-1].f_globals.get("__name__")).startswith("moegs_ns.")
