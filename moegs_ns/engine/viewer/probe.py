"""What is at one pixel: gates, the experts' colours, depth and the strongest Gaussians."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from moegs_ns.cameras import View
from moegs_ns.engine.viewer.outputs import ACCUMULATION, DEPTH, Subject, draw_alone
from moegs_ns.experts.base import Expert
from moegs_ns.gaussians import Gaussians
from moegs_ns.mixture.live import LiveChoices, at_temperature, none_of
from moegs_ns.mixture.mixture import Mixture
from moegs_ns.mixture.volume_mixture import VolumeMixture, cull_near
from moegs_ns.splatting.rendering import weighted_contributions

MOST_GAUSSIANS = 5
"""Gaussians that a reading names."""


@dataclass(frozen=True)
class StrongGaussian:
    """One of the Gaussians that make a pixel."""

    expert: int
    number: int
    """Row in the expert's full set."""
    share: float
    """Its part of the pixel: gate times transmittance times alpha."""
    depth: float
    """Along the optical axis in world units."""


@dataclass(frozen=True, eq=False)
class Reading:
    """What is at a pixel."""

    x: int
    y: int
    color: Float[Tensor, "3"]
    """Of the model's picture, in [0, 1]."""
    depth: float
    """Along the optical axis in world units; 0 where nothing is hit."""
    accumulation: float
    gates: list[float]
    """Of the experts; empty where nothing is mixed."""
    expert_colors: Float[Tensor, "E 3"]
    """Of each expert alone, in [0, 1]."""
    strongest: list[StrongGaussian]
    point: Float[Tensor, "3"]
    """Where the pixel's ray is at that depth, in the world."""


@torch.no_grad()
def read_pixel(subject: Subject, view: View, choices: LiveChoices, x: int, y: int) -> Reading:
    """What one camera of a subject shows at a pixel."""
    experts, drawing = subject.experts, subject.draw(view, choices)
    images = [draw_alone(one, k, view, choices)[0][y, x] for k, one in enumerate(experts)]
    gates = None if drawing.gates is None else drawing.gates[:, y, x, 0].tolist()
    depth = float(drawing.output(DEPTH).values[y, x])
    origin, direction = (rays[0, y, x] for rays in view.rays())
    shares = pixel_shares(experts, subject.mixture, view, choices, (x, y))
    return Reading(
        x,
        y,
        color=drawing.picture[y, x].clamp(0.0, 1.0),
        depth=depth,
        accumulation=float(drawing.output(ACCUMULATION).values[y, x]),
        gates=gates or [],
        expert_colors=torch.stack(images).clamp(0.0, 1.0),
        strongest=strongest(shares, gates or [1.0], view),
        point=origin + direction * depth / (direction @ view.viewmats[0, 2, :3]),
    )


@dataclass(frozen=True, eq=False)
class Shares:
    """What Gaussians of one expert put into a pixel."""

    gaussians: Gaussians
    values: Float[Tensor, "N"]
    """T·alpha of each."""
    is_gated: bool
    """Whether the gate is yet to be multiplied with."""


def pixel_shares(
    experts: Sequence[Expert],
    mixture: Mixture | None,
    view: View,
    choices: LiveChoices,
    pixel: tuple[int, int],
) -> list[Shares]:
    """T·alpha of every Gaussian at a pixel (x, y), within its expert or within all as one set."""
    is_on = choices.is_on or (True,) * len(experts)
    parts = [choices.select(k, expert.at(view.time)) for k, expert in enumerate(experts)]
    parts = [part if on else none_of(part) for part, on in zip(parts, is_on, strict=True)]
    near = [expert.near for expert in experts]
    is_joint = isinstance(mixture, VolumeMixture)
    if is_joint:
        culled = [cull_near(part, view, plane) for part, plane in zip(parts, near, strict=True)]
        with at_temperature(mixture, choices.temperature):
            parts = mixture.modulated(culled, view)
    sets = [Gaussians.cat(parts)] if is_joint else parts
    maps = torch.zeros(len(sets), 1, view.height, view.width, 1, device=view.Ks.device)
    maps[:, 0, pixel[1], pixel[0]] = 1.0
    planes = [min(near)] if is_joint else near
    with torch.enable_grad():
        found = weighted_contributions(sets, view, maps, near=planes)
    values = torch.cat([one[:, 0] for one in found]).split([len(part) for part in parts])
    return [Shares(*pair, not is_joint) for pair in zip(parts, values, strict=True)]


def strongest(shares: Sequence[Shares], gates: Sequence[float], view: View) -> list[StrongGaussian]:
    """The Gaussians with the largest parts of a pixel, largest first."""
    axis, offset = view.viewmats[0, 2, :3], view.viewmats[0, 2, 3]
    found = []
    for k, part in enumerate(shares):
        values = part.values * gates[k] if part.is_gated else part.values
        best = values.topk(min(MOST_GAUSSIANS, len(values)))
        for value, row in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            if value > 0.0:
                ids, mean = part.gaussians.ids, part.gaussians.means[row]
                number = row if ids is None else int(ids[row])
                found.append(StrongGaussian(k, number, value, float(mean @ axis + offset)))
    return sorted(found, key=lambda one: -one.share)[:MOST_GAUSSIANS]


def describe(reading: Reading, names: Sequence[str]) -> str:
    """A reading for viser's markdown."""
    lines = [
        f"**Pixel {reading.x}, {reading.y}**: colour {_color(reading.color)}, "
        f"depth {reading.depth:.3f}, accumulation {reading.accumulation:.3f}",
        "",
        "| Expert | Gate | Colour |",
        "| --- | --- | --- |",
    ]
    for k, name in enumerate(names):
        gate = f"{reading.gates[k]:.3f}" if reading.gates else "1"
        lines.append(f"| {name} | {gate} | {_color(reading.expert_colors[k])} |")
    lines += ["", "| Gaussian | Share | Depth |", "| --- | --- | --- |"]
    for one in reading.strongest:
        lines.append(f"| {names[one.expert]} {one.number} | {one.share:.3f} | {one.depth:.3f} |")
    return "\n".join(lines)


def _color(color: Float[Tensor, "3"]) -> str:
    return " ".join(f"{value:.3f}" for value in color.tolist())
