"""The picture that the viewer shows: colours of maps, the gates over it, two outputs side by side.

Every value keeps its meaning: gates and opacities are shown from 0 to 1, errors from 0 to 0.2, and
only depth is stretched to its own range. Nothing outside of [0, 1] leaves this file.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import torch
from jaxtyping import Float
from nerfstudio.utils.colormaps import Colormaps, apply_float_colormap
from torch import Tensor

from moegs_ns.engine.viewer.outputs import Output
from moegs_ns.mixture.mixture import blended_colors, largest_colors

NO_OVERLAY, GATES, WINNERS = "None", "Gates", "Strongest gate"
OVERLAYS = (NO_OVERLAY, GATES, WINNERS)
COLOR_MAPS = tuple(name for name in get_args(Colormaps) if name not in ("default", "pca"))
LINE = (0.133, 0.157, 0.192)
"""Colour of the line between two outputs."""


@dataclass(frozen=True)
class Look:
    """What is to be seen."""

    left: str
    """The output that is shown, by name."""
    right: str | None = None
    """The output right of the line; None without one."""
    position: float = 0.5
    """Where the line is, from 0 at the left to 1."""
    colors: str = "turbo"
    """Colours of maps."""
    overlay: str = NO_OVERLAY
    """What lies over the left output."""
    strength: float = 0.5
    """How much of it, from 0 to 1."""


def compose(
    look: Look,
    output: Callable[[str], Output],
    gates: Callable[[], Float[Tensor, "E H W 1"] | None],
) -> Float[Tensor, "H W 3"]:
    """The picture in [0, 1]; asks only for the outputs and gates that are to be seen."""
    picture = colored(output(look.left), look.colors)
    if look.overlay != NO_OVERLAY and look.strength > 0.0:
        shares = gates()
        if shares is not None:
            picture = torch.lerp(picture, gate_colors(shares, look.overlay), look.strength)
    if look.right is not None:
        width = picture.shape[1]
        column = min(int(look.position * width), width - 1)
        right = colored(output(look.right), look.colors)
        picture = torch.cat([picture[:, :column], right[:, column:]], dim=1)
        picture[:, column] = torch.tensor(LINE, device=picture.device)
    return picture.clamp(0.0, 1.0)


def colored(output: Output, colors: str) -> Float[Tensor, "H W 3"]:
    """An output as a picture in [0, 1]."""
    values = torch.nan_to_num(output.values, 0.0)
    if values.shape[-1] == 3:
        return values.clamp(0.0, 1.0)
    values = over_own_range(values) if output.top is None else values / output.top
    color_map: Any = colors
    return apply_float_colormap(values.clamp(0.0, 1.0), color_map).to(values.dtype)


def over_own_range(values: Float[Tensor, "H W 1"]) -> Float[Tensor, "H W 1"]:
    """Values stretched to [0, 1]; pixels of 0, where nothing is, stay there."""
    hit = values > 0.0
    if not bool(hit.any()):
        return values
    least = values[hit].min()
    return torch.where(hit, (values - least) / (values.max() - least).clamp(min=1e-9), 0.0)


def gate_colors(gates: Float[Tensor, "E H W 1"], overlay: str) -> Float[Tensor, "H W 3"]:
    """The experts' colours: mixed by their gates, or that of the largest one."""
    return blended_colors(gates) if overlay == GATES else largest_colors(gates[..., 0])
