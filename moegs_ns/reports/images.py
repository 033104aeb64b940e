"""Images of an analysis: trajectories over a view, gates over time, best experts and errors."""

from pathlib import Path
from statistics import fmean

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from torch import Tensor

from moegs_ns.cameras import View
from moegs_ns.engine.trainer import MoegsPipeline
from moegs_ns.evaluation.motion import Trajectories
from moegs_ns.evaluation.routing import routing_maps
from moegs_ns.evaluation.tables import Row
from moegs_ns.mixture.mixture import expert_colors, largest_colors
from moegs_ns.models.mixture_model import MixtureModel
from moegs_ns.reports.held_out import evenly_spaced, held_out
from moegs_ns.reports.panels import ERROR_GAIN
from moegs_ns.reports.pictures import save_picture

PANEL = 3.0
"""Width of a panel in inches."""


@torch.no_grad()
def save_trajectories(
    path: Path, pipeline: MoegsPipeline, experts: dict[str, Trajectories]
) -> None:
    """The visible steps of each expert's trajectories over the middle held-out image."""
    view, target, _ = held_out(pipeline, len(pipeline.datamanager.eval_dataset) // 2)
    figure = _figure(1, len(experts), view)
    for index, (name, paths) in enumerate(experts.items()):
        axes = figure.add_subplot(1, len(experts), index + 1)
        draw_trajectories(axes, view, target, paths, expert_colors(len(experts))[index])
        axes.set_title(name)
    save_picture(figure, path)


def draw_trajectories(
    axes: Axes,
    view: View,
    backdrop: Float[Tensor, "H W 3"],
    paths: Trajectories,
    color: tuple[float, float, float],
) -> None:
    """The visible steps of trajectories in a view of one camera, over its faded image."""
    axes.imshow((0.4 * backdrop + 0.6).cpu().numpy())
    steps = list(visible_steps(view, paths).cpu().numpy())
    axes.add_collection(LineCollection(steps, colors=[color], lw=0.8))
    axes.set(xlim=(0, view.width), ylim=(view.height, 0))
    axes.axis("off")


def visible_steps(view: View, paths: Trajectories) -> Float[Tensor, "n 2 2"]:
    """Both ends, in pixels of a view of one camera, of the steps that are visible and ahead of
    it."""
    in_camera = paths.means @ view.viewmats[0, :3, :3].T + view.viewmats[0, :3, 3]
    homogeneous, is_ahead = in_camera @ view.Ks[0].T, in_camera[..., 2] > 0
    pixels = homogeneous[..., :2] / homogeneous[..., 2:]
    is_shown = paths.is_step_visible & is_ahead[1:] & is_ahead[:-1]
    return torch.stack([pixels[:-1][is_shown], pixels[1:][is_shown]], dim=1)


def save_usage(path: Path, rows: list[Row], names: list[str]) -> None:
    """Mean gates, entropy and PSNR of held-out images over time, averaged over cameras."""
    frames = sorted({row["frame"] for row in rows})

    def over_time(key: str) -> list[float]:
        return [fmean(row[key] for row in rows if row["frame"] == frame) for frame in frames]

    figure = Figure(figsize=(3 * PANEL, 2 * PANEL), layout="constrained")
    gates, scores = figure.subplots(2, 1, sharex=True)
    for name, color in zip(names, expert_colors(len(names)), strict=True):
        gates.plot(frames, over_time(f"gate_{name}"), color=color, label=f"gate of {name}")
        gates.plot(frames, over_time(f"best_{name}"), color=color, ls=":", label=f"{name} is best")
        scores.plot(frames, over_time(f"psnr_{name}"), color=color, label=name)
    gates.plot(frames, over_time("entropy"), color="gray", label="entropy of the gates")
    for key, style in (("mixture", "-"), ("average", "-."), ("oracle", "--"), ("best_blend", ":")):
        scores.plot(frames, over_time(f"psnr_{key}"), color="black", ls=style, label=key)
    gates.set(ylabel="fraction", ylim=(0, 1))
    scores.set(ylabel="PSNR (dB)", xlabel="frame")
    for axes in (gates, scores):
        axes.legend(fontsize=7)
    save_picture(figure, path)


@torch.no_grad()
def save_routing(path: Path, pipeline: MoegsPipeline, model: MixtureModel, num_views: int) -> None:
    """A row per held-out image: truth, mixture, its error, largest gate, best expert, entropy."""
    titles = (
        "truth",
        "mixture",
        f"error x {ERROR_GAIN:g}",
        "largest gate",
        "best expert",
        "entropy of the gates",
    )
    indices = evenly_spaced(len(pipeline.datamanager.eval_dataset), num_views)
    items = [held_out(pipeline, index) for index in indices]
    figure = _figure(len(items), len(titles), items[0][0])
    grid = figure.subplots(len(items), len(titles), squeeze=False)
    for row, (view, target, _) in zip(grid, items, strict=True):
        render = model.mixture.render(view)
        maps = routing_maps(render.images, render.gates, render.rgb, target)
        gate, best = largest_colors(maps.gates), largest_colors(maps.best)
        entropy = maps.entropy[..., None].expand(-1, -1, 3)
        error = ERROR_GAIN * (render.rgb - target).abs()
        panels = (target, render.rgb, error, gate, best, entropy)
        for axes, image in zip(row, panels, strict=True):
            axes.imshow(image.clamp(0, 1).cpu().numpy())
            axes.axis("off")
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=8)
    save_picture(figure, path)


def _figure(rows: int, columns: int, view: View) -> Figure:
    height = PANEL * view.height / view.width + 0.3
    return Figure(figsize=(PANEL * columns, height * rows), layout="constrained")
