"""How the player page stores Gaussians: rounded numbers, changes from key frame to key frame, byte
by byte, so that the compression of browsers (gzip) finds what repeats."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Shaped

from moegs_ns.reports.player_tracks import TIMED, Tracks

BITS = {
    "means": 24,
    "quats": 16,
    "log_scales": 8,
    "opacities": 8,
    "colors": 8,
    "slopes": 8,
    "kind_of": 8,
    "shares": 8,
    "features": 16,
}
"""Of each attribute, in the order of the file."""

LIMITS = {"colors": (-1.0, 2.0), "slopes": (-1.0, 1.0)}
"""Beyond which colours are cut, so that one odd Gaussian takes no precision from the others."""


@dataclass(frozen=True)
class Codes:
    """Of each channel of an attribute, the value of code 0 and what one step more adds."""

    low: list[float]
    step: list[float]


def codes_of(tracks: Tracks) -> dict[str, Codes]:
    """Codes that span the values of each channel."""
    found = {}
    for name, bits in BITS.items():
        values = table(tracks, name)
        low, high = values.min((0, 1)), values.max((0, 1))
        if name in LIMITS:
            low, high = (np.clip(bound, *LIMITS[name]) for bound in (low, high))
        if name == "kind_of":
            low, high = np.zeros(1), np.full(1, 255.0)
        step = np.maximum((high - low).astype(np.float64) / (2**bits - 1), 1e-12)
        found[name] = Codes([float(v) for v in low], [float(v) for v in step])
    return found


def table(tracks: Tracks, name: str) -> Shaped[np.ndarray, "F N C"]:
    """An attribute at all key frames, or once if it does not change, with its channels."""
    values = getattr(tracks, name)
    timed = values if name in TIMED else values[None]
    return timed if timed.ndim == 3 else timed[..., None]


def attributes(tracks: Tracks) -> list[tuple[str, int, int, bool]]:
    """Name, bits and channels of every attribute and whether it changes, as the page reads them."""
    return [(n, bits, table(tracks, n).shape[2], n in TIMED) for n, bits in BITS.items()]


def encoded(tracks: Tracks, codes: dict[str, Codes]) -> bytes:
    """All attributes one after the other; of each the channels, of each the bytes from the lowest,
    of each the key frames, of each the Gaussians."""
    return b"".join(
        _planes(_rounded(table(tracks, name), codes[name], bits), bits)
        for name, bits in BITS.items()
    )


def _rounded(
    values: Shaped[np.ndarray, "F N C"], codes: Codes, bits: int
) -> Int[np.ndarray, "F N C"]:
    rounded = np.round((values.astype(np.float64) - np.array(codes.low)) / np.array(codes.step))
    return np.clip(rounded, 0, 2**bits - 1).astype(np.int64)


def _planes(table: Int[np.ndarray, "F N C"], bits: int) -> bytes:
    changes = np.diff(table, axis=0, prepend=np.zeros_like(table[:1])) % 2**bits
    planes = [(changes >> shift) & 255 for shift in range(0, bits, 8)]
    ordered = np.stack(planes).transpose(3, 0, 1, 2)
    return np.ascontiguousarray(ordered, dtype=np.uint8).tobytes()


@dataclass(frozen=True)
class Packed:
    """Gaussians as the page holds them."""

    content: bytes
    """Compressed; the still ones, then the moving ones."""
    codes: dict[str, Codes]
    num_still: int
    num_moving: int
    num_frames: int


def pack(tracks: Tracks) -> Packed:
    """Gaussians that stand still are stored once, the others at every key frame."""
    is_still = tracks.is_still()
    still, moving = tracks.select(is_still).first_frame(), tracks.select(~is_still)
    codes = codes_of(tracks)
    content = encoded(still, codes) + encoded(moving, codes)
    return Packed(
        content=gzip.compress(content, compresslevel=6, mtime=0),
        codes=codes,
        num_still=len(still),
        num_moving=len(moving),
        num_frames=len(tracks.means),
    )


def pack_within(
    tracks: Tracks, max_bytes: float, size_of: Callable[[Packed], int]
) -> tuple[Packed, int]:
    """Pack as many Gaussians as fit, the most important first; returns their number as well.

    Raises:
        ValueError: not even a handful fits.
    """
    order = np.argsort(-tracks.importance(), kind="stable")
    count = len(order)
    while True:
        packed = pack(tracks.select(np.sort(order[:count])))
        size = size_of(packed)
        if size <= max_bytes:
            return packed, count
        count = int(count * min(0.95, 0.98 * max_bytes / size))
        if count < 1:
            raise ValueError(
                f"--max-mb expects room for some Gaussians, but the page needs {size / 1e6:.2f} MB "
                "with one; allow more."
            )
