"""The compact encoding of a model's state: fixed-point numbers, deflated.

A compact state holds `VERSION` under `VERSION_KEY`, and for each entry of the model's state either
the entry itself or an encoded tensor: a dictionary with the columns' `origin` and `step`, the
`bits` of a code, the `shape`, and the deflated `codes`, column after column, low bytes before high
ones. A value is `origin + step * code`.

The precision of a tensor depends on its name in `gauss_params` (one entry per Gaussian, gsplat's
names) and on the spread of its values, never on the family:

- `means` get 16 bits within their bounding box: 0.15 mm over a room of 10 m, where half floats are
  4 mm apart 5 units from the origin.
- `sh0` and `shN` are colours, shown in 8 bits, so steps finer than `SH_STEP` are wasted. `shN` gets
  8 bits; `sh0`, 3 of 48 numbers, gets 16, as one odd Gaussian would coarsen the base colour of all.
- Everything else gets `SPREAD_STEPS` steps to a standard deviation, per column of `gauss_params`
  and over the whole of other tensors: as precise as half floats for the larger values, also far
  from zero (times late in a clip), and better to deflate near zero: 26 half floats and 48 bytes
  would make 15 MB of 150,000 Gaussians.
- A tensor with outliers beyond 16 bits is stored as half floats if those can hold it, else as it
  is; so are small tensors outside of `gauss_params`: scene buffers, biases, small nets.
"""

import math
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

VERSION = 1
VERSION_KEY = "compact_version"
RECIPE = "recipe."
"""What the names of a recipe's state begin with; only a training that goes on needs it."""
ROWS = "gauss_params."
SH_STEP = 1.0 / 192.0
"""Finest step of spherical harmonics; its rounding changes a colour by 0.4 of 255 (RMS)."""
SPREAD_STEPS = 512.0
"""Steps to a standard deviation; half floats between 2 and 4 are 1/512 apart."""
LARGEST_GROWTH = 4.0
"""How much larger steps may become for outliers to fit 16 bits; half floats are better beyond."""
SMALLEST_CODED = 4096
"""Numbers that a tensor outside of `gauss_params` must have to be worth coding."""
OUTLIERS = 1e-3
"""Fraction of the smallest and largest values that do not count for the spread."""
LARGEST_EXPANSION = 100
"""Bytes of codes to a deflated one at most; those of trained Gaussians are about 1.5."""
ALWAYS_INFLATED = 2**26
"""Bytes of codes that are inflated whatever they were deflated to: constants of small runs."""
TAILS = (0.0, 1e-4, 1e-3)
"""Fractions of the smallest and largest harmonics that may be clipped for the others' sake."""


@dataclass(frozen=True)
class Precision:
    """How finely the columns of a tensor are stored."""

    bits: int
    finest: Float[Tensor, "D"]
    """Smallest step that is of use."""
    growth: float = math.inf
    """How many times larger a step may become for all values to fit the bits."""
    tails: tuple[float, ...] = (0.0,)
    """Fractions of each end of a column that may be clipped; the one of least squared error is."""


@dataclass(frozen=True)
class FixedPoint:
    """Columns as numbers `origin + step * code`."""

    origin: Float[Tensor, "D"]
    step: Float[Tensor, "D"]
    codes: Int[Tensor, "N D"]

    def values(self) -> Float[Tensor, "N D"]:
        """The numbers that the codes stand for."""
        return (self.origin.double() + self.step.double() * self.codes).float()


def encode_state(state: dict[str, Any]) -> dict[str, Any]:
    """The compact state of a model, without that of its recipe.

    Raises:
        ValueError: a tensor holds numbers that are not finite.
    """
    encoded: dict[str, Any] = {VERSION_KEY: VERSION}
    for name, value in state.items():
        if not name.startswith(RECIPE):
            encoded[name] = encode(name, value) if isinstance(value, Tensor) else value
    return encoded


def decode_state(stored: dict[str, Any]) -> dict[str, Any]:
    """The state of a model that was encoded, without that of its recipe.

    Raises:
        ValueError: another version of the encoding was used.
    """
    version = stored[VERSION_KEY]
    if version != VERSION:
        raise ValueError(
            f"Expected a compact run of encoding {VERSION}, but this one has {version}; open it "
            "with the version of moegs_ns that wrote it."
        )
    entries = {name: value for name, value in stored.items() if name != VERSION_KEY}
    try:
        check_expansion(entries)
        return {name: decode(value) for name, value in entries.items()}
    except (zlib.error, LookupError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"The compact run cannot be decoded ({str(error).splitlines()[0]}); copy it again, or "
            "export it anew."
        ) from error


