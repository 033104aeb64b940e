"""Modules of Triton kernels, which can be imported only where Triton is there."""

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType


@cache
def triton_module(name: str) -> ModuleType | None:
    """A module of kernels; None where Triton, which comes with torch for CUDA, is missing."""
    return None if find_spec("triton") is None else import_module(name)
