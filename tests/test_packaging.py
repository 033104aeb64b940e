"""What the package imports is what it declares."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from pyproject import PACKAGE_DATA, PROJECT

ROOT = Path(__file__).parent.parent
FOLDERS = ("moegs_ns", "method_configs", "benchmarks")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
OURS = {*FOLDERS, *(path.stem for path in SOURCES if path.is_relative_to(ROOT / "benchmarks"))}
"""Benchmarks may also import each other by name."""
DISTRIBUTIONS = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "pytorch_msssim": "pytorch-msssim",
    "sklearn": "scikit-learn",
    "stlpips_pytorch": "stlpips-pytorch",
    "tomllib": "tomli",
    "yaml": "pyyaml",
}
"""Modules that are called otherwise than their distributions; tomllib is one before Python 3.11."""

BROUGHT = {"msgspec": "viser", "triton": "torch", "websockets": "viser"}
"""What comes with another distribution and is only used together with it."""


def names(requirements: list[str]) -> set[str]:
    return {Requirement(requirement).name for requirement in requirements}


DEPENDENCIES = names(PROJECT["dependencies"])
EXTRAS = names([name for extra in PROJECT["optional-dependencies"].values() for name in extra])


def third_party(path: Path) -> Iterator[tuple[str, bool]]:
    """Distributions that a file imports, and whether inside a function."""

    def walk(node: ast.AST, is_inside: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                modules = [alias.name for alias in child.names]
            elif isinstance(child, ast.ImportFrom):
                modules = [child.module or ""]
            else:
                yield from walk(child, is_inside or isinstance(child, ast.FunctionDef))
                continue
            for module in modules:
                name = module.partition(".")[0]
                if name not in sys.stdlib_module_names and name not in OURS:
                    yield DISTRIBUTIONS.get(name, name), is_inside

    yield from walk(ast.parse(path.read_text()), False)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_third_party_import_is_declared(path: Path):
    """In the dependencies, or in an extra and imported where it is used."""
    for name, is_inside in third_party(path):
        optional = is_inside and name in EXTRAS
        declared = BROUGHT.get(name, name) in DEPENDENCIES
        assert declared or optional, f"{path.name} imports {name}"


def test_the_check_of_imports_finds_them(tmp_path: Path):
    source = tmp_path / "example.py"
    source.write_text("import os\nimport yaml.nodes\n\ndef f():\n    from PIL import Image\n")
    assert list(third_party(source)) == [("pyyaml", False), ("pillow", True)]


def test_every_dependency_is_imported():
    imported = {name for path in SOURCES for name, _ in third_party(path)}
    assert imported >= DEPENDENCIES


def test_the_lowest_versions_that_are_tested_are_the_lower_bounds():
    lines = (ROOT / ".github" / "constraints-lowest.txt").read_text().splitlines()
    tested = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert tested.keys() == DEPENDENCIES
    for requirement in map(Requirement, PROJECT["dependencies"]):
        bounds = [part.version for part in requirement.specifier if part.operator == ">="]
        assert [Version(tested[requirement.name])] == [Version(bound) for bound in bounds]


def test_versions_agree():
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {PROJECT['version']}\n" in citation
    changelog = (ROOT / "CHANGELOG.md").read_text()
    newest = re.search(r"^## \[(\d[^\]]*)\] - \d{4}-\d{2}-\d{2}$", changelog, re.MULTILINE)
    assert newest is not None and newest.group(1) == PROJECT["version"]


def test_every_file_that_is_no_module_is_installed():
    """As package data of the package that it lies in, or below."""
    installed = {
        path
        for package, globs in PACKAGE_DATA.items()
        for pattern in globs
        for path in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    others = {
        path
        for path in (ROOT / "moegs_ns").rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    }
    assert len(others) > 1 and others <= installed
