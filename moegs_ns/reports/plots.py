"""Plots as SVG that a page holds itself: they take its colours and font, in light and in dark."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 14, 40
TICKS = 5
"""About as many numbers along an axis."""


@dataclass(frozen=True)
class Series:
    """A line, or points of their own."""

    name: str
    points: Sequence[tuple[float, float]]
    color: int
    """Number of the colour in the page's palette."""
    is_dashed: bool = False


@dataclass(frozen=True)
class Axis:
    """One axis of a plot."""

    label: str
    is_logarithmic: bool = False
    is_whole: bool = False
    """Whether only whole numbers mean anything."""


@dataclass(frozen=True)
class Scale:
    """Places of values between two ends."""

    low: float
    high: float
    start: float
    end: float
    axis: Axis

    def place(self, value: float) -> float:
        """Where a value lies, in pixels."""
        low, high, value = (self._unfold(v) for v in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def _unfold(self, value: float) -> float:
        return math.log10(value) if self.axis.is_logarithmic else value

    def ticks(self) -> list[float]:
        """Round numbers between the ends."""
        if self.axis.is_logarithmic:
            exponents = range(
                math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1
            )
            found = [m * 10.0**e for e in exponents for m in (1, 2, 5)]
        else:
            rough = (self.high - self.low) / TICKS
            power = 10.0 ** math.floor(math.log10(rough))
            step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
            step = max(step, 1.0) if self.axis.is_whole else step
            first = math.ceil(self.low / step - 1e-9)
            found = [k * step for k in range(first, math.floor(self.high / step + 1e-9) + 1)]
        return [value for value in found if self.low <= value <= self.high]


def scale_of(values: Sequence[float], start: float, end: float, axis: Axis) -> Scale:
    """A scale with some room around the values."""
    low, high = min(values), max(values)
    if axis.is_logarithmic:
        return Scale(low / 1.5, high * 1.5, start, end, axis)
    room = 0.06 * (high - low) or max(abs(high) * 0.05, 0.5)
    if axis.is_whole and high > low:
        room = 0.0
    return Scale(low - room, high + room, start, end, axis)


def line_plot(series: Sequence[Series], x: Axis, y: Axis) -> str:
    """Lines over a common axis, with a key below; empty if there is nothing to draw."""
    return _plot(series, x, y, _line)


def point_plot(series: Sequence[Series], x: Axis, y: Axis) -> str:
    """Points with their names beside them."""
    return _plot(series, x, y, _point)


def _plot(series: Sequence[Series], x: Axis, y: Axis, draw) -> str:
    series = [each for each in series if each.points]
    points = [point for each in series for point in each.points]
    if not points:
        return ""
    across = scale_of([p[0] for p in points], LEFT, WIDTH - RIGHT, x)
    up = scale_of([p[1] for p in points], HEIGHT - BOTTOM, TOP, y)
    parts = [*_grid(across, up), *(part for each in series for part in draw(each, across, up))]
    title = escape(f"{y.label} over {x.label}")
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">'
        + "".join(parts)
        + "</svg>"
    )


def _grid(across: Scale, up: Scale) -> list[str]:
    parts = []
    for value in up.ticks():
        place = up.place(value)
        parts.append(f'<path class="grid" d="M{LEFT} {place:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(_text(LEFT - 8, place + 4, number(value), "end"))
    for value in across.ticks():
        parts.append(_text(across.place(value), HEIGHT - BOTTOM + 18, number(value), "middle"))
    parts.append(_text(WIDTH - RIGHT, HEIGHT - 4, across.axis.label, "end", "label"))
    parts.append(_text(LEFT, TOP - 2, up.axis.label, "start", "label"))
    return parts


def _line(series: Series, across: Scale, up: Scale) -> list[str]:
    places = [f"{across.place(x):.1f} {up.place(y):.1f}" for x, y in sorted(series.points)]
    style = f'class="line c{series.color}{" dashed" if series.is_dashed else ""}"'
    if len(places) == 1:
        x, y = places[0].split()
        return [f'<circle class="dot c{series.color}" cx="{x}" cy="{y}" r="3"/>']
    return [f'<path {style} d="M{" L".join(places)}"><title>{escape(series.name)}</title></path>']


def _point(series: Series, across: Scale, up: Scale) -> list[str]:
    parts = []
    for x, y in series.points:
        left, top = across.place(x), up.place(y)
        is_right = left > 0.7 * WIDTH
        anchor, beside = ("end", -9) if is_right else ("start", 9)
        parts.append(f'<circle class="dot c{series.color}" cx="{left:.1f}" cy="{top:.1f}" r="5"/>')
        parts.append(_text(left + beside, top + 4, series.name, anchor, "name"))
    return parts


def _text(x: float, y: float, text: str, anchor: str, kind: str = "tick") -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def number(value: float) -> str:
    """A number as short as its digits allow."""
    if value and (abs(value) >= 1e5 or abs(value) < 1e-3):
        return f"{value:.0e}".replace("e+0", "e").replace("e-0", "e-")
    return f"{value:.6g}"
