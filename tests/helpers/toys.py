"""Synthetic Gaussians and cameras for tests; every random number comes from a given generator."""

import math
from typing import Any

import torch

from moegs_ns.cameras import View
from moegs_ns.evaluation.depth import median_depth_experts
from moegs_ns.gaussians import Gaussians
from moegs_ns.splatting.projection import NEAR, num_bases

LEAVES = ("means", "quats", "scales", "opacities", "sh")
"""Fields of `Gaussians` that carry gradients."""


def make_gaussians(
    generator: torch.Generator, count: int = 48, *, degree: int = 2, dtype=torch.float32, **options
) -> Gaussians:
    """Gaussians of a few pixels that fill the image of `make_view`, some of them off-screen."""
    uniform = torch.rand(count, 8, generator=generator, dtype=torch.float64)
    depths = 2.0 + 4.0 * uniform[:, 2]
    means = torch.stack(
        [1.3 * (uniform[:, 0] - 0.5) * depths, (uniform[:, 1] - 0.5) * depths, depths], dim=-1
    )
    quats = torch.randn(count, 4, generator=generator, dtype=torch.float64)
    sh = torch.randn(count, num_bases(degree), 3, generator=generator, dtype=torch.float64)
    return Gaussians(
        means=means.to(dtype),
        quats=torch.nn.functional.normalize(quats, dim=-1).to(dtype),
        scales=(0.03 + 0.12 * uniform[:, 3:6]).to(dtype),
        opacities=(0.05 + 0.93 * uniform[:, 6]).to(dtype),
        sh=(0.3 * sh).to(dtype),
        **options,
    )


def make_view(
    cameras: int = 1, *, width: int = 37, height: int = 29, dtype=torch.float32, shift: float = 0.0
) -> View:
    """Cameras side by side, each turned a little; `shift` moves the principal point in pixels."""
    viewmats = torch.eye(4, dtype=torch.float64).repeat(cameras, 1, 1)
    for camera in range(cameras):
        angle = 0.15 * camera
        viewmats[camera, 0, 0] = viewmats[camera, 2, 2] = math.cos(angle)
        viewmats[camera, 0, 2], viewmats[camera, 2, 0] = math.sin(angle), -math.sin(angle)
        viewmats[camera, 0, 3] = -0.3 * camera
    focal = 0.8 * max(width, height)
    K = torch.tensor(
        [[focal, 0, 0.5 * width + shift], [0, 1.1 * focal, 0.5 * height - shift], [0, 0, 1]],
        dtype=torch.float64,
    )
    return View(
        viewmats=viewmats.to(dtype),
        Ks=K.repeat(cameras, 1, 1).to(dtype),
        width=width,
        height=height,
        times=torch.full((cameras,), 0.25, dtype=dtype),
        camera_ids=torch.arange(cameras),
        frame_ids=torch.full((cameras,), 3),
    )


def images(count: int = 2, seed: int = 0) -> torch.Tensor:
    """Random images of 24 x 20 pixels."""
    return torch.rand(count, 24, 20, 3, generator=torch.Generator().manual_seed(seed))


def median_depth(gaussians: Gaussians, view: View, near: float = NEAR, **options: Any):
    """`median_depth_experts` of one set of Gaussians."""
    return median_depth_experts([gaussians], view, near=[near], **options)[0]
