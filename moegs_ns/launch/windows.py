"""Trainings of consecutive windows of a clip, which make one expert (the paper's STG†)."""

import itertools
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nerfstudio.data.dataparsers.base_dataparser import DataParserConfig

from moegs_ns.data.scene_files import check_files
from moegs_ns.experts.windows import Window
from moegs_ns.launch.cli_args import parser_args
from moegs_ns.launch.jobs import TrainingJob


def window_trainings(
    job: TrainingJob,
    methods: Sequence[str],
    parser: DataParserConfig,
    own_options: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> tuple[TrainingJob, ...]:
    """One training for each method, of its own window of the clip, all else as in `job`.

    The windows are as long as each other, give or take a frame. `own_options` are options of single
    methods.

    Raises:
        ValueError: the parser has no --frames, or there are fewer frames than windows.
    """
    windows = equal_windows(clip_of(parser, job.data), len(methods))
    return tuple(
        replace(
            job,
            method=method,
            options=(*job.options, *own_options.get(method, ())),
            parser=tuple(parser_args(on_window(parser, window))),
            part=f"frames {window[0]} to {window[1]}",
        )
        for method, window in zip(methods, windows, strict=True)
    )


def equal_windows(clip: Window, count: int) -> list[Window]:
    """Consecutive windows of a clip, whose lengths differ by a frame at most.

    Raises:
        ValueError: there are fewer frames than windows.
    """
    first, last = clip
    length = last - first + 1
    if count > length:
        raise ValueError(
            f"--experts expects at most as many windows, joined by +, as the clip has frames, got "
            f"{count} for frames {first} to {last}; name fewer, or more --frames."
        )
    ends = [first + length * number // count for number in range(count + 1)]
    return [(start, end - 1) for start, end in itertools.pairwise(ends)]


def clip_of(parser: DataParserConfig, data: Path) -> Window:
    """First and last frame that a parser reads of a scene.

    Raises:
        ValueError: it cannot read a part of the recording.
    """
    if not hasattr(parser, "frames"):
        name = parser_args(parser)[0]
        raise ValueError(
            f"Windows joined by + in --experts expect a parser with --frames, but {name} always "
            "reads the whole recording; use another layout of the data, or name one method."
        )
    check_files(data)
    own = copy(parser)
    own.data = data
    metadata = own.setup().get_dataparser_outputs(split="train").metadata
    first = int(metadata["first_frame"])
    return first, first + int(metadata["num_frames"]) - 1


def on_window(parser: DataParserConfig, window: Window) -> Any:
    """The parser, reading only a window."""
    own: Any = copy(parser)
    own.frames = window
    return own
