"""A report as one web page that needs nothing else: tables, plots, pictures, settings."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from moegs_ns.atomic_files import atomic_write_text
from moegs_ns.experts.names import readable
from moegs_ns.mixture.mixture import EXPERT_COLORS
from moegs_ns.reports.plots import Axis, Series, line_plot, point_plot
from moegs_ns.reports.run_section import RunSection
from moegs_ns.reports.scores import TEXT_COLUMNS

TEMPLATE = "page.html.jinja"
SHORT = {
    "psnr": ("PSNR", "{:.2f}", max),
    "psnr_dynamic": ("moving", "{:.2f}", max),
    "ssim": ("SSIM", "{:.4f}", max),
    "lpips": ("LPIPS", "{:.4f}", min),
    "psnr_best_expert": ("best expert", "{:.2f}", None),
    "psnr_average": ("average", "{:.2f}", None),
    "fps": ("FPS", "{:.1f}", max),
    "gaussians": ("Gaussians", "{:,}", None),
    "mb": ("MB", "{:.1f}", min),
    "train_seconds": ("trained, s", "{:.0f}", None),
}
"""Columns of the first table: heading, layout, and which value is the best. A mixture stands beside
the PSNR of its best expert and of the plain average of its experts."""
TEXTS = (*TEXT_COLUMNS, "run", "reason")
PALETTE = len(EXPERT_COLORS)


def write_page(path: Path, sections: Sequence[RunSection], about: dict[str, Any]) -> None:
    """Write the page of runs that were scored.

    Args:
        about: what `results_content` says of a table: command, hardware, commit, date, versions.

    Raises:
        OSError: it cannot be written; nothing is left of it.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string(
        files("moegs_ns.reports").joinpath(TEMPLATE).read_text("utf8")
    )
    text = template.render(
        title=title_of(sections),
        headline=headline_of(sections),
        about=about,
        short=short_table(sections),
        full=full_table(sections),
        texts=TEXTS,
        quality=quality_plots(sections),
        over=plots_over(sections),
        sections=[_shown(section) for section in sections],
    )
    atomic_write_text(path, text, "report", "name another --output")


def title_of(sections: Sequence[RunSection]) -> str:
    """The scenes of the runs."""
    scenes = dict.fromkeys(section.facts.get("scene", "") for section in sections)
    return ", ".join(filter(None, scenes)) or "Trained runs"


def headline_of(sections: Sequence[RunSection]) -> str:
    """The first mixture beside its best expert and the plain average of all, or nothing."""
    for section in sections:
        score = section.score
        if score.psnr_best_expert is not None and score.psnr_average is not None:
            best = _beside(score.psnr - score.psnr_best_expert)
            average = _beside(score.psnr - score.psnr_average)
            return (
                f"The mixture reaches {score.psnr:.2f} dB on {score.images} held-out images, "
                f"{best} its best expert and {average} the plain average of its experts."
            )
    return ""


def _beside(gain: float) -> str:
    return f"{abs(gain):.2f} dB {'above' if gain >= 0 else 'below'}"


# ---- tables ----


def short_table(sections: Sequence[RunSection]) -> dict[str, Any]:
    """The figures that are read first, the best of each in bold."""
    scores = [section.score for section in sections]
    columns = [name for name in SHORT if any(_is_known(getattr(score, name)) for score in scores)]
    rows = []
    for section in sections:
        cells = [{"text": section.name, "is_best": False}]
        for name in columns:
            _, layout, better = SHORT[name]
            value = getattr(section.score, name)
            known = [getattr(s, name) for s in scores if _is_known(getattr(s, name))]
            best = better(known) if better and len(known) > 1 else None
            text = layout.format(value) if _is_known(value) else "-"
            cells.append({"text": text, "is_best": best is not None and value == best})
        rows.append(cells)
    return {"columns": ["", *(SHORT[name][0] for name in columns)], "rows": rows}


def full_table(sections: Sequence[RunSection]) -> dict[str, Any]:
    """Every column of the results as a row, one column for each run."""
    rows = [asdict(section.score) for section in sections]
    return {
        "names": [section.name for section in sections],
        "rows": [(name, [_cell(row[name]) for row in rows]) for name in rows[0]],
    }


def _is_known(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def _cell(value: Any) -> str:
    if not _is_known(value):
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# ---- plots ----


def quality_plots(sections: Sequence[RunSection]) -> list[dict[str, Any]]:
    """PSNR against frames per second and against size; of several runs only."""
    if len(sections) < 2:
        return []
    plots = []
    for figure, label in (("fps", "frames per second"), ("mb", "size, MB")):
        series = [
            Series(
                section.name, [(getattr(section.score, figure), section.score.psnr)], k % PALETTE
            )
            for k, section in enumerate(sections)
        ]
        axis = Axis(label, is_logarithmic=True)
        plots.append({"svg": point_plot(series, axis, Axis("PSNR, dB"))})
    return plots


def plots_over(sections: Sequence[RunSection]) -> list[dict[str, Any]]:
    """PSNR by frame and by camera, where there are several of them."""
    plots = []
    for by in ("frame", "camera"):
        series = [
            Series(section.name, section.mean_by(by), k % PALETTE)
            for k, section in enumerate(sections)
        ]
        series += _experts_alone(sections, by)
        if max((len(each.points) for each in series), default=0) < 2:
            continue
        svg = line_plot(series, Axis(by, is_whole=True), Axis("PSNR, dB"))
        plots.append({"title": f"By {by}", "svg": svg, "key": _key(series)})
    return plots


def _experts_alone(sections: Sequence[RunSection], by: str) -> list[Series]:
    """Of a single mixture also its experts, which have no runs in this report."""
    if len(sections) > 1 or not sections[0].experts:
        return []
    section = sections[0]
    return [
        Series(readable(name), section.mean_by(by, f"psnr_{name}"), 1 + k % (PALETTE - 1), True)
        for k, name in enumerate(section.experts)
    ]


def _key(series: Sequence[Series]) -> list[tuple[str, int, bool]]:
    return [(each.name, each.color, each.is_dashed) for each in series]


def _shown(section: RunSection) -> dict[str, Any]:
    curves = []
    for name, points in section.curves.items():
        series = [Series(name, [(float(step), value) for step, value in points], 0)]
        curves.append(line_plot(series, Axis("step", is_whole=True), Axis(name)))
    # Gates are drawn in the colours of the experts, which are those of the first lines.
    legend = [(f"gate of {readable(n)}", k % PALETTE, False) for k, n in enumerate(section.experts)]
    return vars(section) | {"curves": curves, "legend": legend}
