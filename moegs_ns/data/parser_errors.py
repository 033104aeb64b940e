"""Mistakes of a scene's files that parsers of other packages end in errors of their own about."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any

from moegs_ns.errors import is_sentence

PARSE = "get_dataparser_outputs"
"""What parsers are asked by."""
PARSERS = ".dataparsers."
"""In the names of modules of parsers."""
MENTIONED = 200
"""Characters of such an error that are told."""


@contextmanager
def telling_of_the_scene(parser: Any, data: Path) -> Iterator[None]:
    """Say in one sentence that a parser could not read the scene in the folder `data`.

    Args:
        parser: its configuration.

    Raises:
        ValueError: the parser failed; errors from elsewhere stay.
    """
    try:
        yield
    except Exception as error:
        if is_sentence(error) or not _is_of_a_parser(error):
            raise
        name = type(parser).__name__.removesuffix("Config").removesuffix("DataParser")
        said = shorten(f"{type(error).__name__}: {error}", MENTIONED, placeholder=" ...")
        raise ValueError(
            f"Expected a scene in the layout {name} at {data}, but it cannot be read ({said}); "
            "correct its files, or name the parser of its own layout."
        ) from error


def _is_of_a_parser(error: Exception) -> bool:
    """Whether an error comes out of a parser, also while it is made."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(
        frame.f_code.co_name == PARSE or PARSERS in str(frame.f_globals.get("__name__"))
        for frame in frames
    )
