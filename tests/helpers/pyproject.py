"""The project's metadata, as pyproject.toml states it."""

import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_CONTENT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
PROJECT = _CONTENT["project"]
PACKAGE_DATA = _CONTENT["tool"]["setuptools"]["package-data"]
"""Patterns of files that are installed beside modules, by the package that they lie in."""
