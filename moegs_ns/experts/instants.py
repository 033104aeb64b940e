"""Gaussians of an expert at the instants of a step, replayed on a GPU where that is possible."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from moegs_ns.experts.base import Expert
from moegs_ns.gaussians import Gaussians
from moegs_ns.replay import Outputs, Replayed


@dataclass(frozen=True, eq=False)
class Instant:
    """What `Expert.at` is asked for."""

    time: Float[Tensor, ""]
    camera: Int[Tensor, ""] | None = None


@dataclass(frozen=True)
class _Form:
    """Which fields of Gaussians are tensors, and what the others are."""

    tensors: tuple[str, ...]
    plain: dict[str, Any]


class Instants:
    """Asks one expert for several instants at once.

    Equal to calling `at` for each, but on a GPU the Gaussians lie in memory that the next call
    writes again: they are to be splatted before.
    """

    def __init__(self, expert: Expert) -> None:
        # In a tuple, so that no module that holds this object registers the expert again.
        self._expert = (expert,)
        self._replayed = Replayed(self._flat, expert)
        self._has_camera: tuple[bool, ...] = ()
        self._forms: dict[tuple[bool, ...], list[_Form]] = {}
        """Of the Gaussians of each kind of question, which training and showing ask in turns."""

    @property
    def expert(self) -> Expert:
        """The expert that is asked."""
        return self._expert[0]

    def at(self, instants: Sequence[Instant]) -> list[Gaussians]:
        """The Gaussians at each of the instants."""
        key = self.expert.replay_key
        if key is None:
            return [self.expert.at(instant.time, instant.camera) for instant in instants]
        self._has_camera = tuple(instant.camera is not None for instant in instants)
        inputs = [
            value
            for instant in instants
            for value in (instant.time, instant.camera)
            if value is not None
        ]
        flat = iter(self._replayed(*inputs, key=key))
        return [
            Gaussians(**{name: next(flat) for name in form.tensors}, **form.plain)
            for form in self._forms[self._has_camera]
        ]

    def _flat(self, *inputs: Tensor) -> Outputs:
        """All tensors of all Gaussians, whose other fields are kept aside."""
        left, sets = iter(inputs), []
        for has_camera in self._has_camera:
            time = next(left)
            sets.append(self.expert.at(time, next(left) if has_camera else None))
        forms = self._forms[self._has_camera] = [form_of(gaussians) for gaussians in sets]
        return tuple(
            getattr(gaussians, name)
            for gaussians, form in zip(sets, forms, strict=True)
            for name in form.tensors
        )


def form_of(gaussians: Gaussians) -> _Form:
    """The fields of a set of Gaussians by kind."""
    values = {field.name: getattr(gaussians, field.name) for field in fields(gaussians)}
    tensors = tuple(name for name, value in values.items() if isinstance(value, Tensor))
    return _Form(tensors, {name: value for name, value in values.items() if name not in tensors})
