"""Results as pages: Markdown and HTML from one layout, JSON for programs."""

import base64
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from moegs_ns.atomic_files import atomic_write_text
from moegs_ns.evaluation.tables import Row, results_content
from moegs_ns.paper.published import MEAN
from moegs_ns.paper.running import Result
from moegs_ns.paper.summary import Line, flat_row
from moegs_ns.paper.tables.base import title_of

TEMPLATE = "page.html.jinja"
REMEDY = "name another --output"
COLUMNS = {
    "psnr": ("PSNR", "{:.2f}"),
    "psnr_min": ("PSNR, least", "{:.2f}"),
    "psnr_max": ("PSNR, most", "{:.2f}"),
    "ssim": ("SSIM", "{:.3f}"),
    "lpips": ("LPIPS", "{:.3f}"),
    "fps": ("FPS", "{:.1f}"),
    "mb": ("MB", "{:.1f}"),
    "gaussians": ("Gaussians", "{:,.0f}"),
    "time_share": ("share of time", "{:.3f}"),
    "router_share": ("router's time over experts'", "{:.3f}"),
    "gain_best": ("over best expert", "{:+.2f}"),
    "gain_average": ("over plain average", "{:+.2f}"),
}
"""Heading and form of each figure."""
BY_SCENE = ("psnr", "ssim", "lpips")
"""Figures that are also shown scene by scene."""
UNKNOWN = "-"
LEGEND = "The best of our rows is bold, the second best {second}; columns 'paper' are published."


@dataclass(frozen=True)
class GridCell:
    """Text of a cell, the rank of its figure, and whether the paper says it."""

    text: str
    rank: int | None = None
    is_paper: bool = False


@dataclass(frozen=True)
class Grid:
    """A table as it is drawn."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[GridCell]]


def grids_of(result: Result) -> list[Grid]:
    """The means over scenes and, where there are several scenes or the paper has the same, each
    metric scene by scene."""
    means = [line for line in result.lines if line.scene == MEAN]
    scenes = list(dict.fromkeys(line.scene for line in result.lines if line.scene != MEAN))
    grids = []
    if means:
        is_in_paper = any(line.paper(name) is not None for line in means for name in result.columns)
        alone = f"{scenes[0]} beside the paper's means" if is_in_paper else scenes[0]
        title = f"Means over {len(scenes)} scenes" if len(scenes) > 1 else alone
        wanted = [(COLUMNS[name][0], MEAN, name) for name in result.columns]
        grids.append(with_seeds(_grid(title, wanted, result.lines), means))
    by_scene = [line for line in result.lines if line.scene != MEAN]
    for name in (name for name in BY_SCENE if name in result.columns):
        is_in_paper = any(line.paper(name) is not None for line in by_scene)
        if len(scenes) > 1 or is_in_paper:
            wanted = [(scene, scene, name) for scene in scenes]
            grids.append(_grid(f"{COLUMNS[name][0]} by scene", wanted, result.lines))
    return grids


def _grid(title: str, wanted: Sequence[tuple[str, str, str]], lines: Sequence[Line]) -> Grid:
    """A grid of columns, each of a heading, a scene and a figure's name; the paper's figures stand
    beside ours where it has any."""
    by_place = {(line.label, line.scene): line for line in lines}
    labels = list(dict.fromkeys(line.label for line in lines))
    columns, cells = [""], [[GridCell(label)] for label in labels]
    for heading, scene, name in wanted:
        own = [by_place.get((label, scene)) for label in labels]
        columns.append(heading)
        for row, line in zip(cells, own, strict=True):
            row.append(_cell(line, name))
        if any(line is not None and line.paper(name) is not None for line in own):
            columns.append("paper")
            for row, line in zip(cells, own, strict=True):
                paper = None if line is None else line.paper(name)
                text = UNKNOWN if paper is None else COLUMNS[name][1].format(paper)
                row.append(GridCell(text, is_paper=True))
    return Grid(title, columns, cells)


def with_seeds(grid: Grid, means: Sequence[Line]) -> Grid:
    """The grid with the number of seeds of each row's mean, where any has several."""
    counts = {line.label: len(line.seeds) for line in means}
    if max(counts.values()) == 1:
        return grid
    cells = [GridCell(str(counts.get(row[0].text, UNKNOWN))) for row in grid.rows]
    rows = [[*row, cell] for row, cell in zip(grid.rows, cells, strict=True)]
    return replace(grid, columns=[*grid.columns, "n"], rows=rows)