def check_expansion(entries: dict[str, Any]) -> None:
    """Raise ValueError if the codes are those of far more numbers than the file can stand for."""
    coded = [entry for entry in entries.values() if is_coded(entry)]
    stored = sum(entry["codes"].numel() for entry in coded)
    inflated = sum(math.prod(entry["shape"]) * entry["bits"] // 8 for entry in coded)
    if inflated > max(LARGEST_EXPANSION * stored, ALWAYS_INFLATED):
        raise ValueError(f"{stored:,} bytes stand for {inflated:,}")


def is_coded(entry: Any) -> bool:
    """Whether an entry of a compact state is an encoded tensor."""
    return isinstance(entry, dict) and "codes" in entry


def is_compact(stored: dict[str, Any]) -> bool:
    """Whether the stored state of a model is in the compact encoding."""
    return VERSION_KEY in stored


def encode(name: str, values: Tensor) -> Tensor | dict[str, Any]:
    """One tensor of a model's state; itself where coding is of no use.

    Raises:
        ValueError: it holds numbers that are not finite.
    """
    is_gaussians = ROWS in name
    is_worth_it = values.numel() > 0 if is_gaussians else values.numel() >= SMALLEST_CODED
    # Tensors that stay are copied, since a view is saved with the whole storage behind it.
    if not (values.is_floating_point() and is_worth_it):
        return values.detach().clone()
    if not values.isfinite().all():
        raise ValueError(
            f"Expected finite numbers to export, but '{name}' holds others; export an earlier "
            "checkpoint, or train the run anew."
        )
    columns = values.detach().float().reshape(len(values) if is_gaussians else values.numel(), -1)
    precision = precision_of(name.rpartition(ROWS)[2] if is_gaussians else "", columns)
    coded = fixed_point(columns, precision)
    if bool((coded.step > precision.growth * precision.finest).any()):
        half = values.detach().half()
        return half if bool(half.isfinite().all()) else values.detach().clone()
    return {
        "shape": list(values.shape),
        "bits": precision.bits,
        "origin": coded.origin,
        "step": coded.step,
        "codes": _deflated(coded.codes, precision.bits),
    }


def decode(stored: Any) -> Any:
    """The value of an entry, in single precision where it was encoded."""
    if isinstance(stored, Tensor):
        return stored.float() if stored.dtype == torch.half else stored
    if not is_coded(stored):
        return stored
    count = math.prod(stored["shape"])
    codes = _inflated(stored["codes"], stored["bits"], count, len(stored["origin"]))
    return FixedPoint(stored["origin"], stored["step"], codes).values().reshape(stored["shape"])


def precision_of(parameter: str, columns: Float[Tensor, "N D"]) -> Precision:
    """The precision of a parameter of Gaussians, or of any other tensor for an empty name."""
    if parameter == "means":
        return Precision(16, torch.zeros(columns.shape[1]))
    if parameter == "sh0":
        return Precision(16, torch.full(columns.shape[1:], SH_STEP))
    if parameter == "shN":
        return Precision(8, torch.full(columns.shape[1:], SH_STEP), tails=TAILS)
    return Precision(16, _spread(columns) / SPREAD_STEPS, growth=LARGEST_GROWTH)


def fixed_point(columns: Float[Tensor, "N D"], precision: Precision) -> FixedPoint:
    """The columns in as many bits as the precision has, N at least 1."""
    ordered, largest = columns.sort(dim=0).values, 2**precision.bits - 1
    candidates = []
    for tail in precision.tails:
        skip = int(tail * len(columns))
        low, high = ordered[skip], ordered[len(ordered) - 1 - skip]
        step = torch.maximum((high - low) / largest, precision.finest)
        # A constant column has no step; any other divisor makes its codes 0.
        codes = ((columns - low) / step.where(step > 0, 1.0)).round().clamp(0, largest)
        candidates.append(FixedPoint(low.clone(), step, codes.int()))
    errors = torch.stack([(each.values() - columns).square().sum(0) for each in candidates])
    chosen, index = errors.argmin(0), torch.arange(columns.shape[1])
    return FixedPoint(
        torch.stack([each.origin for each in candidates])[chosen, index],
        torch.stack([each.step for each in candidates])[chosen, index],
        torch.stack([each.codes for each in candidates])[chosen, :, index].T,
    )


def _spread(columns: Float[Tensor, "N D"]) -> Float[Tensor, "D"]:
    """Standard deviation of each column without its outliers."""
    skip = int(OUTLIERS * len(columns))
    return columns.sort(dim=0).values[skip : len(columns) - skip].std(dim=0, correction=0)


def _deflated(codes: Int[Tensor, "N D"], bits: int) -> UInt8[Tensor, "B"]:
    """Codes as bytes, low bytes of all apart from high ones, whose few values deflate well."""
    numbers = codes.T.numpy().astype(f"<u{bits // 8}").reshape(-1, 1)
    planes = numbers.view(np.uint8).T
    return torch.frombuffer(bytearray(zlib.compress(planes.tobytes(), level=9)), dtype=torch.uint8)


def _inflated(
    deflated: UInt8[Tensor, "B"], bits: int, count: int, num_columns: int
) -> Int[Tensor, "N D"]:
    """See `_deflated`; never more than `count` numbers are inflated."""
    inflater, size = zlib.decompressobj(), count * bits // 8
    found = inflater.decompress(deflated.numpy().tobytes(), max(1, size))
    if len(found) != size or inflater.decompress(inflater.unconsumed_tail, 1):
        raise ValueError(f"expected {size:,} bytes of codes, got other than that")
    planes = np.frombuffer(found, np.uint8)
    numbers = np.ascontiguousarray(planes.reshape(bits // 8, -1).T).view(f"<u{bits // 8}")
    return torch.from_numpy(numbers.reshape(num_columns, -1).T.astype(np.int32))
