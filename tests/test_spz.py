"""SPZ files hold what was written, as a reader made from the format's description finds it."""

import gzip
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import make_gaussians, make_view

from moegs_ns.gaussians import Gaussians
from moegs_ns.splatting import render
from moegs_ns.spz import write_spz


def read_spz(path: Path) -> tuple[Gaussians, int]:
    """A set and the flags of its file, by the README of the format, value by value."""
    content = gzip.decompress(path.read_bytes())
    magic, version, count, degree, bits, flags, reserved = struct.unpack_from("<4sIIBBBB", content)
    assert magic == b"NGSP" and version == 3 and reserved == 0
    at, rest = 16, (degree + 1) ** 2 - 1

    def take(width: int) -> np.ndarray:
        nonlocal at
        found = np.frombuffer(content, np.uint8, count * width, at).reshape(count, width)
        at += count * width
        return found.astype(np.float64)

    raw = take(9).reshape(count, 3, 3) @ np.array([1.0, 256.0, 65536.0])
    means = np.where(raw >= 2**23, raw - 2**24, raw) / 2**bits
    opacities = take(1)[:, 0] / 255
    base = (take(3) / 255 - 0.5) / 0.15
    scales = np.exp(take(3) / 16 - 10)
    words = take(4) @ np.array([1.0, 256.0, 65536.0, 16777216.0])
    quats = np.stack([quaternion(int(word)) for word in words])
    harmonics = (take(3 * rest).reshape(count, rest, 3) - 128) / 128
    assert at == len(content)
    values = means, quats, scales, opacities, np.concatenate([base[:, None], harmonics], axis=1)
    return Gaussians(*(torch.from_numpy(value).float() for value in values)), flags


def quaternion(word: int) -> np.ndarray:
    """Largest of x, y, z, w in the top two bits; signs and nine bits of the others, w last."""
    largest, found = word >> 30, np.zeros(4)
    for place in reversed([i for i in range(4) if i != largest]):
        found[place] = (word & 511) / 511 / np.sqrt(2) * (-1 if word & 512 else 1)
        word >>= 10
    found[largest] = np.sqrt(1 - (found**2).sum())
    return found[[3, 0, 1, 2]]


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_values_are_those_written_within_their_steps(generator, tmp_path: Path, degree: int):
    written = make_gaussians(generator, 200, degree=degree)
    assert write_spz(written, tmp_path / "a.spz") == 200
    found, flags = read_spz(tmp_path / "a.spz")
    assert flags == 0
    assert (found.means - written.means).abs().max() <= 2.0**-18
    assert (found.opacities - written.opacities).abs().max() <= 0.51 / 255
    assert (found.scales / written.scales).log().abs().max() <= 0.51 / 16
    agreement = (found.quats * written.quats).sum(1).abs()
    assert agreement.min() > 1 - 1e-5
    assert (found.sh[:, 0] - written.sh[:, 0]).abs().max() <= 0.51 / 255 / 0.15
    inside = written.sh[:, 1:].abs() < 0.99
    assert ((found.sh - written.sh)[:, 1:].abs()[inside] <= 0.51 / 128).all()


def test_it_is_drawn_as_the_set_that_was_written(generator, tmp_path: Path):
    written, view = make_gaussians(generator, degree=1), make_view()
    write_spz(written, tmp_path / "a.spz")
    difference = render(read_spz(tmp_path / "a.spz")[0], view).rgb - render(written, view).rgb
    assert difference.square().mean() < 1e-4


@pytest.mark.parametrize("size", [0.01, 100.0, 5e4])
def test_small_and_large_worlds_use_the_bits_that_they_have(generator, tmp_path, size: float):
    gaussians = make_gaussians(generator, 50, degree=0)
    written = replace(gaussians, means=size * gaussians.means)
    write_spz(written, tmp_path / "a.spz")
    found = read_spz(tmp_path / "a.spz")[0]
    step = max(2.0**-19, 2.0**-22 * float(written.means.abs().max()))
    assert (found.means - written.means).abs().max() <= 1.01 * step


def test_compensated_opacities_are_marked_and_invisible_ones_left_out(generator, tmp_path: Path):
    gaussians = make_gaussians(generator, 4, antialiased=True)
    gaussians.opacities[0] = 0.0
    assert write_spz(gaussians, tmp_path / "a.spz") == 3
    assert read_spz(tmp_path / "a.spz")[1] == 1
    gaussians.opacities[:] = 0.0
    with pytest.raises(ValueError, match="none of 4 is opaque enough"):
        write_spz(gaussians, tmp_path / "b.spz")
    assert [path.name for path in tmp_path.iterdir()] == ["a.spz"]
