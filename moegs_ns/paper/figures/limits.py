"""Figure 1: which expert is best in which scene, region and frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from matplotlib import figure as pictures
from matplotlib.axes import Axes
from torch import Tensor

from moegs_ns.evaluation.tables import Row
from moegs_ns.mixture.mixture import expert_colors, largest_colors
from moegs_ns.paper.figures.choices import (
    best_per_frame,
    best_region,
    frame_gain,
    region_gain,
)
from moegs_ns.paper.figures.figure import FigureRuns, SceneRuns, save_drawn, scenes_with
from moegs_ns.paper.figures.motion import (
    Paths,
    draw_paths,
    lacking_experts,
    panel_size,
    paths_of,
)
from moegs_ns.paper.figures.sheet import (
    PANEL,
    decibels_text,
    show_image,
    without_ticks,
)
from moegs_ns.paper.figures.shown import SceneImages, Shown, expert_images
from moegs_ns.progress import track

CLEAR_LEAD = 1.0
"""Lead in dB over the second-best expert from which on a region has the best one's full colour."""


@dataclass(frozen=True, eq=False)
class SceneScores:
    """PSNR of a scene's experts on every held-out image that has pixels which count."""

    scene: str
    names: tuple[str, ...]
    cameras: tuple[int, ...]
    frames: tuple[int, ...]
    psnr: Float[Tensor, "E I"]
    by_region: Shown
    """The image in which choosing an expert for every region gains most over the best of all."""
    gain: float
    """That gain in dB."""

    def over_time(self, camera: int) -> tuple[list[int], Float[Tensor, "E F"]]:
        """A camera's frames in order, and PSNR at each."""
        own = [index for index, other in enumerate(self.cameras) if other == camera]
        own.sort(key=lambda index: self.frames[index])
        return [self.frames[index] for index in own], self.psnr[:, own]

    @property
    def most_varied(self) -> int:
        """The camera of which choosing an expert for every frame gains most."""
        cameras = dict.fromkeys(self.cameras)
        return max(cameras, key=lambda camera: frame_gain(self.over_time(camera)[1]))


@dataclass(frozen=True)
class LimitsFigure:
    """(a) PSNR of every expert and scene; (b) which is best in which region of an image; (c) which
    is best at which time; and trajectories of the experts' Gaussians."""

    number: int = 1
    about: str = "which expert is best, by scene, region and frame"

    def draw(self, runs: FigureRuns, folder: Path) -> list[Path]:
        """See `Figure`."""
        scenes = scenes_with(self, runs, lacking_experts)
        scores = [scores_of(expert_images(scene)) for scene in scenes]
        spatial = max(scores, key=lambda one: one.gain)
        temporal = max(scores, key=lambda one: frame_gain(one.over_time(one.most_varied)[1]))
        followed: SceneRuns = scenes[scores.index(temporal)]
        paths = paths_of(expert_images(followed), temporal.most_varied)
        drawn = limits_sheet(
            f"Figure {self.number}: {self.about}", scores, spatial.by_region, temporal, paths
        )
        rows = limits_rows(scores, spatial.by_region, temporal)
        rows += [{"part": "trajectories"} | row for row in paths.rows]
        return save_drawn(self, drawn, rows, folder)


def scores_of(images: SceneImages) -> SceneScores:
    """Render every held-out image by every expert."""
    found: list[tuple[int, int, list[float]]] = []
    best: tuple[float, Shown] | None = None
    for index in track(range(len(images)), "Scoring every frame"):
        shown = images.shown(index)
        if not bool(shown.is_counted.any()):
            continue
        found.append((shown.camera, shown.frame, shown.psnr()))
        gain = region_gain(shown.errors, shown.is_counted)
        if best is None or gain > best[0]:
            best = gain, shown
    if best is None:
        raise ValueError(
            f"Expected held-out images of scene {images.scene} with pixels that count, but their "
            "masks leave none; check the masks."
        )
    cameras, frames, psnr = zip(*found, strict=True)
    names = best[1].names
    return SceneScores(images.scene, names, cameras, frames, torch.tensor(psnr).T, best[1], best[0])


def limits_rows(scores: Sequence[SceneScores], region: Shown, temporal: SceneScores) -> list[Row]:
    """The numbers in the figure, by its part."""
    rows = []
    for one in scores:
        means = one.psnr.mean(1)
        for name, value in zip(one.names, means.tolist(), strict=True):
            is_best = value == float(means.max())
            rows.append(_row("a", one.scene, name, value) | {"is_best": is_best})
    shares = winners(region).flatten(1).float().mean(1).tolist()
    for name, value, share in zip(region.names, region.psnr(), shares, strict=True):
        place = {"camera": region.camera, "frame": region.frame, "best_in_share_of_image": share}
        rows.append(_row("b", region.scene, name, value) | place)
    camera = temporal.most_varied
    frames, psnr = temporal.over_time(camera)
    best = best_per_frame(psnr).tolist()
    for place, frame in enumerate(frames):
        for expert, name in enumerate(temporal.names):
            row = _row("c", temporal.scene, name, float(psnr[expert, place]))
            rows.append(row | {"camera": camera, "frame": frame, "is_best": best[place] == expert})
    return rows


def winners(shown: Shown) -> Float[Tensor, "E H W"]:
    """1 for the expert that is best around a pixel."""
    best = best_region(shown.errors).argmin(0)
    return torch.nn.functional.one_hot(best, len(shown.names)).movedim(-1, 0).float()


