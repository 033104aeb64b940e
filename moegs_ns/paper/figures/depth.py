"""Figure 10: how well the depth of experts, mixture and fused set agrees between cameras."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import figure as pictures
from matplotlib.axes import Axes

from moegs_ns.evaluation.depth import DEPTHS
from moegs_ns.evaluation.tables import Row
from moegs_ns.experts.names import readable
from moegs_ns.mixture.mixture import expert_colors
from moegs_ns.paper.figures.figure import (
    MIXTURE,
    FigureRuns,
    SceneRuns,
    save_drawn,
    scenes_with,
)
from moegs_ns.paper.figures.shown import scene_mixture
from moegs_ns.reports.depth_consistency import depth_rows

FRAMES, CAMERAS = 5, 8
"""Times, and cameras at each, at which depth maps are compared: those of `moegs analyse`."""
THOUSANDTHS = 1000.0
OWN_COLORS = {f"{MIXTURE}, by gates": "0.55", f"{MIXTURE}, fused": "0.1"}
"""Of what is no expert."""
LABELS = dict(zip(("mixture", "fused"), OWN_COLORS, strict=True))


@dataclass(frozen=True)
class DepthFigure:
    """Multi-view depth consistency (Eq. 16) of every expert, of the mixture by its gates, and of
    its fused set, which the paper compares; by expected and by median depth, as the paper does not
    say which."""

    number: int = 10
    about: str = "multi-view depth consistency"
    fuse_views: int | None = None
    """Training images that responsibilities are measured on where the run stores none; by default
    all, as in the paper, which takes a while."""

    def draw(self, runs: FigureRuns, folder: Path) -> list[Path]:
        """See `Figure`."""
        found = scenes_with(self, runs, lambda _: "")
        rows = [row for scene in found for row in scene_rows(scene, self.fuse_views)]
        scenes = list(dict.fromkeys(row["scene"] for row in rows))
        drawn = pictures.Figure(
            figsize=(3.0 + 2.6 * len(scenes), 3.4 * len(DEPTHS)), layout="constrained"
        )
        drawn.suptitle(f"Figure {self.number}: {self.about}", fontsize=13, fontweight="bold")
        panels = drawn.subplots(len(DEPTHS), 1, sharex=True)
        for axes, depth in zip(panels, DEPTHS, strict=True):
            draw_bars(axes, [row for row in rows if row["depth"] == depth.name], scenes)
            axes.set_title(f"{depth.name} depth", fontsize=10)
        handles, labels = panels[0].get_legend_handles_labels()
        drawn.legend(handles, labels, fontsize=9, ncols=3, loc="outside lower center")
        drawn.supylabel(
            "difference of depth between cameras\n(thousandths of the scene's extent; lower is "
            "better)",
            fontsize=9,
        )
        return save_drawn(self, drawn, rows, folder)


def scene_rows(scene: SceneRuns, fuse_views: int | None) -> list[Row]:
    """Consistency of all that a mixture can render, over the pixels that all can be compared in.

    Raises:
        ValueError: the run is not that of a mixture.
    """
    pipeline, _ = scene_mixture(scene)
    rows = depth_rows(pipeline, FRAMES, CAMERAS, fuse_views)
    return [
        {"scene": scene.name} | row | {"name": LABELS.get(row["name"], readable(row["name"]))}
        for row in rows
    ]


def draw_bars(axes: Axes, rows: Sequence[Row], scenes: Sequence[str]) -> None:
    """A group of bars for each scene, with the spread over time; no bar where there is no figure,
    but a word."""
    names = list(dict.fromkeys(row["name"] for row in rows))
    experts = [name for name in names if name not in OWN_COLORS]
    colors = dict(zip(experts, expert_colors(len(experts)), strict=True)) | OWN_COLORS
    width = 0.8 / len(names)
    for place, name in enumerate(names):
        own = {row["scene"]: row for row in rows if row["name"] == name}
        scale = {scene: THOUSANDTHS / extent for scene, extent in extents(own.values()).items()}
        x = [k + (place - 0.5 * (len(names) - 1)) * width for k in range(len(scenes))]
        heights = [
            THOUSANDTHS * own[scene]["mdc_extents"] if scene in own else np.nan for scene in scenes
        ]
        spreads = [
            own[scene]["mdc_std_world"] * scale[scene] if scene in scale else 0.0
            for scene in scenes
        ]
        drawn = axes.bar(
            x,
            np.nan_to_num(heights),
            width,
            yerr=spreads,
            color=colors[name],
            label=name,
            ecolor="0.4",
            capsize=2,
        )
        labels = [f"{value:.2g}" if np.isfinite(value) else "none" for value in heights]
        axes.bar_label(drawn, labels, fontsize=8, padding=1)
    axes.set_xticks(range(len(scenes)), [place_of(rows, scene) for scene in scenes])
    axes.spines[["top", "right"]].set_visible(False)


def place_of(rows: Sequence[Row], scene: str) -> str:
    """A scene, and what its depth maps are those of."""
    own = [row for row in rows if row["scene"] == scene]
    times = max(row["instants"] for row in own)
    return f"{scene}\n{own[0]['cameras']} cameras, {times} times"


def extents(rows: Iterable[Row]) -> dict[str, float]:
    """World units in the extent of the scenes of rows that have a figure."""
    return {
        row["scene"]: row["mdc_world"] / row["mdc_extents"]
        for row in rows
        if row["mdc_extents"] > 0
    }
