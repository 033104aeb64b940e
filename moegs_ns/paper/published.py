"""What the paper published: its sets of experts and the figures of its tables."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

MEAN = "mean"
"""Stands for the mean over scenes where a scene's name is expected."""

NO_TABLE: dict[str, Any] = {"scenes": [], "rows": {}}


@dataclass(frozen=True)
class ExpertSet:
    """Experts that the paper mixes, and where it says so."""

    experts: tuple[str, ...]
    """Methods without prefix."""
    source: str


@dataclass(frozen=True)
class PublishedTable:
    """The figures of one of the paper's tables; memory is in MB."""

    scenes: tuple[str, ...]
    """Names of its scenes, `MEAN` for its average over them."""
    rows: Mapping[str, Mapping[str, tuple[float, ...]]]
    """By a row's label and a figure's name, in the order of the scenes."""

    def figure(self, label: str, scene: str, name: str) -> float | None:
        """A figure, or None if the paper has no such row, scene or figure."""
        values = self.rows.get(label, {}).get(name)
        names = [plain_name(each) for each in self.scenes]
        if values is None or plain_name(scene) not in names:
            return None
        return values[names.index(plain_name(scene))]


def plain_name(scene: str) -> str:
    """A scene's name as it is compared: `Flame_salmon_1` is flamesalmon."""
    return re.sub(r"[\W_]+|\d+$", "", scene.casefold())


@cache
def _content() -> dict[str, Any]:
    return json.loads(files("moegs_ns.paper").joinpath("published.json").read_text("utf8"))


def expert_sets() -> dict[str, ExpertSet]:
    """The paper's sets of experts by their short names, such as n3."""
    found = _content()["sets"].items()
    return {name: ExpertSet(tuple(each["experts"]), each["source"]) for name, each in found}


def variant_of(data_set: str) -> str:
    """What the names of published variants for a data set end with."""
    return _content()["variants"][data_set]


def published_table(number: int | str) -> PublishedTable:
    """The figures of a table of the paper; none of a table that only this project has."""
    table = _content()["tables"].get(str(number), NO_TABLE)
    rows = {
        label: {name: tuple(map(float, values)) for name, values in row.items()}
        for label, row in table["rows"].items()
    }
    return PublishedTable(tuple(table["scenes"]), rows)
