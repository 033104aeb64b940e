"""An input is tried, and what must hold of every one is looked at."""

import itertools
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from inputs.case import Case
from inputs.folders import copied
from inputs.running import Outcome, run

SECONDS = 20.0
"""At most for an answer."""
BEGINNING = 60
"""Characters of a sentence that are compared with docs/inputs.md."""
TEMPORARY = (".writing-", ".part", ".tmp")
"""Parts of the names of files that are not whole yet."""
_numbers = itertools.count()

Listing = dict[str, tuple[int, int]]


def tried(case: Case, base: Path, page: Mapping[tuple[str, str], str] | None = None) -> str:
    """What the command says; `base` is the folder whose scenes and runs are copied, `page` what
    docs/inputs.md says of inputs.

    Raises:
        AssertionError: it ends otherwise than expected.
    """
    place = copied(base, base.parent / f"input-{os.getpid()}-{next(_numbers)}", case.needs)
    try:
        case.change(place)
        before = listing(place)
        outcome = run(case.command, place)
        sentence = outcome.sentence(place)
        check(case, outcome)
        written = (page or {}).get((case.name, case.command), "")
        if not case.says and written.startswith("Expected "):
            # What other packages say of it, in brackets, differs between their versions.
            assert beginning(sentence) == beginning(written), sentence
        check_files(case, before, listing(place))
        return sentence
    finally:
        shutil.rmtree(place)


def beginning(sentence: str) -> str:
    """What this package says in every version of others."""
    return sentence.partition("(")[0][:BEGINNING].strip()


def check(case: Case, outcome: Outcome) -> None:
    """The status, the sentence, no traceback, in time."""
    assert outcome.status == case.status, outcome
    assert " ".join(case.says.split()) in outcome.printed, outcome
    assert not outcome.has_traceback, outcome
    assert outcome.seconds < SECONDS, outcome
    # nerfstudio's own sentence about outputs that a model does not have has a rule above it.
    is_told = "Error: " in outcome.printed or "Error ─" in outcome.printed
    assert outcome.status != 1 or is_told, outcome


def listing(folder: Path) -> Listing:
    """Size and time of every file."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            status = path.lstat()
            found[str(path.relative_to(folder))] = status.st_size, status.st_mtime_ns
    return found


def check_files(case: Case, before: Listing, after: Listing) -> None:
    """A command that is refused has changed nothing and left nothing half-written."""
    temporary = [name for name in after if any(part in name for part in TEMPORARY)]
    assert temporary == [name for name in before if any(part in name for part in TEMPORARY)]
    if case.status != 0:
        kept = (name for name in before if not _may_be_left(name, case.command))
        changed = {name for name in kept if after.get(name) != before[name]}
        assert not changed, changed
        new = {name for name in set(after) - set(before) if not _may_be_left(name, case.command)}
        assert not new, new


def _may_be_left(name: str, command: str) -> bool:
    """Settings of a training that was refused, decoded frames, and the camera path of a video."""
    is_path = command.startswith("moegs render") and name.endswith(".json")
    return name.startswith("outputs/") or "moegs_frames/" in name or is_path
