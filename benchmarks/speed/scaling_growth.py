"""How time and memory grow along a sweep: a power law beside the floor, as rows and as plots."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.speed.scaling_point import Point
from moegs_ns.evaluation.tables import Row
from moegs_ns.mixture.mixture import EXPERT_COLORS
from moegs_ns.reports.pictures import save_picture

FEWEST_POINTS = 3
"""Two points have no residual."""
DPI = 120


@dataclass(frozen=True)
class Quantity:
    """What grows, in the columns of the rows of points."""

    name: str
    label: str
    column: str
    floor: str
    """Column of the least that any way needs."""


QUANTITIES = (
    Quantity("time", "ms per frame, median", "median_ms", "floor_ms"),
    Quantity("memory", "peak memory in MB", "peak_mb", "floor_mb"),
)


@dataclass(frozen=True)
class Sweep:
    """Points that differ in one quantity."""

    name: str
    label: str
    points: Sequence[Point]
    x: Callable[[Point], float]
    """The quantity."""

    def measured(self, rows: Sequence[Row], quantity: Quantity) -> list[tuple[float, Row]]:
        """The rows of its points that have a figure, by the quantity."""
        own = [(self.x(p), row_of_point(p, rows)) for p in self.points]
        known = [(x, row) for x, row in own if row is not None and row[quantity.column] is not None]
        return sorted(known, key=lambda pair: pair[0])


@dataclass(frozen=True)
class PowerLaw:
    """y = scale * x^exponent."""

    scale: float
    exponent: float
    residual: float
    """Typical factor between a figure and the law: exp of the root mean square difference of the
    logarithms."""

    @classmethod
    def fitted(cls, points: Sequence[tuple[float, float]]) -> "PowerLaw | None":
        """The line of least squares through the logarithms; None of fewer than three points."""
        if len({x for x, _ in points}) < FEWEST_POINTS:
            return None
        x, y = np.log(np.array(points)).T
        exponent, offset = np.polyfit(x, y, 1)
        rest = y - (exponent * x + offset)
        residual = np.exp(np.sqrt(np.mean(rest**2)))
        return cls(float(np.exp(offset)), float(exponent), float(residual))

    def at(self, x: float) -> float:
        """The law's value."""
        return self.scale * x**self.exponent


def row_of_point(point: Point, rows: Sequence[Row]) -> Row | None:
    """The row of a point, or None if it is not there."""
    wanted = point.columns.items()
    return next((row for row in rows if wanted <= row.items()), None)


def growth_rows(sweeps: Sequence[Sweep], rows: Sequence[Row]) -> list[Row]:
    """A row for the growth of each quantity along each sweep."""
    found: list[Row] = []
    for sweep in sweeps:
        for quantity in QUANTITIES:
            known = sweep.measured(rows, quantity)
            values = [(x, row[quantity.column]) for x, row in known]
            law = PowerLaw.fitted(values)
            floor = PowerLaw.fitted([(x, row[quantity.floor]) for x, row in known])
            times = [row[quantity.column] / row[quantity.floor] for _, row in known]
            row: Row = {"sweep": sweep.name, "quantity": quantity.name, "points": len(known)}
            row["from"], row["to"] = (known[0][0], known[-1][0]) if known else (None, None)
            row["exponent"] = law and law.exponent
            row["residual_factor"] = law and law.residual
            row["floor_exponent"] = floor and floor.exponent
            row["times_the_floor_at_first"] = times[0] if times else None
            row["times_the_floor_at_last"] = times[-1] if times else None
            first = "exponent" if known else "from"
            last = "floor_exponent" if known else "times_the_floor_at_last"
            why = f"a law needs {FEWEST_POINTS} points that were measured"
            row["reason"] = f"{first} to {last}: {why}" if law is None else ""
            found.append(row)
    return found


def growth_figure(sweep: Sweep, rows: Sequence[Row]) -> Figure | None:
    """Points with the law through them and the floor, one panel for each quantity that has any;
    None without."""
    shown = [(each, known) for each in QUANTITIES if (known := sweep.measured(rows, each))]
    if not shown:
        return None
    figure = Figure(figsize=(5.0 * len(shown), 4.0), layout="constrained")
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    for axes, (quantity, known) in zip(panels, shown, strict=True):
        draw_panel(axes, quantity, known)
        axes.set(xlabel=sweep.label, ylabel=quantity.label)
    return figure


def draw_panel(axes: Axes, quantity: Quantity, known: Sequence[tuple[float, Row]]) -> None:
    """One quantity along a sweep, both axes logarithmic."""
    x = [place for place, _ in known]
    values = [row[quantity.column] for _, row in known]
    floor = [row[quantity.floor] for _, row in known]
    if quantity.column == "median_ms":
        low = [row["median_ms"] - row["min_ms"] for _, row in known]
        high = [row["max_ms"] - row["median_ms"] for _, row in known]
        axes.errorbar(x, values, yerr=[low, high], fmt="none", ecolor="0.6", capsize=2)
    axes.plot(x, values, "o", color=EXPERT_COLORS[0], label="measured")
    law = PowerLaw.fitted(list(zip(x, values, strict=True)))
    if law is not None:
        label = f"power {law.exponent:.2f}, within {100 * (law.residual - 1):.0f} %"
        axes.plot(x, [law.at(place) for place in x], "-", color=EXPERT_COLORS[0], label=label)
    axes.plot(x, floor, "--", color=EXPERT_COLORS[1], label="floor")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.legend(fontsize=8)


def save_growth(sweep: Sweep, rows: Sequence[Row], path: Path) -> Path | None:
    """Write the plot of a sweep (PNG); None if there is nothing to draw."""
    figure = growth_figure(sweep, rows)
    if figure is None:
        return None
    save_picture(figure, path, DPI)
    return path
