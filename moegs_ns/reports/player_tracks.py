"""What the Gaussians of a clip do over key frames, row by row, for the player page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from moegs_ns.gaussians import Gaussians, per_gaussian
from moegs_ns.ply import SMALLEST_OPACITY
from moegs_ns.progress import track
from moegs_ns.reports.clip_frames import ClipSet
from moegs_ns.splatting.projection import DEGREE_0

MAX_KINDS = 16
"""Different near planes and 2-D kernels that the page's shader has room for."""
STILL_SHIFT = 0.05
"""A Gaussian stands still if it moves by less than this fraction of its smallest extent."""
STILL_SHARE = 0.02
"""And if its size, and by this much of 1 its rotation, opacity and colour change by less."""
SMALLEST_SCALE = 1e-12
TIMED = ("means", "quats", "log_scales", "opacities", "colors")
"""What changes from key frame to key frame."""
LASTING = ("slopes", "kind")
"""What is as it is where a Gaussian is most opaque."""
FIXED = ("slopes", "kind_of", "shares", "features")
"""What a Gaussian has once for all key frames."""

Kind = tuple[int, float, float, bool]
"""Number of the expert, near plane, eps2d and whether opacities are compensated for it."""


@dataclass(frozen=True, eq=False)
class Tracks:
    """N Gaussians at F key frames, in the world of the data set; a row is one Gaussian throughout.

    Where an expert does not have a Gaussian at a key frame, its opacity is 0 there.
    """

    means: Float[np.ndarray, "F N 3"]
    quats: Float[np.ndarray, "F N 4"]
    """Unit quaternions, w first, of neighbouring signs from frame to frame."""
    log_scales: Float[np.ndarray, "F N 3"]
    opacities: Float[np.ndarray, "F N"]
    colors: Float[np.ndarray, "F N 3"]
    """Without what depends on the direction; may lie outside of [0, 1]."""
    slopes: Float[np.ndarray, "N 9"]
    """Coefficients of degree 1, three channels each, where the Gaussian is most opaque."""
    kind_of: Int[np.ndarray, "N"]
    shares: Float[np.ndarray, "N"]
    """What opacities are times where all experts are drawn as one set."""
    features: Float[np.ndarray, "N D"]
    """What gates are computed from; D is 0 without gates."""
    kinds: list[Kind]

    def __len__(self) -> int:
        return len(self.kind_of)

    def select(self, rows: Int[np.ndarray, "M"] | Bool[np.ndarray, "N"]) -> "Tracks":
        """Some of the Gaussians, at all key frames."""
        timed = {name: getattr(self, name)[:, rows] for name in TIMED}
        return Tracks(
            **timed, **{name: getattr(self, name)[rows] for name in FIXED}, kinds=self.kinds
        )

    def first_frame(self) -> "Tracks":
        """All Gaussians at the first key frame only."""
        return replace(self, **{name: getattr(self, name)[:1] for name in TIMED})

    def importance(self) -> Float[np.ndarray, "N"]:
        """Opacity times the area that a Gaussian covers at most, seen from a unit's distance."""
        largest_two = np.sort(self.log_scales, axis=-1)[..., 1:].sum(-1)
        return (self.opacities * np.exp(largest_two)).max(0)

    def is_still(self) -> Bool[np.ndarray, "N"]:
        """Which Gaussians stay what they are, as far as anybody could see."""
        sizes = np.exp(self.log_scales)
        shift = np.abs(self.means - self.means[:1]).max((0, 2))
        agreement = np.abs((self.quats * self.quats[:1]).sum(-1)).min(0)
        turn = np.sqrt(np.clip(1.0 - agreement**2, 0.0, None))
        changes = [turn] + [
            _spread(values.reshape(len(values), len(self), -1))
            for values in (self.log_scales, self.opacities, self.colors)
        ]
        return (shift < STILL_SHIFT * sizes.min((0, 2))) & (np.max(changes, 0) < STILL_SHARE)


def _spread(values: Float[np.ndarray, "F N C"]) -> Float[np.ndarray, "N"]:
    return np.ptp(values, axis=0).max(-1)