def winners_map(shown: Shown) -> Float[Tensor, "H W 3"]:
    """The colour of the expert that is best around a pixel, over the grey image; pale where the
    second best is nearly as good."""
    around = best_region(shown.errors)
    first, second = around.topk(2, dim=0, largest=False).values
    lead = 10.0 * (second / first.clamp(min=1e-12)).clamp(min=1.0).log10()
    weight = 0.1 + 0.75 * (lead / CLEAR_LEAD).clamp(max=1.0)[..., None]
    grey = shown.truth.mean(-1, keepdim=True).expand(-1, -1, 3)
    return weight * largest_colors(-around) + (1.0 - weight) * (0.5 * grey + 0.5)


def limits_sheet(
    title: str, scores: Sequence[SceneScores], region: Shown, temporal: SceneScores, paths: Paths
) -> pictures.Figure:
    """The layout: scenes and frames above, regions below them, trajectories last."""
    columns = max(len(region.names) + 2, len(paths.experts))
    tall = PANEL * region.truth.shape[0] / region.truth.shape[1]
    heights = (3.4, tall + 1.3, panel_size(paths) + 0.7)
    drawn = pictures.Figure(figsize=(PANEL * columns, sum(heights) + 0.4), layout="constrained")
    drawn.suptitle(title, fontsize=13, fontweight="bold")
    parts: Any = drawn.subfigures(3, 1, height_ratios=heights)
    above, middle, below = parts
    left, right = above.subfigures(1, 2, width_ratios=(2, 3))
    draw_scenes(left.subplots(), scores)
    draw_frames(right, temporal)
    draw_regions(middle, region, columns)
    below.suptitle(f"motion trajectories: {paths.title}", fontsize=11)
    draw_paths(below.subplots(1, len(paths.experts), squeeze=False)[0], paths)
    return drawn


def draw_scenes(axes: Axes, scores: Sequence[SceneScores]) -> None:
    """(a) Mean PSNR of each expert by scene, the best one ringed and in numbers."""
    names = list(dict.fromkeys(name for one in scores for name in one.names))
    colors = dict(zip(names, expert_colors(len(names)), strict=True))
    for place, one in enumerate(scores):
        means = one.psnr.mean(1).tolist()
        for name, value in zip(one.names, means, strict=True):
            x = place + 0.12 * (names.index(name) - 0.5 * (len(names) - 1))
            label = name if name not in _labels(axes) else None
            axes.plot(x, value, "o", color=colors[name], markersize=8, label=label)
            if value == max(means):
                axes.plot(
                    x, value, "o", markersize=13, markerfacecolor="none", markeredgecolor="black"
                )
                axes.annotate(
                    decibels_text(value), (x, value), (0, 10), textcoords="offset points",
                    ha="center", fontsize=8,
                )  # fmt: skip
    axes.set_xticks(range(len(scores)), [one.scene for one in scores])
    axes.set(ylabel="PSNR (dB)", xlim=(-0.6, len(scores) - 0.4))
    axes.margins(y=0.15)
    axes.set_title("(a) by scene: mean PSNR, the best one ringed", fontsize=11)
    axes.legend(fontsize=8)


def draw_frames(part: Any, scores: SceneScores) -> None:
    """(c) PSNR of each expert over a camera's frames, and below a strip in the best one's
    colour."""
    lines, strip = part.subplots(2, 1, sharex=True, height_ratios=(9, 1))
    camera = scores.most_varied
    frames, psnr = scores.over_time(camera)
    best, colors = best_per_frame(psnr), expert_colors(len(scores.names))
    for expert, (name, color) in enumerate(zip(scores.names, colors, strict=True)):
        count = int((best == expert).sum())
        label = f"{name}: best in {count} of {len(frames)}"
        lines.plot(
            frames,
            psnr[expert],
            "-",
            marker="." if len(frames) < 60 else "",
            color=color,
            label=label,
        )
    strip.imshow(
        torch.tensor(colors)[best][None].numpy(), aspect="auto", interpolation="nearest",
        extent=(frames[0] - 0.5, frames[-1] + 0.5, 0, 1),
    )  # fmt: skip
    strip.set(yticks=[], xlim=(frames[0] - 0.5, frames[-1] + 0.5))
    strip.set_xlabel("frame; strip: the best expert", fontsize=9)
    lines.set_ylabel("PSNR (dB)")
    lines.legend(fontsize=8)
    lines.set_title(f"(c) by time: {scores.scene}, camera {camera}", fontsize=11)


def draw_regions(part: Any, shown: Shown, columns: int) -> None:
    """(b) The truth, errors of every expert around each pixel, and who is best there."""
    part.suptitle(
        f"(b) by region: {shown.title}; root mean squared error around each pixel", fontsize=11
    )
    line = part.subplots(1, columns, squeeze=False)[0]
    for axes in line:
        axes.axis("off")
    around = best_region(shown.errors).clamp(min=0.0).sqrt()
    show_image(line[0], shown.truth, "truth\n")
    shares = winners(shown).flatten(1).mean(1).tolist()
    colors, drawn = expert_colors(len(shown.names)), None
    for axes, error, name, value, share, color in zip(
        line[1:], around, shown.names, shown.psnr(), shares, colors, strict=False
    ):
        axes.axis("on")
        drawn = axes.imshow(error.numpy(), vmin=0.0, vmax=float(around.max()), cmap="inferno")
        text = f"{name}\n{decibels_text(value)}, best in {share:.0%}"
        axes.set_title(text, fontsize=9)
        without_ticks(axes, color, 3.0)
    last = 1 + len(shown.names)
    part.colorbar(drawn, ax=list(line), location="bottom", aspect=80, pad=0.02)
    text = f"best expert\npale: a lead below {CLEAR_LEAD:g} dB"
    show_image(line[last], winners_map(shown), text)


def _row(part: str, scene: str, expert: str, psnr: float) -> Row:
    return {"part": part, "scene": scene, "expert": expert, "psnr": psnr}


def _labels(axes: Axes) -> list[str]:
    return axes.get_legend_handles_labels()[1]
