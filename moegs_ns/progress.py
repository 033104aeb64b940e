"""A bar for what takes longer than a look at it."""

from collections.abc import Iterable, Sized
from typing import TypeVar

from nerfstudio.utils.rich_utils import CONSOLE
from rich.progress import track as rich_track

Item = TypeVar("Item")


def track(items: Iterable[Item], what: str, total: int | None = None) -> Iterable[Item]:
    """The items, with a bar on the terminal that names what is done with them and tells the time
    left; it is gone afterwards, and never in a file. One bar at a time."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    return rich_track(
        items, what, total, console=CONSOLE, transient=True, disable=not CONSOLE.is_terminal
    )
