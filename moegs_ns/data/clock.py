"""Times that count frames or seconds: mapped to [0, 1] alike in all splits, or refused."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from nerfstudio.data.dataparsers.base_dataparser import DataParser, DataparserOutputs
from torch import Tensor

_ROUNDING = 1e-4
"""How far times may lie outside of [0, 1] and count as its ends."""
_STEPS = 4
"""Steps of single precision between two times, at least, for them to be told apart."""
HELD_OUT_SPLITS = ("val", "test")


@dataclass(frozen=True)
class Clock:
    """The first and last time of a scene, in the data's own unit; they become 0 and 1."""

    first: float = 0.0
    last: float = 1.0

    def read(self, outputs: DataparserOutputs) -> DataparserOutputs:
        """The outputs with times in [0, 1].

        Raises:
            ValueError: a time lies outside of the clip.
        """
        cameras = outputs.cameras
        if cameras.times is None or not bool(cameras.times.isfinite().all()):
            return outputs
        length = (self.last - self.first) or 1.0
        times = (cameras.times.double() - self.first) / length
        if bool(((times < -_ROUNDING) | (times > 1.0 + _ROUNDING)).any()):
            raise ValueError(
                "Expected times of one unit in all splits, but those of the training images go "
                f"from {self.first:g} to {self.last:g} and those of the evaluation images "
                f"{_span(cameras.times)}; {_REMEDY}."
            )
        if self == Clock() and bool(((times >= 0.0) & (times <= 1.0)).all()):
            return outputs
        changed = replace(cameras, times=times.clamp(0.0, 1.0).to(cameras.times))
        return replace(outputs, cameras=changed)

    @property
    def note(self) -> str:
        """One sentence if times are mapped, else ""."""
        if self == Clock():
            return ""
        return (
            f"Times of the data go from {self.first:g} to {self.last:g} in all splits together; "
            "they are mapped to [0, 1]."
        )


_REMEDY = "give all of them in [0, 1], or all as frame numbers or seconds of one clip"


def clock_of(training: DataparserOutputs, parser: DataParser) -> Clock:
    """The clock that all splits of a scene share; the other splits are parsed only if the training
    images' times do not lie in [0, 1].

    Raises:
        ValueError: splits have different units, or single precision cannot hold the times.
    """
    times = _times(training)
    if times is None or _is_unit(times):
        return Clock()
    splits = {"training": times}
    for split in HELD_OUT_SPLITS:
        try:
            held_out = _times(parser.get_dataparser_outputs(split=split))
        except FileNotFoundError:
            continue  # Refused when it is to be read.
        if held_out is not None:
            splits[split] = held_out
    _check_units(splits)
    together = torch.cat(list(splits.values())).double()
    _check_precision(times)
    return Clock(float(together.min()), float(together.max()))


def _times(outputs: DataparserOutputs) -> Float[Tensor, "M"] | None:
    """Times of the images; None without any, or if one is no number, which is refused later."""
    times = outputs.cameras.times
    if times is None or not times.numel() or not bool(times.isfinite().all()):
        return None
    return times.reshape(-1).cpu()


def _is_unit(times: Float[Tensor, "M"]) -> bool:
    return bool(((times >= -_ROUNDING) & (times <= 1.0 + _ROUNDING)).all())


def _check_units(splits: Mapping[str, Float[Tensor, "M"]]) -> None:
    """Raise if a split of several times looks as if it were in [0, 1] already."""
    for split, times in splits.items():
        if _is_unit(times) and len(times.unique()) > 1:
            raise ValueError(
                "Expected times of one unit in all splits, but those of the training images go "
                f"{_span(splits['training'])} and those of the split {split} {_span(times)}; "
                f"{_REMEDY}."
            )


def _check_precision(times: Float[Tensor, "M"]) -> None:
    """Raise if times are so large that neighbours may be equal in single precision."""
    distinct = times.unique().double()
    largest = float(distinct.abs().max())
    step = float(np.spacing(np.float32(largest)))
    gap = float(distinct.diff().min()) if len(distinct) > 1 else (1.0 if step < 1.0 else 0.0)
    if gap < _STEPS * step:
        raise ValueError(
            f"Expected times that single precision tells apart, but those of the training images "
            f"go {_span(times)}, where it has steps of {step:g}; subtract the first time from "
            "those of all splits."
        )


def _span(times: Float[Tensor, "*s"]) -> str:
    return f"from {float(times.min()):g} to {float(times.max()):g}"
