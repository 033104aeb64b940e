"""Random Gaussians before one camera, to measure speed without a trained run."""

import torch

from moegs_ns.cameras import UNKNOWN_ID, View
from moegs_ns.gaussians import Gaussians
from moegs_ns.splatting.projection import num_bases


def random_gaussians(count: int, view: View, generator: torch.Generator) -> Gaussians:
    """Gaussians that fill the image of the first camera, 2 to 8 units ahead of it, with standard
    deviations of 1 to 3 pixels.
    """
    device, focal = view.viewmats.device, float(view.Ks[0, 0, 0])
    uniform = torch.rand(count, 7, generator=generator)
    depths = 2.0 + 6.0 * uniform[:, 2]
    across = 1.1 * depths / focal
    x = (uniform[:, 0] - 0.5) * view.width * across
    y = (uniform[:, 1] - 0.5) * view.height * across
    means = torch.stack([x, y, depths], dim=-1)
    quats = torch.randn(count, 4, generator=generator)
    sh = 0.3 * torch.randn(count, num_bases(3), 3, generator=generator)
    scales = 2.0 * (0.5 + uniform[:, 3:6]) * (depths / focal)[:, None]
    return Gaussians(
        means=means.to(device),
        quats=torch.nn.functional.normalize(quats, dim=-1).to(device),
        scales=scales.to(device),
        opacities=(0.1 + 0.85 * uniform[:, 6]).to(device),
        sh=sh.to(device),
    )


def forward_view(width: int, height: int, device: str = "cpu") -> View:
    """One camera at the origin that looks along z."""
    focal = 0.9 * width
    K = torch.tensor([[focal, 0, 0.5 * width], [0, focal, 0.5 * height], [0, 0, 1]])
    unknown = torch.full((1,), UNKNOWN_ID)
    return View(
        viewmats=torch.eye(4)[None], Ks=K[None], width=width, height=height, times=torch.zeros(1),
        camera_ids=unknown, frame_ids=unknown,
    ).to(device)  # fmt: skip
