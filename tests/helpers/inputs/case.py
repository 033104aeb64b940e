"""One input: what is changed in a small folder of scenes and runs, the command, how it ends."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Change = Callable[[Path], object]
"""Changes the folder in which the command is typed."""


def nothing(folder: Path) -> None:
    """For inputs that are wrong on the command line alone."""


@dataclass(frozen=True)
class Case:
    """An input that is refused in a sentence, or accepted."""

    name: str
    """What is odd."""
    command: str
    """As typed in the folder with what it `needs`."""
    says: str
    """Part of what is printed, with any number of blanks between words."""
    status: int = 1
    """Exit status; 0 if it is accepted."""
    change: Change = nothing
    needs: tuple[str, ...] = ()
    """Scenes and runs by their names in `folders.py`."""
