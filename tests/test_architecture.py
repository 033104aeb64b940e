"""The shape of the house: imports point one way, files and functions stay small."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "moegs_ns"
LAYERS = (
    {
        "gaussians",
        "cameras",
        "scene",
        "seeds",
        "atomic_files",
        "triton_modules",
        "errors",
        "ply",
        "progress",
        "spz",
        "cuda_graphs",
    },
    {"splatting"},
    {"training"},
    {"experts"},
    {"routers"},
    {"mixture"},
    {"evaluation"},
    {"data", "demo"},
    {"runs"},
    {"launch"},
    {"models"},
    {"engine"},
    {"reports"},
    {"paper"},
    {"scripts", "method_configs"},
)
"""Lower rows import nothing from higher ones; within a row imports are free."""
ENGINE = ("nerfstudio.engine", "nerfstudio.pipelines", "nerfstudio.models", "nerfstudio.scripts")
ENGINE_EXCEPTIONS = {"nerfstudio.engine.schedulers"}
"""Plain configuration objects, without the training loop."""

SOURCES = sorted(PACKAGE.rglob("*.py")) + sorted((ROOT / "method_configs").glob("*.py"))
BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.py"))


def room(path: Path) -> str:
    """First name below the package, for example `experts`."""
    if path.is_relative_to(ROOT / "method_configs"):
        return "method_configs"
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found.add(node.module or "")
    return found


def layer_of(name: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if name in names)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path):
    if path == PACKAGE / "__init__.py":
        return
    own = layer_of(room(path))
    for module in imported_modules(path):
        if module.startswith("moegs_ns."):
            other = module.split(".")[1]
            assert layer_of(other) <= own, f"{path.name} imports {module} from a higher room"
        if own < layer_of("data") and module.startswith(ENGINE):
            assert module in ENGINE_EXCEPTIONS, f"{path.name} imports nerfstudio's {module}"


def test_no_circle_between_modules():
    """Imports inside of functions count as well."""
    files = {module_name(path): path for path in PACKAGE.rglob("*.py")}
    graph = {name: modules_run_by(path, set(files)) - {name} for name, path in files.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def modules_run_by(path: Path, known: set[str]) -> set[str]:
    """Modules that a file imports; `from a import b` means `a.b` where that is one of the known."""
    found = imported_modules(path) & known
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & known
            if names <= known:
                found.discard(str(node.module))
    return found


def test_only_commands_import_commands():
    """What a command computes is library code, which benchmarks use as well."""
    for path in [*SOURCES, *BENCHMARKS]:
        if not path.is_relative_to(PACKAGE / "scripts"):
            modules = imported_modules(path)
            assert not [name for name in modules if name.startswith("moegs_ns.scripts")], path


def test_every_room_has_its_place():
    rooms = {room(path) for path in SOURCES} - {"__init__"}
    assert rooms <= set().union(*LAYERS)


@pytest.mark.parametrize(
    "path", [*SOURCES, *BENCHMARKS], ids=lambda path: str(path.relative_to(ROOT))
)
def test_files_and_functions_stay_small(path: Path):
    text = path.read_text()
    assert text.count("\n") <= 400, f"{path.name} has {text.count(chr(10))} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 60, f"{path.name}: {node.name} has {length} lines"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_jaxtyped_modules_do_not_postpone_annotations(path: Path):
    assert "from __future__ import annotations" not in path.read_text()


@pytest.mark.parametrize("name", ["basketball", "mutant", "coffee_martini", "flame_steak"])
def test_no_scene_is_named_in_the_code(name: str):
    assert not [path for path in SOURCES if name in path.read_text()]


def test_outside_their_files_nothing_knows_the_families():
    """Only a family's own folder and method files (and the demo) import it."""
    families = {path.parent for path in (PACKAGE / "experts").glob("*/__init__.py")}
    assert {path.name for path in families} == {
        "stg", "fourdgaussians", "ex4dgs", "ed3dgs", "freetime", "tracked"
    }  # fmt: skip
    prefixes = tuple(f"moegs_ns.experts.{path.name}" for path in families)
    for path in SOURCES:
        if path.parent not in families and room(path) != "method_configs":
            assert not [name for name in imported_modules(path) if name.startswith(prefixes)], path


def test_dataparsers_import_neither_datamanagers_nor_models():
    """nerfstudio loads them in the middle of importing its datamanagers."""
    paths = [path for path in SOURCES if path.parent == PACKAGE / "data" / "dataparsers"]
    assert len(paths) > 1
    for path in paths:
        for module in imported_modules(path):
            forbidden = ("datamanager", "nerfstudio.models", "moegs_ns.models", "pipelines")
            assert not any(word in module for word in forbidden), f"{path.name}: {module}"


def test_every_package_is_installed_once():
    listed = (ROOT / "pyproject.toml").read_text().partition("\npackages = [")[2].partition("]")[0]
    folders = [path.parent for path in PACKAGE.rglob("__init__.py")]
    names = [".".join(folder.relative_to(ROOT).parts) for folder in folders]
    expected = [*names, "moegs_ns.method_configs"]
    assert sorted(listed.replace('"', "").replace(",", "").split()) == sorted(expected)


def test_optional_libraries_are_not_imported_with_the_package():
    """Training on a GPU from images needs no numba, no video decoder and no COLMAP."""
    code = (
        "import sys\n"
        "for name in ('numba', 'av', 'pycolmap'): sys.modules[name] = None\n"
        "import moegs_ns.scripts.main, moegs_ns.method_configs.mixture\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
