"""The layout of comparisons: images beside the truth, crops below them, and gates between."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from matplotlib import figure as pictures
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from moegs_ns.evaluation.tables import Row
from moegs_ns.mixture.mixture import expert_colors, largest_colors
from moegs_ns.paper.figures.shown import Box, Shown

PANEL = 2.4
"""Width of a panel in inches."""
HEADER, FOOTER = 0.32, 0.42
"""Height in inches of a block's title, and of the sheet's note."""
LABEL = 0.4
"""Height in inches of the two lines above a panel."""
GAP = 0.04
"""Height in inches between rows of panels."""
BOX_COLORS = ("#ffe14d", "#7fe0ff", "#ff9de0")
"""Frames of the first crop, the second and so on; each has a dark edge around it."""
DECIMALS = 2


@dataclass(frozen=True, eq=False)
class Block:
    """One held-out image on a sheet."""

    title: str
    shown: Shown
    boxes: Sequence[Box]
    rivals: slice
    """The models among which the best of each crop is marked."""
    has_gates: bool = False
    """Whether the gates stand below the experts' images."""

    @property
    def num_rows(self) -> int:
        """Of panels."""
        return 1 + self.has_gates + len(self.boxes)

    @property
    def num_columns(self) -> int:
        """Of panels: the truth and all models."""
        return 1 + len(self.shown.names)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        rows, columns = self.shown.truth.shape[:2]
        height = self.num_rows * (PANEL * rows / columns + GAP) + (1 + 0.6 * self.has_gates) * LABEL
        return PANEL * self.num_columns, height + HEADER


def comparison_sheet(title: str, blocks: Sequence[Block], note: str) -> pictures.Figure:
    """A sheet of images, each with its crops."""
    width = max(block.size[0] for block in blocks)
    heights = [block.size[1] for block in blocks]
    whole = pictures.Figure(figsize=(width, sum(heights) + HEADER + FOOTER), layout="constrained")
    whole.suptitle(title, fontsize=13, fontweight="bold")
    whole.supxlabel(note, fontsize=9, color="0.25")
    parts = whole.subfigures(len(blocks), 1, squeeze=False, height_ratios=heights)[:, 0]
    for part, block in zip(parts, blocks, strict=True):
        _draw_block(part, block)
    return whole


def block_rows(block: Block) -> list[Row]:
    """The numbers on a block: PSNR of every image and crop, mean gates."""
    shown, rows = block.shown, []
    for region, box in [("image", shown.whole), *_numbered(block.boxes)]:
        values = shown.psnr(box)
        best = best_of(values, block.rivals)
        for model, value in enumerate(values):
            place = {"top": box.top, "left": box.left, "height": box.height, "width": box.width}
            row = shown.row(model, region, value) | place | {"is_best": model == best}
            if block.has_gates and region == "image" and model < len(_gates(shown)):
                row["mean_gate"] = float(_gates(shown)[model].mean())
            rows.append(row)
    return rows


def best_of(values: Sequence[float], rivals: slice) -> int:
    """The model with the largest PSNR among rivals."""
    return max(range(len(values))[rivals], key=lambda model: values[model])


def show_image(axes: Axes, image: Float[Tensor, "H W 3"], title: str) -> None:
    """An image as it is, pixel by pixel, below its title."""
    axes.imshow(image.numpy(), interpolation="nearest")
    axes.set_title(title, fontsize=9)
    without_ticks(axes)


def without_ticks(axes: Axes, color: Any = "none", width: float = 0.0) -> None:
    """Leave nothing of the axes but a frame in a colour."""
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color=color, linewidth=width)


def decibels_text(value: float) -> str:
    """A PSNR for people."""
    return f"{value:.{DECIMALS}f} dB"


def _draw_block(part: Any, block: Block) -> None:
    part.suptitle(block.title, fontsize=11)
    grid = part.subplots(block.num_rows, block.num_columns, squeeze=False)
    shown, whole = block.shown, block.shown.psnr()
    titles = [f"{name}\n{decibels_text(v)}" for name, v in zip(shown.names, whole, strict=True)]
    panels = zip(grid[0], (shown.truth, *shown.images), ("truth\n", *titles), strict=True)
    for axes, image, title in panels:
        show_image(axes, image, title)
        _mark(axes, block.boxes)
    if block.has_gates:
        _draw_gates(grid[1], shown)
    for number, line in enumerate(grid[1 + block.has_gates :]):
        _draw_crops(line, block, number)


def _draw_crops(line: Any, block: Block, number: int) -> None:
    """A crop of the truth and of every model; the best rival's PSNR is white on black."""
    shown, (name, box) = block.shown, _numbered(block.boxes)[number]
    values, (rows, columns) = shown.psnr(box), box.pixels
    best = best_of(values, block.rivals)
    for place, (axes, image) in enumerate(zip(line, (shown.truth, *shown.images), strict=True)):
        show_image(axes, image[rows, columns], "")
        without_ticks(axes, BOX_COLORS[number % len(BOX_COLORS)], 3.0)
        is_best = place - 1 == best
        text = name if place == 0 else decibels_text(values[place - 1])
        paper, ink = ("black", "white") if is_best else ("white", "black")
        axes.text(
            0.03, 0.05, text, transform=axes.transAxes, fontsize=9, color=ink,
            fontweight="bold" if is_best else "normal",
            bbox={"facecolor": paper, "edgecolor": "0.5", "pad": 2.0, "linewidth": 0.5},
        )  # fmt: skip


def _draw_gates(line: Any, shown: Shown) -> None:
    """The gate of every expert below its image, and the expert with the largest in its colour."""
    gates = _gates(shown)
    colors = expert_colors(len(gates))
    line[0].axis("off")
    drawn: Any = None
    for axes, gate, color in zip(line[1:], gates, colors, strict=False):
        drawn = axes.imshow(
            gate.numpy(), vmin=0.0, vmax=1.0, cmap="viridis", interpolation="nearest"
        )
        axes.set_title(f"gate, {float(gate.mean()):.2f} on average", fontsize=9)
        without_ticks(axes, color, 3.0)
    scale = line[0].inset_axes((0.1, 0.45, 0.8, 0.1))
    scale.figure.colorbar(drawn, cax=scale, orientation="horizontal")
    scale.set_title("gate", fontsize=9)
    show_image(line[1 + len(gates)], largest_colors(gates), "largest gate, by border colour")


def _gates(shown: Shown) -> Float[Tensor, "E H W"]:
    assert shown.gates is not None, shown.title
    return shown.gates


def _mark(axes: Axes, boxes: Sequence[Box]) -> None:
    for place, box in enumerate(boxes):
        corner = (box.left - 0.5, box.top - 0.5)
        for color, width in (("black", 3.0), (BOX_COLORS[place % len(BOX_COLORS)], 1.5)):
            axes.add_patch(
                Rectangle(corner, box.width, box.height, fill=False, edgecolor=color, lw=width)
            )


def _numbered(boxes: Sequence[Box]) -> list[tuple[str, Box]]:
    return [(f"crop {number}", box) for number, box in enumerate(boxes, start=1)]
