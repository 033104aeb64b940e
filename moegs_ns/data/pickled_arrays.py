"""Pickles of containers, text and numbers, read without calling anything that they name.

A pickle is a program: what it names is imported and called. Here names stand for a handful of
functions of this file, so that numpy's arrays can be read and nothing else can happen.
"""

import io
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Shaped

from moegs_ns.data.damaged_files import damage_as_value_error

LARGEST = 2**26
"""Bytes of a file; those of data sets have some millions."""
MOST_STEPS = 2**22
"""Of a pickle; a step of one byte may make an object of a hundred."""
_OPCODES = frozenset((
    "PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2",
    "LONG1", "BINFLOAT", "SHORT_BINSTRING", "BINSTRING", "SHORT_BINBYTES", "BINBYTES",
    "SHORT_BINUNICODE", "BINUNICODE", "EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_TUPLE", "TUPLE",
    "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_DICT", "SETITEM", "SETITEMS", "BINPUT", "LONG_BINPUT",
    "MEMOIZE", "BINGET", "LONG_BINGET", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD",
))  # fmt: skip
"""What numpy.save writes of such content with the protocols 2 to 4."""
_KINDS = "biufUO"
"""Of arrays: truth values, numbers, text, and objects, which are a list here."""


class PickledArray:
    """An array in a pickle, whose state follows its making."""

    values: Shaped[np.ndarray, "..."] | list[Any]
    """Numbers or text; a list of objects, in the order of rows."""

    def __setstate__(self, state: tuple[int, tuple[int, ...], "_Kind", bool, Any]) -> None:
        _, shape, kind, is_by_column, raw = state
        if kind.dtype.kind == "O":
            if not isinstance(raw, list):
                raise ValueError("an array of objects that lists none")
            self.values = raw
            return
        # Python 2 wrote bytes as text.
        data = raw.encode("latin1") if isinstance(raw, str) else raw
        flat = np.frombuffer(data, dtype=kind.dtype)
        self.values = flat.reshape(shape, order="F" if is_by_column else "C")


class _Kind:
    """numpy's dtype in a pickle."""

    def __init__(self, dtype: np.dtype) -> None:
        self.dtype = dtype

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Global:
    """What a pickle may name: it can be called and not changed."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise ValueError("it changes what it names")


def read_pickled_array(path: Path) -> list[Any]:
    """The objects of an array of objects that numpy.save wrote: containers, text, numbers and
    `PickledArray`. Nothing that the file names is imported or called.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds something else, or is damaged.
    """
    if path.stat().st_size > LARGEST:
        raise ValueError(f"it has {path.stat().st_size:,} bytes, more than {LARGEST:,}")
    with damage_as_value_error():
        with path.open("rb") as file:
            content = _after_header(file)
        _check_steps(content)
        array = _Unpickler(content).load()
    values = array.values if isinstance(array, PickledArray) else None
    if not isinstance(values, list):
        raise ValueError("no array of objects")
    return values


def _after_header(file: BinaryIO) -> bytes:
    """The pickle in numpy's format."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        _, _, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        _, _, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"version {version} of numpy's format")
    if dtype != np.dtype(object):
        raise ValueError("it holds numbers alone")
    return file.read()


def _check_steps(content: bytes) -> None:
    """Raise unless a pickle has the steps alone that such content needs; none is taken."""
    for place, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if opcode.name not in _OPCODES:
            raise ValueError(f"the step {opcode.name}, which no array needs")
        # The memory of the reader is as large as the largest of these numbers.
        if opcode.name == "LONG_BINPUT" and argument is not None and argument > place:
            raise ValueError(f"the place {argument} in memory at the step {place}")
        if place > MOST_STEPS:
            raise ValueError(f"more than {MOST_STEPS:,} steps")


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        # numpy 2 has moved its core.
        known = _GLOBALS.get((module.replace("numpy._core", "numpy.core"), name))
        if known is None:
            raise ValueError(f"it names {module}.{name}, which is no part of an array")
        return known


def _reconstruct(subtype: Any, *_: Any) -> PickledArray:
    if subtype is not _GLOBALS["numpy", "ndarray"]:
        raise ValueError("an array of another type")
    return PickledArray()


def _kind(code: Any, *_: Any) -> _Kind:
    dtype = np.dtype(code) if isinstance(code, str) else None
    if dtype is None or dtype.kind not in _KINDS:
        raise ValueError(f"an array of the type {code!r}")
    return _Kind(dtype)


def _scalar(kind: Any, raw: Any) -> Any:
    array = PickledArray()
    array.__setstate__((1, (), kind, False, raw))
    return array


def _encoded(text: Any, encoding: Any) -> bytes:
    """Protocol 2 has no bytes, and asks for their text to be encoded."""
    if not (isinstance(text, str) and encoding == "latin1"):
        raise ValueError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


def _no_array(*_: Any) -> None:
    raise ValueError("an array made without its numbers")


_GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"): _Global(_reconstruct),
    ("numpy.core.multiarray", "scalar"): _Global(_scalar),
    ("numpy", "ndarray"): _Global(_no_array),
    ("numpy", "dtype"): _Global(_kind),
    ("_codecs", "encode"): _Global(_encoded),
}
