"""The documentation tells the truth: links resolve, named files exist, shown commands parse."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import tyro
from command_lines import parse
from pyproject import PROJECT

from moegs_ns.scripts.main import Command, as_spelled_now

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE_BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
SOURCE_PATH = re.compile(r"(?:moegs_ns|method_configs|tests|benchmarks)/[\w/]*\w\.(?:py|sh)\b")
ENTRY_POINTS = PROJECT["entry-points"]
METHODS = ENTRY_POINTS["nerfstudio.method_configs"]
NOT_METHODS = {"moegs-ns"}
"""The distribution's own name."""

page = pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def prose(path: Path) -> str:
    return re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(path: Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", prose(path), flags=re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in kept}


def commands(path: Path, program: str) -> list[str]:
    """Command lines of one program in a page's code blocks."""
    lines = []
    for block in CODE_BLOCK.findall(path.read_text()):
        lines += block.replace("\\\n", " ").splitlines()
    return [line for line in lines if line.split(" ")[0] == program]


def manual_commands(program: str) -> list[str]:
    """Command lines of one program in the README and the pages of the manual."""
    names = ("benchmarks", "data", "evaluation", "mixture", "rendering", "report", "training")
    pages = (ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in names))
    return [line for path in pages for line in commands(path, program)]


@page
def test_relative_links_resolve(path: Path):
    for link in LINK.findall(path.read_text()):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), f"{path.name} links to {link}"
        assert not anchor or anchor in anchors(target), f"{path.name} links to {link}"


@page
def test_named_source_files_exist(path: Path):
    for name in SOURCE_PATH.findall(path.read_text()):
        assert (ROOT / name).is_file(), f"{path.name} names {name}"


@page
def test_named_methods_exist(path: Path):
    for name in re.findall(r"\bmoegs-[a-z0-9]+(?:-[a-z0-9]+)*\b", path.read_text()):
        assert name in METHODS or name in NOT_METHODS, f"{path.name} names {name}"


@pytest.mark.parametrize(
    ("question", "answer", "content"),
    [
        ("STG's densification", "moegs_ns/experts/stg/recipe.py", "densif"),
        ("STG's densification", "moegs_ns/training/densification.py", "class Densifier"),
        ("where gates are computed", "moegs_ns/mixture/mixture.py", "def blend("),
        ("where a checkpoint is opened", "moegs_ns/runs/checkpoint.py", "def load_checkpoint("),
        ("where a new data set goes", "moegs_ns/data/dataparsers", "DataParser"),
    ],
)
def test_where_do_i_find(question: str, answer: str, content: str):
    """A row of the table links to the answer, which holds what it claims."""
    path = ROOT / "docs" / "architecture.md"
    row = next(line for line in path.read_text().splitlines() if line.startswith(f"| {question}"))
    targets = {(path.parent / link).resolve() for link in LINK.findall(row)}
    target = ROOT / answer
    assert target in targets, f"expected {answer} in: {row}"
    files = [target] if target.is_file() else sorted(target.glob("*.py"))
    assert any(content in file.read_text() for file in files)


def test_new_data_sets_have_an_entry_point():
    parsers = ENTRY_POINTS["nerfstudio.dataparser_configs"]
    assert all(value.startswith("moegs_ns.data.dataparsers.") for value in parsers.values())


@pytest.mark.parametrize("line", manual_commands("ns-train"))
def test_training_commands_of_the_readme_parse(line: str):
    method, *options = shlex.split(line, comments=True)[1:]
    assert parse(method, *options).method_name == method


@pytest.mark.parametrize("line", manual_commands("moegs"))
def test_moegs_commands_of_the_readme_parse(line: str):
    words = shlex.split(line, comments=True)[1:]
    tyro.cli(Command, prog="moegs", args=as_spelled_now(words))


@pytest.mark.slow
def test_the_site_builds_without_dead_links(tmp_path: Path):
    config = str(ROOT / "mkdocs.yml")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "-f",
        config,
        "-d",
        f"{tmp_path}/site",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    front = (tmp_path / "site/index.html").read_text()
    assert "Volume-aware Pixel Router" in front and 'href="data/"' in front
    code = (tmp_path / "site/architecture/index.html").read_text()
    assert "/blob/main/moegs_ns/routers.py" in code
