"""What the tests of operations on mixtures share: tiny mixtures, and compositing by brute force."""

from typing import Any

import torch
from torch import Tensor
from toys import make_view

from moegs_ns.cameras import View
from moegs_ns.experts.base import Expert
from moegs_ns.experts.stg.expert import STGExpertConfig
from moegs_ns.gaussians import Gaussians
from moegs_ns.mixture.mixture import Mixture
from moegs_ns.mixture.volume_mixture import mixture_of
from moegs_ns.routers import RouterConfig, VolumeAwarePixelRouterConfig
from moegs_ns.scene import InitialPoints, SceneInfo
from moegs_ns.splatting.projection import (
    MAX_ALPHA,
    MIN_ALPHA,
    MIN_TRANSMITTANCE,
    apply_eps2d,
    project,
)

SCENE = SceneInfo(num_frames=5, fps=30.0, center=(0.0, 0.0, 0.0), extent=2.0, background=None)


def expert(seed: int, count: int) -> Expert:
    """A cloud that moves and fades, in front of the cameras of `make_view`."""
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(count, 3, generator=generator)
    cloud = InitialPoints(
        xyz=uniform * torch.tensor([2.0, 1.5, 1.0]) + torch.tensor([-1.0, -0.7, 3.0]),
        rgb=torch.rand(count, 3, generator=generator),
    )
    built = STGExpertConfig(near=0.0).setup(scene=SCENE, points=cloud)
    rows = built.gauss_params
    rows["opacities"].data = 3.0 * torch.randn(count, generator=generator)
    rows["scales"].data = -2.2 + 0.4 * torch.randn(count, 3, generator=generator)
    rows["motion"].data = 0.3 * torch.randn(count, 9, generator=generator)
    return built


def mixture(
    *counts: int,
    router: RouterConfig | None = None,
    temperature: float = 0.7,
    scramble: bool = True,
) -> Mixture:
    """Experts of these sizes under a router with random weights."""
    experts = [expert(seed, count) for seed, count in enumerate(counts)]
    return mix(experts, router, temperature, scramble=scramble)


def mix(
    experts: list[Expert],
    router: RouterConfig | None = None,
    temperature: float = 0.7,
    scramble: bool = True,
) -> Mixture:
    """Experts under a router with random weights."""
    torch.manual_seed(5)
    built = (router or VolumeAwarePixelRouterConfig()).setup(
        scene=SCENE, counts=[e.num_gaussians for e in experts]
    )
    if scramble:
        generator = torch.Generator().manual_seed(6)
        for parameter in built.parameters():
            parameter.data += torch.randn(parameter.shape, generator=generator)
    return mixture_of(experts, built, temperature)


def views(count: int = 3) -> list[View]:
    """Cameras of their own at different times, 21 x 17 pixels."""
    together = make_view(count, width=21, height=17)
    apart = [together.select(torch.tensor([row])) for row in range(count)]
    for row, view in enumerate(apart):
        view.times.fill_(row / max(1, count - 1))
        view.frame_ids.fill_(row)
    return apart


def brute_weights(gaussians: Gaussians, view: View) -> Tensor:
    """T·alpha [H, W, N] by a loop over sorted Gaussians (Eq. 5), one pixel grid at a time."""
    g = gaussians
    projected = project(g.means, g.quats, g.scales, g.opacities, view)
    projected = apply_eps2d(projected, gaussians.eps2d, gaussians.antialiased)
    y, x = torch.meshgrid(torch.arange(view.height), torch.arange(view.width), indexing="ij")
    transmittance = torch.ones(view.height, view.width)
    is_open = torch.ones(view.height, view.width, dtype=torch.bool)
    weights = torch.zeros(view.height, view.width, len(gaussians))
    for row in torch.argsort(projected.depths).tolist():
        dx = projected.means2d[row, 0] - (x + 0.5)
        dy = projected.means2d[row, 1] - (y + 0.5)
        a, b, c = projected.conics[row]
        alpha = projected.opacities[row] * torch.exp(
            -0.5 * (a * dx * dx + c * dy * dy) - b * dx * dy
        )
        alpha = alpha.clamp(max=MAX_ALPHA)
        # The fast paths look at a Gaussian only in the tiles that its square touches.
        radius, size = projected.radii[row], 16
        centre = projected.means2d[row]
        first = torch.floor((centre - radius) / size)
        last = torch.ceil((centre + radius) / size)
        touches = (x // size >= first[0]) & (x // size < last[0])
        touches &= (y // size >= first[1]) & (y // size < last[1])
        counts = touches & (alpha >= MIN_ALPHA) & is_open
        after = transmittance * (1.0 - alpha)
        is_open = is_open & ~(counts & (after <= MIN_TRANSMITTANCE))
        counts = counts & is_open
        own = torch.where(counts, transmittance * alpha, 0.0)
        weights[..., projected.gaussian_ids[row]] = own
        transmittance = torch.where(counts, after, transmittance)
    return weights


def brute_gates(mixed: Mixture, view: View) -> Tensor:
    """Gates [E, H, W] by plain formulas: Eq. 6 and 7 at every pixel, Eq. 8 over the experts."""
    # A module's own attributes are Tensor | Module to a type checker.
    router: Any = mixed.router
    time = view.time
    origins, directions = (rays[0] for rays in view.rays())
    logits = []
    for rows, part in zip(router.gaussian_weights, mixed.gaussians(time), strict=True):
        weights = brute_weights(part, view)
        w, w_dir, w_time = (weights @ rows[name] for name in ("w", "w_dir", "w_time"))
        ray = [(origins - router.scene_center) / router.scene_extent, directions]
        values = torch.cat([w_dir[..., None], time * w_time[..., None], *ray], dim=-1)
        layers = [layer.weight[..., 0, 0] for layer in router.phi[::2]]
        for index, layer in enumerate(layers):
            values = values @ layer.T
            values = values.relu() if index + 1 < len(layers) else values
        logits.append(w + values[..., 0])
    scaled = torch.stack(logits) / mixed.temperature
    return scaled.exp() / scaled.exp().sum(0)
