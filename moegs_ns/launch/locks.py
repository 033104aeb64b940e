"""Locks of runs' folders: a folder belongs to one training at a time.

A file is locked, not only written, so that a lock ends with the process that holds it, however that
ends. The command that starts trainings locks another file than the training itself does: a training
whose command was killed still keeps others out.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from nerfstudio.utils.rich_utils import CONSOLE

COMMAND_LOCK = ".lock"
"""File in a run's folder that is locked by the command which trains it."""
TRAINING_LOCK = ".training.lock"
"""File in a run's folder that is locked by the training itself."""
SECONDS_BETWEEN_CHECKS = 0.5

_claimed: dict[Path, FileLock] = {}
"""Folders of the trainings in this process."""


def claim(folder: Path) -> bool:
    """Keep other trainings out of a run's folder, until `give_up` or the end of this process.

    Returns:
        Whether it was not claimed by this process before.

    Raises:
        OSError: the folder cannot be written.
        RuntimeError: another process trains in it.
    """
    folder = folder.resolve()
    if folder in _claimed:
        return False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / TRAINING_LOCK)
        lock.acquire(blocking=False)
    except Timeout as error:
        raise RuntimeError(
            f"Another training is under way in {folder}; wait for its end or stop it, or train "
            "into a folder of its own (another --timestamp)."
        ) from error
    except OSError as error:
        raise OSError(
            f"The run's folder {folder} cannot be written ({error.strerror or error}); name "
            "another --output-dir."
        ) from error
    _claimed[folder] = lock
    return True


def give_up(folder: Path) -> None:
    """Let others train in a folder again."""
    lock = _claimed.pop(folder.resolve(), None)
    if lock is not None:
        lock.release()


@contextmanager
def locked_by_command(folder: Path, go_on: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Keep other commands out of a run's folder, once no other command and no training is in it.

    `go_on` is asked while this waits, and raises to end that.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = FileLock(folder / COMMAND_LOCK)
    _acquire(command, f"Waiting for another command, which trains {folder}.", go_on)
    try:
        wait_for_training(folder, go_on)
        yield
    finally:
        command.release()


def wait_for_training(folder: Path, go_on: Callable[[], object] = lambda: None) -> None:
    """Wait until no training of another process is in a run's folder.

    `go_on` is asked meanwhile, and raises to end that.
    """
    if folder.resolve() in _claimed:
        return
    training = FileLock(folder / TRAINING_LOCK)
    _acquire(training, f"Waiting for a training that is under way in {folder}.", go_on)
    training.release()


def _acquire(lock: FileLock, said: str, go_on: Callable[[], object]) -> None:
    try:
        lock.acquire(blocking=False)
        return
    except Timeout:
        CONSOLE.print(said, soft_wrap=True)
    while not lock.is_locked:
        go_on()
        try:
            lock.acquire(timeout=SECONDS_BETWEEN_CHECKS)
        except Timeout:
            continue
