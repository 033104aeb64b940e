"""Figure 11: how each expert moves its Gaussians (appendix E)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from matplotlib import figure as pictures
from torch import Tensor

from moegs_ns.cameras import View
from moegs_ns.evaluation.motion import Trajectories
from moegs_ns.evaluation.tables import Row
from moegs_ns.experts.base import Expert
from moegs_ns.mixture.mixture import expert_colors
from moegs_ns.models.expert_model import ExpertModel
from moegs_ns.paper.figures.figure import FigureRuns, SceneRuns, save_drawn, scenes_with
from moegs_ns.paper.figures.sheet import FOOTER, HEADER, LABEL, PANEL
from moegs_ns.paper.figures.shown import SceneImages, expert_images, image_title
from moegs_ns.reports.analysis import motion_rows
from moegs_ns.reports.held_out import held_out
from moegs_ns.reports.images import draw_trajectories, visible_steps

TRAJECTORIES, TIMES, SEED = 300, 60, 0
"""Gaussians that are followed, instants, and the seed of their choice: those of `moegs analyse`."""
MARGIN = 0.1
"""Room around trajectories as a fraction of what they cover."""
OUTLIERS = 0.05
"""Share of all paths on each side that may leave a panel."""


@dataclass(frozen=True, eq=False)
class Paths:
    """Trajectories of a scene's experts, in the middle held-out image of one camera."""

    title: str
    view: View
    truth: Float[Tensor, "H W 3"]
    experts: Mapping[str, Trajectories]
    rows: Sequence[Row]
    """How each expert moves; see `MotionReport`."""


@dataclass(frozen=True)
class MotionFigure:
    """Trajectories of each expert's Gaussians over a held-out image, and how they move."""

    number: int = 11
    about: str = "motion trajectories of the experts"

    def draw(self, runs: FigureRuns, folder: Path) -> list[Path]:
        """See `Figure`."""
        found = [
            paths_of(expert_images(scene)) for scene in scenes_with(self, runs, lacking_experts)
        ]
        sizes = [panel_size(each) for each in found]
        width = max(PANEL * len(each.experts) for each in found)
        heights = [height + LABEL + HEADER for height in sizes]
        drawn = pictures.Figure(
            figsize=(width, sum(heights) + HEADER + FOOTER), layout="constrained"
        )
        drawn.suptitle(f"Figure {self.number}: {self.about}", fontsize=13, fontweight="bold")
        drawn.supxlabel(
            f"{TRAJECTORIES} Gaussians of each expert, drawn in proportion to their paths, while "
            "they are visible.\nSpeed in thousandths of the scene's extent per frame; turn: mean "
            "angle between steps; coherence: cosine with neighbours.",
            fontsize=9, color="0.25",
        )  # fmt: skip
        parts = drawn.subfigures(len(found), 1, squeeze=False, height_ratios=heights)[:, 0]
        for part, paths in zip(parts, found, strict=True):
            part.suptitle(paths.title, fontsize=11)
            draw_paths(part.subplots(1, len(paths.experts), squeeze=False)[0], paths)
        rows = [row for paths in found for row in paths.rows]
        return save_drawn(self, drawn, rows, folder)


def lacking_experts(scene: SceneRuns) -> str:
    """What Figures 1 and 11 miss of a scene; "" for nothing."""
    count = len(scene.experts)
    if count > 1:
        return ""
    return f"has the runs of {count} experts; name at least two, which are to be compared"


def paths_of(images: SceneImages, camera: int | None = None) -> Paths:
    """Follow the Gaussians of experts that each have a run; `camera` by default the first that is
    held out."""
    cameras = images.cameras
    camera = cameras[0] if camera is None else camera
    own = [index for index, other in enumerate(cameras) if other == camera]
    index = sorted(own, key=lambda index: images.frames[index])[len(own) // 2]
    view, truth, _ = held_out(images.sources[0].pipeline, index)
    rows, experts = motion_rows(experts_of(images), TIMES, TRAJECTORIES, SEED)
    place = {"scene": images.scene, "camera": camera, "frame": images.frames[index]}
    title = image_title(*place.values())
    return Paths(title, view, truth, experts, [place | row for row in rows])


def experts_of(images: SceneImages) -> dict[str, Expert]:
    """The trained experts by the names that they are shown under."""
    found = {}
    for source in images.sources:
        model = source.pipeline.model
        if not isinstance(model, ExpertModel):
            raise ValueError(
                f"Expected runs of single experts of scene {images.scene}, got one of a mixture; "
                "name those that it mixes."
            )
        found[source.name] = model.expert
    return found


def draw_paths(line: Iterable[Any], paths: Paths) -> None:
    """A panel for each expert, of the part of the image where any of them moves."""
    colors = expert_colors(len(paths.experts))
    left, right, top, bottom = region_of(paths)
    for axes, (name, each), row, color in zip(
        line, paths.experts.items(), paths.rows, colors, strict=True
    ):
        draw_trajectories(axes, paths.view, paths.truth, each, color)
        axes.set(xlim=(left, right), ylim=(bottom, top))
        figures = f"speed {1000 * row['speed']:.2g}, turn {row['turn_degrees']:.0f}°, "
        text = row["reason"] or f"{figures}coherence {row['coherence']:.2f}"
        axes.set_title(f"{name}\n{text}", fontsize=8.5)


def panel_size(paths: Paths) -> float:
    """Height of a panel in inches."""
    left, right, top, bottom = region_of(paths)
    return PANEL * (bottom - top) / (right - left)


def region_of(paths: Paths) -> tuple[float, float, float, float]:
    """Left, right, top and bottom in pixels of where the trajectories of all experts go, but for a
    few; the whole image where there are none."""
    view = paths.view
    steps = torch.cat([visible_steps(view, each) for each in paths.experts.values()])
    size = steps.new_tensor([view.width, view.height])
    middles = steps.mean(1)
    steps = steps[((middles >= 0) & (middles <= size)).all(-1)]
    lengths = steps.diff(dim=1).norm(dim=-1)[:, 0]
    if float(lengths.sum()) == 0.0:
        return 0.0, float(view.width), 0.0, float(view.height)
    # By length, so that many that tremble in place do not count for more than a few that go far.
    low = weighted_quantile(steps.mean(1), lengths, OUTLIERS)
    high = weighted_quantile(steps.mean(1), lengths, 1.0 - OUTLIERS)
    # As wide and high a part of the image, so that panels have its shape.
    share = float(((high - low) / size).max().clamp(0.1, 1.0)) * (1.0 + 2.0 * MARGIN)
    extent = size * min(share, 1.0)
    start = (0.5 * (low + high) - 0.5 * extent).clamp(min=0.0)
    start = torch.minimum(start, size - extent)
    (left, top), (right, bottom) = start.tolist(), (start + extent).tolist()
    return left, right, top, bottom


def weighted_quantile(
    values: Float[Tensor, "n d"], weights: Float[Tensor, "n"], share: float
) -> Float[Tensor, "d"]:
    """In each column the value below which this share of the weights lies."""
    order = values.argsort(dim=0)
    sums = weights[order].cumsum(0)
    first = (sums >= share * sums[-1]).int().argmax(0, keepdim=True)
    return values.gather(0, order.gather(0, first))[0]
