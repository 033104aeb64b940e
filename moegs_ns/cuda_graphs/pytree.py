"""Dataclasses of tensors taken apart and put together again, for what passes plain tensors only."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Form:
    """What is left of a dataclass without its tensors."""

    kind: type
    tensors: tuple[str, ...]
    parts: dict[str, "Form"]
    """Fields that are dataclasses themselves."""
    plain: dict[str, Any]

    def filled(self, tensors: Iterator[Tensor]) -> Any:
        """The dataclass with the next of `tensors`, in the order of `taken_apart`."""
        values = {name: next(tensors) for name in self.tensors}
        values |= {name: part.filled(tensors) for name, part in self.parts.items()}
        return self.kind(**values, **self.plain)


def taken_apart(value: Any) -> tuple[list[Tensor], Form]:
    """All tensors of a dataclass, those of the dataclasses in it last, and its form."""
    own = {field.name: getattr(value, field.name) for field in fields(value)}
    tensors = {name: item for name, item in own.items() if isinstance(item, Tensor)}
    inner = {name: taken_apart(item) for name, item in own.items() if is_dataclass(item)}
    parts = {name: form for name, (_, form) in inner.items()}
    plain = {name: item for name, item in own.items() if name not in tensors | parts}
    flat = [*tensors.values(), *(tensor for found, _ in inner.values() for tensor in found)]
    return flat, Form(type(value), tuple(tensors), parts, plain)
