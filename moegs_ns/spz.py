"""Files of Gaussians in Niantic's SPZ format, version 3, which several web viewers read.

Written from the description in its README (github.com/nianticlabs/spz, MIT): a gzip stream of a
header of 16 bytes and of one array per attribute. About a tenth of the PLY of the same set; values
are rounded to 8 bits, positions to 24, and scales below e^-10 are enlarged to it.
"""

import gzip
import math
import struct
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from moegs_ns.atomic_files import atomic_write
from moegs_ns.gaussians import Gaussians, per_gaussian
from moegs_ns.ply import shown_gaussians

MAGIC, VERSION = 0x5053474E, 3
IS_ANTIALIASED = 1
"""Flag of sets whose opacities are compensated for the 2-D kernel."""
MAX_FRACTIONAL_BITS = 18
COLOR_SCALE = 0.15
"""Of a coefficient of degree 0, so that 8 bits hold colours somewhat outside of [0, 1]."""
LOG_SCALE_OFFSET, LOG_SCALE_STEPS = 10.0, 16.0
SH_STEPS = 128.0


@torch.no_grad()
def write_spz(gaussians: Gaussians, path: Path) -> int:
    """Write a set at one time, whose y axis points up; returns how many were written.

    Raises:
        OSError: it cannot be written; nothing is left of it.
        ValueError: nothing is opaque enough to be seen.
    """
    shown = shown_gaussians(gaussians, path)
    with atomic_write(path, "SPZ file", "name another place for it") as file:
        # No time of writing inside: the same set gives the same bytes.
        file.write(gzip.compress(spz_bytes(shown), mtime=0))
    return len(shown)


def spz_bytes(gaussians: Gaussians) -> bytes:
    """The content before compression."""
    bits = fractional_bits(float(gaussians.means.abs().max()))
    degree = math.isqrt(gaussians.sh.shape[1]) - 1
    is_antialiased = per_gaussian(gaussians.antialiased, gaussians.means)
    flags = IS_ANTIALIASED if bool(is_antialiased.all()) else 0
    header = struct.pack("<IIIBBBB", MAGIC, VERSION, len(gaussians), degree, bits, flags, 0)
    arrays = (
        _low_bytes((gaussians.means.double() * 2.0**bits).round().long(), 3),
        _bytes(255.0 * gaussians.opacities),
        _bytes(255.0 * (COLOR_SCALE * gaussians.sh[:, 0] + 0.5)),
        _bytes(LOG_SCALE_STEPS * (gaussians.scales.log() + LOG_SCALE_OFFSET)),
        _low_bytes(smallest_three(gaussians.quats), 4),
        _bytes(SH_STEPS * (gaussians.sh[:, 1:] + 1.0)),
    )
    return header + b"".join(array.tobytes() for array in arrays)


def fractional_bits(largest: float) -> int:
    """Bits after the point of 24 that leave room for the largest coordinate and its sign."""
    whole = math.ceil(math.log2(max(largest, 1e-9) * 1.001))
    return max(0, min(MAX_FRACTIONAL_BITS, 23 - whole))


def smallest_three(quats: Float[Tensor, "N 4"]) -> Int[Tensor, "N"]:
    """Quaternions (w first) in 32 bits: which of x, y, z, w is the largest in two, then a sign and
    nine bits of size for each of the others, which are at most sqrt(1/2)."""
    ordered = torch.nn.functional.normalize(quats.double(), dim=1)[:, [1, 2, 3, 0]]
    largest = ordered.abs().argmax(1, keepdim=True)
    ordered = ordered * torch.where(ordered.gather(1, largest) < 0, -1.0, 1.0)
    columns = torch.arange(4, device=quats.device).expand_as(ordered)
    others = ordered[columns != largest].view(-1, 3)
    sizes = (511 * math.sqrt(2.0) * others.abs()).round().long().clamp(max=511)
    packed = largest[:, 0]
    for part, size in zip((others < 0).long().unbind(1), sizes.unbind(1), strict=True):
        packed = (packed << 10) | (part << 9) | size
    return packed


def _bytes(values: Float[Tensor, "*s"]) -> UInt8[np.ndarray, "..."]:
    return values.round().clamp(0, 255).byte().cpu().numpy()


def _low_bytes(values: Int[Tensor, "*s"], count: int) -> UInt8[np.ndarray, "..."]:
    """The lowest bytes of integers, least first; negative ones as two's complements."""
    parts = [(values >> (8 * place)) & 255 for place in range(count)]
    return torch.stack(parts, dim=-1).byte().cpu().numpy()
