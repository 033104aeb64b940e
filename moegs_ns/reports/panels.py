"""Pictures of a model's outputs: chosen by readable names, side by side, labelled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from nerfstudio.utils.colormaps import apply_float_colormap
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from moegs_ns.experts.names import readable
from moegs_ns.mixture.mixture import blended_colors, expert_colors

TRUTH, ERROR, GATES = "truth", "error", "gates"
ERROR_GAIN = 4.0
"""The error of a pixel, times this, is shown from 0 to 1."""
INK, PAPER = (235, 235, 235), (24, 24, 24)
Picture = UInt8[np.ndarray, "H W 3"]


@dataclass(frozen=True)
class Panel:
    """One picture among those side by side."""

    output: str
    """Name of the model's output, or `TRUTH`, `ERROR`, `GATES`."""
    label: str


def panels_of(names: Sequence[str], *, is_mixture: bool) -> dict[str, Panel]:
    """All panels of a mixture of experts of these names, or of a single expert, by what a user
    calls them."""
    whole = "mixture" if is_mixture else names[0]
    found = {whole: Panel("rgb", readable(whole))}
    if is_mixture:
        found |= {name: Panel(f"rgb_{name}", readable(name)) for name in names}
        found[GATES] = Panel(GATES, "gates")
        found["argmax_gate"] = Panel("argmax_gate", "largest gate")
        found |= {f"gate_{n}": Panel(f"gate_{n}", f"gate of {readable(n)}") for n in names}
    found["depth"] = Panel("depth", "depth")
    found["opacity"] = Panel("accumulation", "opacity")
    return found


def choose_panels(wanted: Sequence[str], available: Mapping[str, Panel]) -> list[Panel]:
    """The panels that names or earlier names (`rgb_stg`) stand for; case and hyphens do not count.

    Raises:
        ValueError: a name is none; lists those that there are.
    """
    if not wanted:
        raise ValueError(f"--outputs expects names, got none; there are {', '.join(available)}.")
    known = {_key(panel.output): panel for panel in available.values()}
    known |= {_key(panel.label): panel for panel in available.values()}
    known |= {_key(name): panel for name, panel in available.items()}
    for name in wanted:
        if _key(name) not in known:
            raise ValueError(f"--outputs expects names among {', '.join(available)}, got '{name}'.")
    return [known[_key(name)] for name in wanted]


def _key(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "").replace(" ", "")


@dataclass(frozen=True)
class Painter:
    """Makes pictures of outputs, in ranges of colour that stay the same over a video."""

    experts: Sequence[str]
    depths: tuple[float, float]
    """Depths at the ends of the colours."""

    def paint(
        self, panel: Panel, outputs: Mapping[str, Tensor], truth: Float[Tensor, "H W 3"] | None
    ) -> Picture:
        """The picture of a panel; `truth` is needed for what is compared with it."""
        image = self._colors(panel.output, outputs, truth)
        return (image.clamp(0.0, 1.0) * 255.0).round().byte().cpu().numpy()

    def _colors(
        self, name: str, outputs: Mapping[str, Tensor], truth: Tensor | None
    ) -> Float[Tensor, "H W 3"]:
        if name == GATES:
            gates = torch.stack([outputs[f"gate_{each}"] for each in self.experts])
            return blended_colors(gates)
        if name in (TRUTH, ERROR):
            assert truth is not None, name
            error = (outputs["rgb"] - truth).abs().nan_to_num().mean(-1, keepdim=True)
            return truth if name == TRUTH else colormap(ERROR_GAIN * error, "inferno")
        image = outputs[name]
        if name == "depth":
            near, far = self.depths
            # Depth 0 is where nothing is.
            nearness = ((far - image) / max(far - near, 1e-9)).clamp(0.0, 1.0)
            return colormap(nearness * (image > 0), "turbo")
        return image if image.shape[-1] == 3 else colormap(image, "viridis")

    def key(self, panel: Panel) -> list[tuple[str, tuple[int, int, int]]]:
        """Names beside their colours, for a panel whose colours are those of experts."""
        if panel.output not in (GATES, "argmax_gate"):
            return []
        named = zip(self.experts, expert_colors(len(self.experts)), strict=True)
        return [
            (readable(name), (round(255 * r), round(255 * g), round(255 * b)))
            for name, (r, g, b) in named
        ]


def colormap(image: Float[Tensor, "H W 1"], name: str) -> Float[Tensor, "H W 3"]:
    """One of nerfstudio's colour maps over [0, 1]."""
    colors = apply_float_colormap(image.clamp(0.0, 1.0).nan_to_num(), name)  # pyright: ignore
    return colors.to(image)


def scaled(picture: Picture, width: int) -> UInt8[np.ndarray, "_ _ 3"]:
    """The picture, scaled down to a width if it is wider."""
    if picture.shape[1] <= width:
        return picture
    height = round(picture.shape[0] * width / picture.shape[1])
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def side_by_side(
    pictures: Sequence[Picture],
    labels: Sequence[str],
    keys: Sequence[Sequence[tuple[str, tuple[int, int, int]]]],
) -> UInt8[np.ndarray, "_ _ 3"]:
    """One picture of several of a size, each below a strip with its label, and with the names of
    colours after it."""
    height, width = pictures[0].shape[:2]
    size = max(10, min(28, round(height / 22)))
    font = ImageFont.load_default(size)
    strip = Image.new("RGB", (width * len(pictures), round(1.7 * size)), PAPER)
    for column, (label, key) in enumerate(zip(labels, keys, strict=True)):
        cell = Image.new("RGB", (width, strip.height), PAPER)
        draw = ImageDraw.Draw(cell)
        middle, x = strip.height / 2, 0.5 * size
        for text, color in ((label, INK), *key):
            draw.text((x, middle), text, fill=color, font=font, anchor="lm")
            x += draw.textlength(text, font=font) + 0.8 * size
        strip.paste(cell, (column * width, 0))
    return np.concatenate([np.asarray(strip), np.concatenate(list(pictures), axis=1)], axis=0)
