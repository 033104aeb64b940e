"""Numbers among a training's options that make no sense, whatever the method: refused before it.

A limit belongs to the name of an option, wherever it is, so that families need not repeat it.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

ABOVE_0 = (
    r"(.+_)?budget|temperature|near|fps|seconds|(.+_)?scale_factor|downscale_factor"
    r"|initial_duration"
)
AT_LEAST_1 = (
    r"(.+_)?every(_rounds)?|max_gaussians|max_num_iterations|steps_per_(save|log)|views|rounds|width"
    r"|channels|levels|hidden|embedding_size|cameras_per_time|.+_resolution|max_views|lives_per_point"
)
"""Periods, and sizes of what would not exist without."""
AT_MOST_1 = (
    r"ssim_lambda|(candidate|act|min)_ssim|lam|uniform|ratio|(error_)?quantile"
    r"|(tile_)?fraction|max_fraction|finish|last_part|initial_weight|prune_opa"
)
"""Shares of a whole."""
MAY_BE_NEGATIVE = r".*log.*|lowest_z|background|(.+_)?cameras"
"""Logarithms, coordinates, and what is checked against the data."""
HIGHEST_SH_DEGREE = 3
LARGEST_SEED = 2**32 - 1
"""Of numpy."""
OURS = ("moegs_ns.", "nerfstudio.")
"""Only their numbers are known to be amounts unless `MAY_BE_NEGATIVE` says otherwise."""


def check_numbers(config: Any) -> None:
    """Raise ValueError if a number among the options of a training is out of range."""
    for path, value, may_be_negative in numbers(config):
        option = "--" + ".".join(path).replace("_", "-")
        check_number(option, path[-1], value, may_be_negative=may_be_negative)


def check_number(option: str, name: str, value: float, *, may_be_negative: bool = False) -> None:
    """Raise ValueError if a number is none that an option of this name may have."""
    expected = None
    if not math.isfinite(value):
        expected = "a finite number"
    elif re.fullmatch(ABOVE_0, name):
        expected = None if value > 0 else "a number above 0"
    elif re.fullmatch(AT_LEAST_1, name):
        expected = None if value >= 1 else "at least 1"
    elif name == "sh_degree" and not 0 <= value <= HIGHEST_SH_DEGREE:
        expected = f"a degree of spherical harmonics from 0 to {HIGHEST_SH_DEGREE}"
    elif name in ("seed", "seeds") and not 0 <= value <= LARGEST_SEED:
        expected = f"a number from 0 to {LARGEST_SEED}"
    elif re.fullmatch(AT_MOST_1, name):
        expected = None if 0 <= value <= 1 else "a share from 0 to 1"
    elif value < 0 and not may_be_negative:
        expected = "at least 0"
    if expected is not None:
        raise ValueError(f"{option} expects {expected}, got {value}; leave it out for the default.")


def numbers(
    value: Any, path: tuple[str, ...] = (), *, may_be_negative: bool = False
) -> Iterator[tuple[tuple[str, ...], float, bool]]:
    """All numbers in a configuration by the names that lead to them, and whether they may be
    negative: those that are negative by default, and all in dataclasses of others."""
    if is_dataclass(value) and not isinstance(value, type):
        is_ours = type(value).__module__.startswith(OURS)
        for each in fields(value):
            is_signed = not is_ours or re.fullmatch(MAY_BE_NEGATIVE, each.name) is not None
            is_signed |= isinstance(each.default, int | float) and each.default < 0
            own = getattr(value, each.name)
            yield from numbers(own, (*path, each.name), may_be_negative=is_signed)
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield from numbers(part, (*path, str(name)), may_be_negative=may_be_negative)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from numbers(part, path, may_be_negative=may_be_negative)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, value, may_be_negative
