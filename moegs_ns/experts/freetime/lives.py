"""Lives of Gaussians: how opacity depends on the distance from a Gaussian's own time, and how far
it has moved by then. Times are in seconds, velocities in world units per second."""

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from moegs_ns.gaussians import GaussianParams

LONGEST = 1.0 / 6.0
"""Longest duration of a gated life in seconds; published as a sixth of a second."""
GATE_SHARPNESS = 20.0
"""Factor of the raw gate before its sigmoid."""
CLOSED_GATE = -1.0
OPEN_GATE = 0.1
"""Raw gates of points that are seen in one key frame, and of points that may be there always."""
FLAT_START = 1e-6
"""Half the length of the flat part at first, in seconds."""


class BellLife:
    """A bell of the duration as its standard deviation, and linear motion (FreeTimeGS)."""

    @staticmethod
    def initial_parameters(
        durations: Float[Tensor, "N"],
        velocities: Float[Tensor, "N 3"],
        is_lasting: Bool[Tensor, "N"],
    ) -> dict[str, Tensor]:
        """Raw parameters of Gaussians with these durations in seconds and velocities at their own
        time; `is_lasting` marks those that may be there at all times."""
        return {"durations": durations.log(), "velocities": velocities}

    def durations(self, raw: GaussianParams) -> Float[Tensor, "N"]:
        """In seconds."""
        return raw["durations"].exp()

    def visibility(self, raw: GaussianParams, dt: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
        """Factor on opacity, 1 at the Gaussian's own time, `dt` seconds from it."""
        return torch.exp(-0.5 * (dt / self.durations(raw)).square())

    def spans(self, raw: GaussianParams, seconds: Float[Tensor, ""]) -> Float[Tensor, "N"]:
        """Integral of `visibility` over all times in clips of this length, at most 1."""
        lengths = math.sqrt(2.0 * math.pi) * self.durations(raw)
        return (lengths / seconds.clamp(min=1e-9)).clamp(max=1.0)

    def displacement(self, raw: GaussianParams, dt: Float[Tensor, "N"]) -> Float[Tensor, "N 3"]:
        """From where the Gaussian is at its own time, in world units."""
        return dt[:, None] * raw["velocities"]

    def closedness(self, raw: GaussianParams) -> Float[Tensor, ""] | None:
        """Mean of 1 - gate, where there are gates."""
        return None


class GatedLife(BellLife):
    """Short bells over a floor, the gate: open, a Gaussian stays for ever (FreeTimeGS++)."""

    @staticmethod
    def initial_parameters(
        durations: Float[Tensor, "N"],
        velocities: Float[Tensor, "N 3"],
        is_lasting: Bool[Tensor, "N"],
    ) -> dict[str, Tensor]:
        """See `BellLife`; the gate is half open for what may be there always, else shut."""
        shares = (durations / LONGEST).clamp(0.05, 0.95)
        gates = torch.where(is_lasting, OPEN_GATE, CLOSED_GATE)
        return {"durations": shares.logit(), "velocities": velocities, "gate_logits": gates}

    def durations(self, raw: GaussianParams) -> Float[Tensor, "N"]:
        return LONGEST * raw["durations"].sigmoid()

    def gates(self, raw: GaussianParams) -> Float[Tensor, "N"]:
        """From 0, a bell alone, to 1, visible at all times."""
        return torch.sigmoid(GATE_SHARPNESS * raw["gate_logits"])

    def visibility(self, raw: GaussianParams, dt: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
        gates = self.gates(raw)
        return gates + (1.0 - gates) * super().visibility(raw, dt)

    def spans(self, raw: GaussianParams, seconds: Float[Tensor, ""]) -> Float[Tensor, "N"]:
        """See `BellLife`; what is seen through the gate lasts one clip."""
        gates = self.gates(raw)
        return gates + (1.0 - gates) * super().spans(raw, seconds)

    def closedness(self, raw: GaussianParams) -> Float[Tensor, ""] | None:
        return (1.0 - self.gates(raw)).mean()


class FlatTopLife(BellLife):
    """Fully visible for a while, with bells at both ends; long lives move little (SharpTimeGS)."""

    @staticmethod
    def initial_parameters(
        durations: Float[Tensor, "N"],
        velocities: Float[Tensor, "N 3"],
        is_lasting: Bool[Tensor, "N"],
    ) -> dict[str, Tensor]:
        """See `BellLife`; the flat part is a moment at first."""
        halves = torch.full_like(durations, FLAT_START)
        raw_velocities = velocities * _slowness(durations + halves)[:, None]
        return {
            "durations": durations.log(), "velocities": raw_velocities, "flat_halves": halves,
        }  # fmt: skip

    def visibility(self, raw: GaussianParams, dt: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
        beyond = (dt.abs() - raw["flat_halves"].abs()).clamp(min=0.0)
        return torch.exp(-(beyond / self.durations(raw)).square())

    def spans(self, raw: GaussianParams, seconds: Float[Tensor, ""]) -> Float[Tensor, "N"]:
        bells = math.sqrt(math.pi) * self.durations(raw)
        return ((2.0 * raw["flat_halves"].abs() + bells) / seconds.clamp(min=1e-9)).clamp(max=1.0)

    def displacement(self, raw: GaussianParams, dt: Float[Tensor, "N"]) -> Float[Tensor, "N 3"]:
        length = self.durations(raw) + raw["flat_halves"].abs()
        return (dt / _slowness(length))[:, None] * raw["velocities"]


def _slowness(lengths: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
    """Raw velocity over that at which something moves whose life has this length."""
    return 1.0 + lengths.square().clamp(min=1.0)


LifeName = Literal["bell", "gated", "flat-top"]
LIVES: dict[LifeName, BellLife] = {
    "bell": BellLife(),
    "gated": GatedLife(),
    "flat-top": FlatTopLife(),
}
