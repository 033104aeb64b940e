"""Python modules in processes of their own, none of which outlives the command that started it.

Signals to a command are handed on: its processes get no keys of the terminal, and are ended by it.
A command that is killed (-9) can hand nothing on; so each process looks every second whether its
command is still there, once it has imported our methods (some ten seconds).
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType

PARENT = "MOEGS_PARENT"
"""Variable of the environment with the process id of the command that started a process."""
SECONDS_BETWEEN_LOOKS = 1.0
PATIENCE = 20.0
"""Seconds in which a process has to end after it was told to, before it is killed."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What ends a command: Ctrl-C, a scheduler, a terminal that is closed."""


class Stopped(SystemExit):
    """A signal ends this command, with the exit status of shells: 128 and the signal's number."""


# ---- in the command ----

_lock = threading.Lock()
_running: set[subprocess.Popen[bytes]] = set()
_is_ending = threading.Event()


def run_process(
    args: Sequence[str],
    environment: Mapping[str, str],
    log: Path | None = None,
    meanwhile: Callable[[], object] | None = None,
) -> int:
    """Run a Python module in a separate process; its exit status.

    Its output goes to the terminal, or is appended to a log. Whatever ends this call ends it.
    `meanwhile` is called about each second until then.

    Raises:
        RuntimeError: the command is ending, so nothing more is started.
    """
    command = [sys.executable, "-W", "ignore", "-m", *args]
    own = {**environment, PARENT: str(os.getpid())}
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
    with nullcontext() if log is None else log.open("a") as output:
        with _lock:
            check_not_ending()
            # In a session of its own: Ctrl-C would reach it beside the signal that is handed on.
            process = subprocess.Popen(
                command, stdout=output, stderr=output, env=own, start_new_session=True
            )
            _running.add(process)
        try:
            return _wait(process, meanwhile)
        except BaseException:
            _end([process])
            raise
        finally:
            _running.discard(process)


def _wait(process: subprocess.Popen[bytes], meanwhile: Callable[[], object] | None) -> int:
    if meanwhile is None:
        return process.wait()
    while True:
        try:
            return process.wait(SECONDS_BETWEEN_LOOKS)
        except subprocess.TimeoutExpired:
            meanwhile()


def check_not_ending() -> None:
    """Raise RuntimeError if `end_processes` is at work."""
    if _is_ending.is_set():
        raise RuntimeError("The command was stopped, so nothing more is started.")


def end_processes(then: Callable[[], object] = lambda: None) -> None:
    """End all processes that run now; no other is started until `then`, which waits for the threads
    that started them, has returned."""
    _is_ending.set()
    try:
        with _lock:
            running = list(_running)
        _end(running)
        then()
    finally:
        _is_ending.clear()


def _end(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    processes, deadline = list(processes), time.monotonic() + PATIENCE
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()


# ---- in a process that a command started ----

_is_child = threading.Event()


def end_with_command() -> None:
    """In a process that a command started: end when that has ended; nothing in others."""
    # Not handed on to processes of this one, whose parent it does not name.
    parent = os.environ.pop(PARENT, None)
    if parent is None:
        return
    _is_child.set()

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(SECONDS_BETWEEN_LOOKS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


# ---- signals, in either ----


def _again() -> str | None:
    return "Give the same command again."


_advice: Callable[[], str | None] = _again
_stopped: Stopped | None = None


def advise(advice: Callable[[], str | None]) -> None:
    """How to go on if a signal stops this command from now on; None if it has done its work, so
    that nothing is lost."""
    global _advice  # noqa: PLW0603  a process has one handler of a signal
    _advice = advice


def stop_on_signals() -> None:
    """From now on let signals end this process as errors do, with a sentence that says how to go
    on.

    A second signal ends it at once. Signals that the process ignores stay ignored, as under nohup.
    """
    if threading.current_thread() is threading.main_thread():
        for each in SIGNALS:
            if signal.getsignal(each) is not signal.SIG_IGN:
                signal.signal(each, _stop)


@contextmanager
def errors_are_stops() -> Iterator[None]:
    """Whatever fails after a signal ends the process as the signal does.

    Compiled code that a signal interrupts reports an error of its own instead of the stop.
    """
    try:
        yield
    except Exception:
        check_not_stopped()
        raise


def check_not_stopped() -> None:
    """Ends this process if a signal should have: some compiled code drops what is raised in it.

    Raises:
        Stopped: a signal came.
    """
    if _stopped is not None:
        raise _stopped from None


def _stop(number: int, _: FrameType | None) -> None:
    global _stopped  # noqa: PLW0603  a process ends once
    for each in SIGNALS:
        signal.signal(each, signal.SIG_DFL)
    how = _advice()
    _stopped = Stopped(0 if how is None else 128 + number)
    # The command speaks for its processes. Not by `print`, which may be what is interrupted.
    if how is not None and not _is_child.is_set():
        os.write(2, f"\nStopped by {signal.Signals(number).name}. {how}\n".encode())
    raise _stopped
