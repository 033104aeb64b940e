"""Pictures of a benchmark: milliseconds of every way to draw a frame, and of the parts of steps."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from moegs_ns.evaluation.tables import Row
from moegs_ns.mixture.mixture import EXPERT_COLORS
from moegs_ns.reports.benchmark.steps import PARTS, WHOLE
from moegs_ns.reports.benchmark.ways import FRAME
from moegs_ns.reports.pictures import save_picture

WIDTH, ROW_HEIGHT, REST = 8.0, 0.38, 1.3
"""Size of a picture in inches: its width, the height of a row, and that of title and axis."""
DPI = 120


def save_frames(path: Path, rows: Sequence[Row]) -> None:
    """A bar for each way that was measured, with frames a second beside it and lines from the
    fastest to the slowest frame."""
    rows = [row for row in rows if row["median_ms"] is not None]
    figure = Figure(figsize=(WIDTH, REST + ROW_HEIGHT * len(rows)), layout="constrained")
    axes = figure.subplots()
    values = [row["median_ms"] for row in rows]
    spread = [
        [row["median_ms"] - row["min_ms"] for row in rows],
        [row["max_ms"] - row["median_ms"] for row in rows],
    ]
    colors = [EXPERT_COLORS[1 if row["what"] == FRAME else 0] for row in rows]
    labels = [f"{row['what']}  ({row['fps']:.4g} FPS)" for row in rows]
    axes.barh(labels, values, xerr=spread, color=colors, ecolor="0.4", capsize=2)
    first = rows[0]
    size = f"{first['width']} x {first['height']} pixels, {first['gaussians']:,} Gaussians"
    axes.set(
        xlabel="ms per frame: median, and from the fastest to the slowest", title=f"Frames, {size}"
    )
    # A single slow frame must not squeeze all bars; its line leaves the picture.
    axes.set_xlim(0, min(1.6 * max(values), 1.05 * max(row["max_ms"] for row in rows)))
    axes.invert_yaxis()
    save_picture(figure, path, DPI)


def save_steps(path: Path, rows: Sequence[Row]) -> None:
    """A bar of the parts of each training's step, and a line at the whole step without waits."""
    rows = [row for row in rows if row["median_ms"] is not None]
    names = list(dict.fromkeys(row["what"] for row in rows))
    known = {(row["what"], row["part"]): row["median_ms"] for row in rows}
    figure = Figure(figsize=(WIDTH, REST + 2 * ROW_HEIGHT * (1 + len(names))), layout="constrained")
    axes = figure.subplots()
    starts = [0.0] * len(names)
    for part, color in zip(PARTS, EXPERT_COLORS, strict=False):
        widths = [known[name, part] for name in names]
        axes.barh(names, widths, left=starts, color=color, label=part, height=0.6)
        starts = [start + width for start, width in zip(starts, widths, strict=True)]
    for place, name in enumerate(names):
        own = known[name, WHOLE]
        label = f"{WHOLE}, without waits" if place == 0 else None
        axes.plot([own, own], [place - 0.4, place + 0.4], color="black", label=label)
    axes.set(xlabel="ms per step: medians", title="Training steps by part")
    axes.invert_yaxis()
    figure.legend(fontsize=8, ncols=4, loc="outside lower center")
    save_picture(figure, path, DPI)
