"""Result files: what made a row, why figures are missing, and remarks apart from both."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from nerfstudio.configs.method_configs import all_methods

from benchmarks.tables import Table, with_recipe
from moegs_ns.evaluation.tables import markdown_table

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
TABLES = sorted(RESULTS.rglob("*.json"))
REASON = re.compile(r"^([a-z0-9_]+(?:(?:, | to )[a-z0-9_]+)*): ")


def rows(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text())["rows"]


@pytest.mark.parametrize("path", TABLES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_reasons_explain_missing_figures_and_nothing_else(path: Path):
    """What somebody noted about a row is a `remark`."""
    for row in rows(path):
        missing = {name for name, value in row.items() if value is None}
        for part in filter(None, (row.get("reason") or "").split("; ")):
            named = REASON.match(part)
            assert named and set(re.split(", | to ", named[1])) & missing, part


@pytest.mark.parametrize(
    "path", [path for path in TABLES if path.with_suffix(".md").exists()], ids=lambda p: p.stem
)
def test_the_table_for_people_is_that_for_programs(path: Path):
    assert markdown_table(rows(path)) in path.with_suffix(".md").read_text()


def test_new_tables_say_whose_numbers_made_a_row(tmp_path: Path):
    own = {"method": "moegs-stg", "psnr": 20.0}
    published = {"method": "moegs-stg-n3v", "psnr": 21.0}
    told, other = {**own, "recipe": "published"}, {"name": "speed"}
    Table(name="t", results_dir=tmp_path).write([own, published, told, other])
    found = [row.get("recipe") for row in rows(tmp_path / "t.json")]
    assert found == ["defaults", "published", "published", None]
    assert "recipe" in (tmp_path / "t.md").read_text().splitlines()[3]
    assert with_recipe(other) == other


@pytest.mark.parametrize("name", [name for name in all_methods if name.startswith("moegs-")])
def test_methods_know_whose_numbers_they_have(name: str):
    suffixes = ("-n3v", "-technicolor", "-lite", "-dnerf", "-hypernerf", "-dycheck")
    is_published = name.endswith(suffixes) and name != "moegs-ed3dgs-dnerf"
    config: Any = all_methods[name]
    assert config.recipe == ("published" if is_published else "defaults")


@pytest.mark.parametrize("name", ["moegs-stg-n3v", "moegs-4dgaussians-n3v", "moegs-ex4dgs-n3v"])
def test_what_a_published_method_lacks_is_in_its_description(name: str):
    from nerfstudio.configs.method_configs import all_descriptions

    assert "docs/defaults.md" in all_descriptions[name]
    assert f"`{name}`" in (RESULTS.parents[1] / "docs" / "defaults.md").read_text()
