"""Processes of a command: none outlives it, however it ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from moegs_ns.launch import processes
from moegs_ns.launch.jobs import run_side_by_side

COMMAND = """
import os
from signal import SIG_DFL, SIGHUP, SIGINT, SIGTERM, signal
for number in (SIGHUP, SIGINT, SIGTERM):
    signal(number, SIG_DFL)  # which the tests may have been started to ignore
from moegs_ns.launch.processes import end_with_command, run_process, stop_on_signals
end_with_command()
stop_on_signals()
run_process(["sleeper"], os.environ)
"""
SLEEPER = """
import os, time
from pathlib import Path
from moegs_ns.launch.processes import PARENT, end_with_command, stop_on_signals
end_with_command()
stop_on_signals()
assert PARENT not in os.environ, "its own processes have another parent"
Path("writing").write_text(str(os.getpid()))
os.rename("writing", "started")
time.sleep(100)
"""


def is_running(pid: int) -> bool:
    """Whether a process exists and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def finding(folder: Path) -> dict[str, str]:
    """The environment in which modules of a folder are found, also with PYTHONSAFEPATH."""
    paths = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": paths.rstrip(os.pathsep)}


def wait_until(condition, seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


@pytest.fixture
def command(tmp_path: Path):
    """A command that runs a process which sleeps, and the id of that."""
    (tmp_path / "command.py").write_text(COMMAND)
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    started = subprocess.Popen(
        [sys.executable, "-m", "command"], env=finding(tmp_path),
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert wait_until((tmp_path / "started").exists), started.communicate()[0]
    child = int((tmp_path / "started").read_text())
    yield started, child
    for pid in (started.pid, child):
        if is_running(pid):
            os.kill(pid, signal.SIGKILL)
    started.wait()


@pytest.mark.parametrize("number", processes.SIGNALS)
def test_a_signal_is_handed_on_and_told_in_one_sentence(command, number: signal.Signals):
    started, child = command
    started.send_signal(number)
    said, _ = started.communicate(timeout=30)
    assert started.returncode == 128 + number
    assert said == f"\nStopped by {number.name}. Give the same command again.\n"
    assert not is_running(child)


def test_no_process_outlives_a_command_that_is_killed(command):
    started, child = command
    started.kill()
    started.wait()
    assert wait_until(lambda: not is_running(child)), "it trains on, beside the next command"


def test_an_ignored_signal_stays_ignored(tmp_path: Path):
    """As under nohup."""
    code = "import os, signal; from moegs_ns.launch.processes import stop_on_signals\n"
    code += "signal.signal(signal.SIGHUP, signal.SIG_IGN); stop_on_signals()\n"
    code += "os.kill(os.getpid(), signal.SIGHUP)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_nothing_is_lost_once_the_work_is_done():
    code = "import os, signal; from moegs_ns.launch.processes import advise, stop_on_signals\n"
    code += "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
    code += "stop_on_signals(); advise(lambda: None); os.kill(os.getpid(), signal.SIGINT)"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def interruptible():
    """Ctrl-C raises KeyboardInterrupt, which the tests may have been started to ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("at_once", [1, 2])
@pytest.mark.usefixtures("interruptible")
def test_an_interruption_starts_no_other_job(monkeypatch, at_once: int):
    """Also on Python 3.13, whose pool runs what is left when it is left by an error."""
    monkeypatch.setattr("moegs_ns.launch.jobs.visible_devices", list)
    started: list[int] = []

    def job(slot: int) -> None:
        started.append(slot)
        if len(started) == at_once:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)

    with pytest.raises(KeyboardInterrupt):
        run_side_by_side([job] * 6, at_once)
    time.sleep(0.5)
    assert len(started) == at_once


@pytest.mark.usefixtures("interruptible")
def test_an_interruption_ends_the_processes_of_other_threads(tmp_path: Path, monkeypatch):
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    monkeypatch.chdir(tmp_path)

    def job(slot: int) -> None:
        processes.run_process(["sleeper"], finding(tmp_path))

    def interrupt(slot: int) -> None:
        assert wait_until((tmp_path / "started").exists)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("moegs_ns.launch.jobs.visible_devices", list)
    with pytest.raises(KeyboardInterrupt):
        run_side_by_side([job, interrupt], at_once=2)
    assert not is_running(int((tmp_path / "started").read_text()))
    # The next ones of this process may start again.
    processes.check_not_ending()


INTERRUPTED = """
import signal, sys
from moegs_ns.launch.processes import check_not_stopped, errors_are_stops, stop_on_signals
signal.signal(signal.SIGTERM, signal.SIG_DFL)  # which the tests may have been started to ignore
stop_on_signals()
with errors_are_stops():
    try:
        signal.raise_signal(signal.SIGTERM)
    except SystemExit as stop:
        if sys.argv[1] == "replaced":
            raise SystemError("a function returned a result with an exception set") from stop
    check_not_stopped()
    print("went on")
"""


@pytest.mark.parametrize("how", ["replaced", "dropped"])
def test_a_stop_that_compiled_code_loses_ends_the_process_all_the_same(how: str):
    """Numba and others report an error of their own, or nothing, where the signal came in them."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, how], capture_output=True, text=True, check=False
    )
    assert done.returncode == 128 + signal.SIGTERM
    assert done.stdout == "" and "Traceback" not in done.stderr
    assert done.stderr.strip().startswith("Stopped by SIGTERM.")


def test_errors_without_a_signal_stay_what_they_are():
    processes.check_not_stopped()
    with pytest.raises(SystemError, match="own"), processes.errors_are_stops():
        raise SystemError("our own")
