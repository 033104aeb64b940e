"""Files that appear whole: on the disk before they replace anything, with nothing left of them."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from moegs_ns import atomic_files
from moegs_ns.atomic_files import (
    atomic_write,
    atomic_write_text,
    remove_abandoned,
    replace_synced,
    temporary_folder,
)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is synced and what is renamed, in order."""
    seen: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def note_sync(descriptor: int) -> None:
        seen.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        fsync(descriptor)

    def note_replace(source, target) -> None:
        seen.append(("replace", Path(target).name))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_replace)
    return seen


def test_a_file_is_on_the_disk_before_it_replaces_another(tmp_path: Path, calls):
    folder = tmp_path / "folder"
    atomic_write_text(folder / "a.txt", "new", "text", "wait")
    part = f".writing-{os.getpid()}-a.txt"
    assert calls == [("sync", part), ("replace", "a.txt"), ("sync", "folder")]
    assert [path.name for path in folder.iterdir()] == ["a.txt"]


def test_all_of_a_folder_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, calls):
    with temporary_folder(tmp_path / "folder") as temporary:
        (temporary / "run" / "inner").mkdir(parents=True)
        (temporary / "run" / "inner" / "file").write_text("x")
        replace_synced(temporary / "run", tmp_path / "folder" / "run")
    kinds = [kind for kind, _ in calls]
    assert sorted(calls[:3]) == [("sync", "file"), ("sync", "inner"), ("sync", "run")]
    assert kinds[3:] == ["replace", "sync"] and calls[4][1] == "folder"
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["run"]


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path: Path):
    """But not what another process still writes."""
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from moegs_ns.atomic_files import atomic_write, temporary_folder\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "with atomic_write(folder / 'big', 'file', 'wait'), temporary_folder(folder) as t:\n"
        "    (t / 'half').write_text('x')\n    print('writing', flush=True)\n    time.sleep(100)"
    )
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None and writer.stdout.readline() == "writing\n"
    held = sorted(tmp_path.iterdir())
    atomic_write_text(tmp_path / "other", "1", "text", "wait")
    assert len(held) == 2 and sorted(tmp_path.iterdir()) == [*held, tmp_path / "other"]
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert sorted(tmp_path.iterdir()) == [*held, tmp_path / "other"]
    atomic_write_text(tmp_path / "other", "2", "text", "wait")
    assert list(tmp_path.iterdir()) == [tmp_path / "other"]


def test_where_nothing_can_be_locked_nothing_is_removed(tmp_path: Path, monkeypatch):
    left = tmp_path / ".writing-1-a"
    left.touch()
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError("not supported")))
        remove_abandoned(tmp_path)
        with atomic_write(tmp_path / "b", "text", "wait") as file:
            file.write(b"b")
    assert left.exists() and (tmp_path / "b").read_bytes() == b"b"
    remove_abandoned(tmp_path)
    assert not left.exists()


def test_a_pipe_with_such_a_name_stops_nobody(tmp_path: Path):
    os.mkfifo(tmp_path / ".writing-pipe")
    (tmp_path / ".writing-link").symlink_to(tmp_path / "precious")
    (tmp_path / "precious").write_text("kept")
    remove_abandoned(tmp_path)
    assert (tmp_path / "precious").read_text() == "kept"


def test_a_disk_that_cannot_sync_is_an_error(tmp_path: Path, monkeypatch):
    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(atomic_files.os, "fsync", fail)
    with pytest.raises(OSError, match=r"text cannot be written .*\(Input/output error\)"):
        atomic_write_text(tmp_path / "a", "x", "text", "wait")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_was_taken_for_abandoned_before_it_was_locked_is_made_anew(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Another thread or process that writes in the same folder looks for what nobody holds."""
    flock, taken = fcntl.flock, []

    def take_first(descriptor: int, how: int) -> None:
        if how == fcntl.LOCK_EX and not taken:
            path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
            taken.append(path)
            path.rmdir() if path.is_dir() else path.unlink()
        flock(descriptor, how)

    monkeypatch.setattr(atomic_files.fcntl, "flock", take_first)
    if kind == "file":
        atomic_write_text(tmp_path / "a.txt", "whole", "text", "retry")
        assert (tmp_path / "a.txt").read_text() == "whole"
    else:
        with temporary_folder(tmp_path) as folder:
            (folder / "a.txt").touch()
    assert len(taken) == 1 and not list(tmp_path.glob(".writing-*"))
