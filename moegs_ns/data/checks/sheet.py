"""A picture of a checked scene: every camera with its verdict, and the rig with points in 3-D."""

import math
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from moegs_ns.atomic_files import atomic_write
from moegs_ns.data.checks.epipolar import Calibrated
from moegs_ns.data.checks.verdicts import SceneVerdict

_PANEL = 3.2
"""Inches."""
_MOST_POINTS = 4000
_GOOD, _BAD = "#1a7f37", "#c62828"
_LINE = 44


def save_sheet(verdict: SceneVerdict, path: Path) -> None:
    """Write the picture (PNG); see `atomic_write` for errors."""
    count = len(verdict.cameras) + 1
    columns = min(max(math.ceil(math.sqrt(count)), 2), 6)
    rows = math.ceil(count / columns)
    shape = verdict.geometry.height / verdict.geometry.width
    height = _PANEL * max(shape, 0.6) + 0.6
    figure = Figure(figsize=(_PANEL * columns, height * rows), layout="constrained")
    rig = figure.add_subplot(rows, columns, 1, projection="3d")
    _draw_rig(rig, verdict)
    for place, (camera, observed) in enumerate(
        zip(verdict.cameras, verdict.observed, strict=True), start=2
    ):
        axes = figure.add_subplot(rows, columns, place)
        axes.imshow(observed.shown)
        axes.set_xticks([])
        axes.set_yticks([])
        color = _BAD if camera.faults else _GOOD
        for spine in axes.spines.values():
            spine.set(color=color, linewidth=2.5)
        axes.set_title(f"{camera.name}: {_wrapped(camera.text)}", fontsize=8, color=color)
    with atomic_write(path, "sheet", "name another --sheet") as file:
        figure.savefig(file, dpi=110, format="png")


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(text, _LINE)[:3])


def _draw_rig(axes: Any, verdict: SceneVerdict) -> None:
    """Points, centres and viewing directions; both axes of the image plane are the rig's own, so
    that a ring of cameras looks like one in whatever world it stands."""
    positions = verdict.geometry.positions
    forward = verdict.geometry.viewmats[:, 2, :3]
    points = verdict.tracks.xyz
    frame, origin = _rig_frame(verdict.geometry), positions.mean(0)
    reach = 2.5 * float(np.linalg.norm(positions - origin, axis=1).max() or 1.0)
    near = np.linalg.norm(points - origin, axis=1) < 2.0 * reach
    points = points[near][:: max(int(near.sum()) // _MOST_POINTS, 1)]
    x, y, z = ((points - origin) @ frame).T
    axes.scatter(x, y, z, s=0.6, color="#777777", linewidths=0)
    for place, camera in enumerate(verdict.cameras):
        start = (positions[place] - origin) @ frame
        end = start + 0.12 * reach * (forward[place] @ frame)
        color = _BAD if camera.faults else _GOOD
        axes.plot(*np.stack([start, end], 1), color=color, linewidth=1.2)
        axes.scatter(*start, s=9, color=color)
        axes.text(*start, camera.name, fontsize=5)
    axes.set_box_aspect((1, 1, 0.7))
    axes.set_title(f"{len(verdict.cameras)} cameras, {len(verdict.tracks.xyz)} points", fontsize=8)
    axes.tick_params(labelsize=5)


def _rig_frame(geometry: Calibrated) -> Float[np.ndarray, "3 3"]:
    """Columns: two axes along the ground and up, where up is what cameras call so on average."""
    up = -geometry.viewmats[:, 1, :3].mean(0)
    length = float(np.linalg.norm(up))
    up = up / length if length > 1e-6 else np.array([0.0, 0.0, 1.0])
    along = np.eye(3)[np.abs(up).argmin()]
    first = along - up * float(along @ up)
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(up, first), up], 1)