def _cell(line: Line | None, name: str) -> GridCell:
    if line is None or name not in line.figures:
        return GridCell(UNKNOWN)
    figure, form = line.figures[name], COLUMNS[name][1]
    text = form.format(figure.value)
    if figure.spread is not None:
        text += f" ± {form.replace('+', '').format(figure.spread)}"
    return GridCell(text, figure.rank)


def markdown_of(results: Sequence[Result], about: dict[str, Any]) -> str:
    """A file of all tables as Markdown."""
    said = f"{about['hardware']}, commit {about['commit']}, {about['date']}."
    legend = LEGEND.format(second="italic")
    return f"`{about['command']}`  \n{said} {legend}\n\n{markdown_tables(results)}"


def markdown_tables(results: Sequence[Result]) -> str:
    """All tables as Markdown, each with what it says."""
    lines = []
    for result in results:
        lines += [f"## {title_of(result.table)}", "", f"{result.table.about}.", ""]
        for grid in grids_of(result):
            rows = [grid.columns, ["---"] * len(grid.columns)]
            rows += [[_in_markdown(cell) for cell in row] for row in grid.rows]
            lines += [f"### {grid.title}", ""]
            lines += ["| " + " | ".join(row) + " |" for row in rows]
            lines.append("")
        lines += [f"- {text}" for text in (*result.findings, *result.remarks)] + [""]
    return "\n".join(lines)


def _in_markdown(cell: GridCell) -> str:
    around = {1: "**", 2: "_"}.get(cell.rank or 0, "")
    return f"{around}{cell.text}{around}"


def html_of(results: Sequence[Result], about: dict[str, Any], pictures: Sequence[Path] = ()) -> str:
    """All tables, and pictures of figures (PNG), as one page that needs nothing else."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = files("moegs_ns.paper").joinpath(TEMPLATE).read_text("utf8")
    shown = [(result, title_of(result.table), grids_of(result)) for result in results]
    legend = LEGEND.format(second="underlined")
    embedded = [
        (path.stem.replace("_", " ").capitalize(), base64.b64encode(path.read_bytes()).decode())
        for path in pictures
    ]
    return environment.from_string(template).render(
        shown=shown, about=about, legend=legend, pictures=embedded
    )


def flat_rows(results: Sequence[Result]) -> list[Row]:
    """A row for each line of each table."""
    return [
        {"table": result.table.number, **flat_row(line, result.columns)}
        for result in results
        for line in result.lines
    ]


def write_results_of(
    results: Sequence[Result], table: Path, page: Path | None, pictures: Sequence[Path] = ()
) -> list[Path]:
    """Write JSON and, beside it, Markdown; and the page where one is asked for, with pictures of
    figures; what was written.

    Raises:
        OSError: one cannot be written; nothing is left of that one.
    """
    about = results_content(flat_rows(results), shlex.join(["moegs", *sys.argv[1:]]))
    about["tables"] = [
        {"table": each.table.number, "about": each.table.about,
         "findings": list(each.findings), "remarks": list(each.remarks)}
        for each in results
    ]  # fmt: skip
    atomic_write_text(table, json.dumps(about, indent=1) + "\n", "table", REMEDY)
    text = markdown_of(results, about)
    atomic_write_text(table.with_suffix(".md"), text, "table", REMEDY)
    written = [table, table.with_suffix(".md")]
    if page is not None:
        atomic_write_text(page, html_of(results, about, pictures), "page", REMEDY)
        written.insert(0, page)
    return written
