"""Mixtures of still clouds in front of one camera."""

import torch

from moegs_ns.cameras import View
from moegs_ns.experts.stg.expert import STGExpertConfig
from moegs_ns.mixture.mixture import Mixture
from moegs_ns.routers import VolumeAwarePixelRouterConfig
from moegs_ns.scene import InitialPoints, SceneInfo

SCENE = SceneInfo(num_frames=5, fps=30.0, center=(0.0, 0.0, -3.0), extent=3.0, background=None)


def expert(seed: int, count: int):
    """A still cloud in front of the camera, with colours and opacities of its own."""
    generator = torch.Generator().manual_seed(seed)
    cloud = InitialPoints(
        xyz=torch.rand(count, 3, generator=generator) - 0.5,
        rgb=torch.rand(count, 3, generator=generator),
    )
    built = STGExpertConfig().setup(scene=SCENE, points=cloud)
    built.gauss_params["opacities"].data += 2.0
    return built


def view(width: int = 30, height: int = 22) -> View:
    viewmats = torch.eye(4)[None].clone()
    viewmats[0, 2, 3] = 3.0
    K = torch.tensor([[[40.0, 0, width / 2], [0, 40.0, height / 2], [0, 0, 1]]])
    ids = torch.zeros(1, dtype=torch.long)
    return View(viewmats, K, width, height, torch.tensor([0.5]), ids, ids)


def mixture(*experts, scramble: bool = True, temperature: float = 1.0) -> Mixture:
    torch.manual_seed(3)
    router = VolumeAwarePixelRouterConfig().setup(
        scene=SCENE, counts=[e.num_gaussians for e in experts]
    )
    if scramble:
        generator = torch.Generator().manual_seed(4)
        for rows in router.weights:
            for parameter in rows.values():
                parameter.data += torch.randn(parameter.shape, generator=generator)
    return Mixture(experts, router, temperature)
