"""Files of Gaussians in the PLY layout of 3D Gaussian Splatting, which its viewers read."""

from pathlib import Path

import numpy as np
import torch

from moegs_ns.atomic_files import atomic_write
from moegs_ns.gaussians import Gaussians

SMALLEST_OPACITY = 1.0 / 255.0
"""Less opaque Gaussians are never drawn, and are left out of files."""
LARGEST_OPACITY = 1.0 - 1e-6
"""The logit of 1 would be infinite."""


@torch.no_grad()
def write_ply(gaussians: Gaussians, path: Path) -> int:
    """Write a set at one time, under a temporary name first; returns how many were written.

    Values are raw as viewers expect them: log scales, logits of opacities, quaternions with w
    first, harmonics channel by channel. Invisible Gaussians are left out. The file cannot
    hold eps2d or antialiasing: viewers use their own.

    Raises:
        ImportError: the package plyfile is missing.
        ValueError: nothing is opaque enough to be seen.
    """
    try:
        from plyfile import PlyData, PlyElement
    except ImportError as error:
        raise ImportError(
            f"Writing {path} needs the package plyfile; run `pip install plyfile`."
        ) from error
    shown = shown_gaussians(gaussians, path)
    columns = ply_columns(shown)
    table = np.empty(len(shown), dtype=[(name, "<f4") for name in columns])
    for name, values in columns.items():
        table[name] = values
    with atomic_write(path, "PLY file", "name another place for it") as file:
        PlyData([PlyElement.describe(table, "vertex")], byte_order="<").write(file)
    return len(shown)


def shown_gaussians(gaussians: Gaussians, path: Path) -> Gaussians:
    """Those that can be seen.

    Raises:
        ValueError: there are none; names the file that they were for.
    """
    shown = gaussians.select(gaussians.opacities >= SMALLEST_OPACITY)
    if len(shown) == 0:
        raise ValueError(
            f"Expected Gaussians to write to {path}, but none of {len(gaussians):,} is opaque "
            "enough to be seen; choose another time."
        )
    return shown


def ply_columns(gaussians: Gaussians) -> dict[str, np.ndarray]:
    """Raw values by their names in the file, in the order of the file."""
    opacities = gaussians.opacities.clamp(max=LARGEST_OPACITY).logit()
    rest = gaussians.sh[:, 1:].transpose(1, 2).flatten(1)
    groups = {
        ("x", "y", "z"): gaussians.means,
        ("nx", "ny", "nz"): torch.zeros_like(gaussians.means),
        tuple(f"f_dc_{i}" for i in range(3)): gaussians.sh[:, 0],
        tuple(f"f_rest_{i}" for i in range(rest.shape[1])): rest,
        ("opacity",): opacities[:, None],
        tuple(f"scale_{i}" for i in range(3)): gaussians.scales.log(),
        tuple(f"rot_{i}" for i in range(4)): gaussians.quats,
    }
    return {
        name: values[:, column].float().cpu().numpy()
        for names, values in groups.items()
        for column, name in enumerate(names)
    }
