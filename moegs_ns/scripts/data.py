"""`moegs data`: the decoded frames of scenes, which take much room."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import tyro
from nerfstudio.utils.rich_utils import CONSOLE
from rich.table import Table

from moegs_ns.data.frames.housekeeping import StoredFrames, find_stored, remove
from moegs_ns.reports.scores import BYTES_PER_MB


@dataclass
class ListFrames:
    """List the decoded frames of scenes: one row for each choice of frames and options."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Scene folders, or folders given as --frame-store-dir; without any, the user's cache folder,
    where the frames of scenes are that cannot be written."""

    def main(self) -> None:
        """Print the table."""
        print_stored(find_stored(self.folders))


@dataclass
class CleanFrames:
    """Remove decoded frames: those whose videos or images have changed since, and what interrupted
    builds left; or others that are chosen here. Nothing that a process uses is removed, and what
    a training needs again is decoded again."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """As for `moegs data list`."""
    names: tuple[str, ...] = ()
    """Remove these, by their names in that list, and no others."""
    unused_days: float | None = None
    """Also remove what was not used for so many days."""
    dry_run: bool = False
    """Print what would be removed and stop."""

    def main(self) -> None:
        """Choose, remove, print.

        Raises:
            ValueError: a name is none of the list, or the days are negative.
        """
        if self.unused_days is not None and not self.unused_days >= 0.0:
            raise ValueError(f"--unused-days expects at least 0 days, got {self.unused_days:g}.")
        chosen = self.chosen(find_stored(self.folders))
        if not chosen:
            CONSOLE.print("Nothing to remove.")
            return
        freed = 0
        for each in chosen:
            what = f"{each.name}: {each.num_bytes / BYTES_PER_MB:,.1f} MB of {each.scene}"
            if self.dry_run:
                said = "would be removed, unless in use"
            elif remove(each):
                said, freed = "removed", freed + each.num_bytes
            else:
                said = "left, as a process uses it"
            CONSOLE.print(f"{what}, {each.frames}, {each.options}: {said}", soft_wrap=True)
        if not self.dry_run:
            CONSOLE.print(f"{freed / BYTES_PER_MB:,.1f} MB are free again.")

    def chosen(self, stored: Sequence[StoredFrames]) -> list[StoredFrames]:
        """Those to remove."""
        if self.names:
            unknown = sorted(set(self.names) - {each.name for each in stored})
            if unknown:
                raise ValueError(
                    f"--names expects names that `moegs data list` prints for these folders, got "
                    f"{unknown[0]}."
                )
            return [each for each in stored if each.name in self.names]
        days = self.unused_days
        return [e for e in stored if e.can_go or (days is not None and e.unused_days >= days)]


def print_stored(stored: Sequence[StoredFrames]) -> None:
    """A table, and the room that all take."""
    table = Table(title="Decoded frames")
    for column in ("name", "scene", "frames", "options", "MB", "last used", "state"):
        table.add_column(column, justify="right" if column == "MB" else "left", overflow="fold")
    for each in sorted(stored, key=lambda each: (str(each.scene), each.last_used)):
        table.add_row(
            each.name,
            str(each.scene),
            each.frames,
            each.options,
            f"{each.num_bytes / BYTES_PER_MB:,.1f}",
            f"{datetime.fromtimestamp(each.last_used):%Y-%m-%d %H:%M}",
            each.state,
        )
    CONSOLE.print(table)
    total = sum(each.num_bytes for each in stored)
    CONSOLE.print(f"{total / BYTES_PER_MB:,.1f} MB in all.")


@dataclass
class Data:
    """List or remove the decoded frames of scenes."""

    what: Annotated[
        Annotated[ListFrames, tyro.conf.subcommand("list", prefix_name=False)]
        | Annotated[CleanFrames, tyro.conf.subcommand("clean", prefix_name=False)],
        tyro.conf.arg(name=""),
    ]
    """What to do."""

    def main(self) -> None:
        """Run the chosen command."""
        self.what.main()
