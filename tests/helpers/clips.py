"""Clips of hand-made Gaussians, without a trained run."""

import torch
from mixture_helpers import expert, mixture, views

from moegs_ns.mixture.responsibilities import responsibilities
from moegs_ns.reports.clip_frames import ClipSet, FusedClip
from moegs_ns.routers import RouterConfig

NEVER_FADES = 10.0
"""Log of a width in time that is as good as endless."""


def expert_clip(count: int = 40, *, moving: int | None = None) -> ClipSet:
    """Five frames of an expert of which the first `moving` Gaussians (None for all) fly, turn and
    fade; with colours that depend on the direction."""
    built = expert(0, count)
    rows, generator = built.gauss_params, torch.Generator().manual_seed(1)
    built.active_sh_degree = 1
    rows["shN"].data = 0.2 * torch.randn(rows["shN"].shape, generator=generator)
    rows["quats"].data = torch.randn(rows["quats"].shape, generator=generator)
    rows["angular_rates"].data = 0.4 * torch.randn(count, 4, generator=generator)
    rows["time_log_scales"].data -= 0.5
    if moving is not None:
        for name, value in (("motion", 0.0), ("angular_rates", 0.0)):
            rows[name].data[moving:] = value
        rows["time_log_scales"].data[moving:] = NEVER_FADES
    return ClipSet([built], ["stg"])


def fused_clip(*counts: int, router: RouterConfig | None = None) -> FusedClip:
    """Five frames of the fused set of a mixture."""
    mixed = mixture(*counts, router=router)
    values = [value.float() for value in responsibilities(mixed, views()).values]
    names = [f"expert_{k}" for k in range(len(counts))]
    return FusedClip(list(mixed.experts), names, mixed, values)


def needles(clip: FusedClip) -> FusedClip:
    """The clip with needles in all directions, which a wrong rotation or projection shows
    elsewhere; with colours by direction, and a background for each expert."""
    for number, each in enumerate(clip.experts):
        each.background.fill_(0.2 + 0.2 * number)
        each.active_sh_degree = 1
        rows, generator = each.gauss_params, torch.Generator().manual_seed(3)
        rows["shN"].data = 0.2 * torch.randn(rows["shN"].shape, generator=generator)
        rows["scales"].data[:, 0] += 1.0
        rows["quats"].data = torch.randn(rows["quats"].shape, generator=generator)
    return clip