def bake(clip: ClipSet, frames: Sequence[int]) -> Tracks:
    """The Gaussians that are ever opaque enough to be seen at some key frames.

    Raises:
        ValueError: there are none, or they are of more kinds than the page can draw.
    """
    values: dict[str, np.ndarray] = {}
    lasting: dict[str, np.ndarray] = {}
    brightest = np.zeros(0)
    for place, frame in enumerate(track(frames, "Baking key frames")):
        rows = _rows(clip, frame)
        if not values:
            values = {n: np.empty((len(frames), *rows[n].shape), np.float32) for n in TIMED}
            lasting, brightest = {n: rows[n].copy() for n in LASTING}, rows["opacities"]
        for name, stacked in values.items():
            stacked[place] = rows[name]
        is_brighter = rows["opacities"] > brightest
        brightest = np.maximum(brightest, rows["opacities"])
        for name, kept in lasting.items():
            kept[is_brighter] = rows[name][is_brighter]
    is_seen = values["opacities"] >= SMALLEST_OPACITY
    shown = is_seen.any(0)
    if not shown.any():
        raise ValueError(
            f"Expected Gaussians to show, but none of {len(shown):,} is opaque enough to be seen "
            "at any of these frames; choose other --frames."
        )
    values = {name: stacked[:, shown] for name, stacked in values.items()}
    _hold(values, is_seen[:, shown])
    _align_signs(values["quats"])
    kinds, kind_of = np.unique(lasting["kind"][shown], axis=0, return_inverse=True)
    if len(kinds) > MAX_KINDS:
        raise ValueError(
            f"The page draws Gaussians of at most {MAX_KINDS} kinds (experts, near planes, 2-D "
            f"kernels), but there are {len(kinds)}; export single experts."
        )
    return Tracks(
        **values,
        slopes=lasting["slopes"][shown],
        kind_of=kind_of.reshape(-1),
        shares=_full_rows(clip.shares)[shown],
        features=_full_rows(clip.gate_features)[shown],
        kinds=[(int(k[0]), float(k[1]), float(k[2]), bool(k[3])) for k in kinds],
    )


def _rows(clip: ClipSet, frame: int) -> dict[str, np.ndarray]:
    """Values of all Gaussians that the experts have, one row each; opacity 0 where absent."""
    tables = []
    for number, (part, expert) in enumerate(zip(clip.parts(frame), clip.experts, strict=True)):
        kind = torch.stack(
            [
                torch.full_like(part.opacities, number),
                torch.full_like(part.opacities, expert.near),
                per_gaussian(part.eps2d, part.opacities).float(),
                per_gaussian(part.antialiased, part.opacities).float(),
            ],
            dim=1,
        )
        values = {
            "means": part.means,
            "quats": torch.nn.functional.normalize(part.quats, dim=-1),
            "log_scales": part.scales.clamp(min=SMALLEST_SCALE).log(),
            "opacities": part.opacities,
            "colors": DEGREE_0 * part.sh[:, 0] + 0.5,
            "slopes": _slopes(part),
            "kind": kind,
        }
        tables.append({n: _scattered(v, part, expert.num_gaussians) for n, v in values.items()})
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def _full_rows(values: Sequence[Float[Tensor, "_ *D"]]) -> Float[np.ndarray, "N *D"]:
    """Values of all experts' full sets, one after the other."""
    return torch.cat([each.detach().float().cpu() for each in values]).numpy()


def _slopes(part: Gaussians) -> Float[Tensor, "N 9"]:
    first = part.sh[:, 1:4].flatten(1)
    return torch.nn.functional.pad(first, (0, 9 - first.shape[1]))


def _scattered(values: Tensor, part: Gaussians, count: int) -> np.ndarray:
    """Rows at their places in the expert's full set."""
    if part.ids is None:
        return values.float().cpu().numpy()
    full = values.new_zeros(count, *values.shape[1:])
    full[part.ids] = values
    return full.float().cpu().numpy()


def _hold(values: dict[str, np.ndarray], is_seen: Bool[np.ndarray, "F N"]) -> None:
    """Give Gaussians where nobody sees them the values of the nearest key frame where they are
    seen, but for opacity: they fade in and out in their place, and cost nothing while they wait."""
    values["opacities"][~is_seen] = 0.0
    nearest = nearest_seen(is_seen)
    rows = np.arange(is_seen.shape[1])
    for name in ("means", "quats", "log_scales", "colors"):
        values[name][...] = values[name][nearest, rows]


def nearest_seen(is_seen: Bool[np.ndarray, "F N"]) -> Int[np.ndarray, "F N"]:
    """Key frame nearest to each at which a Gaussian is seen; its own where that is never."""
    count = len(is_seen)
    own = np.arange(count)[:, None]
    before = np.maximum.accumulate(np.where(is_seen, own, -(10**9)), axis=0)
    after = np.minimum.accumulate(np.where(is_seen, own, 10**9)[::-1], axis=0)[::-1]
    nearest = np.where(own - before <= after - own, before, after)
    return np.where((nearest < 0) | (nearest >= count), own, nearest)


def _align_signs(quats: Float[np.ndarray, "F N 4"]) -> None:
    """q and -q turn alike; between neighbours of one sign lies the short way."""
    for frame in range(1, len(quats)):
        is_opposite = (quats[frame] * quats[frame - 1]).sum(-1) < 0
        quats[frame][is_opposite] *= -1.0


def blends(clip: ClipSet, frames: Sequence[int]) -> bool:
    """Whether what lies between key frames may be made of both neighbours: not where one expert
    takes over from another, of which half of each would be seen."""
    device = clip.experts[0].background.device
    times = [torch.tensor(clip.time_of(frame), device=device) for frame in frames]
    return all(len({id(expert.member_at(time)) for time in times}) == 1 for expert in clip.experts)


def key_frames(frames: Sequence[int], most: int) -> list[int]:
    """At most `most` of them, evenly apart, from the first on; the last is always one."""
    step = max(1, math.ceil((len(frames) - 1) / max(1, most - 1)))
    chosen = list(frames[::step])
    return chosen if chosen[-1] == frames[-1] else [*chosen, frames[-1]]
