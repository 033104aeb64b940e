"""Densifiers of plain Gaussians, and what they show."""

import torch
from toys import make_view

from moegs_ns.gaussians import GaussianParams, Gaussians
from moegs_ns.splatting import render
from moegs_ns.training.densification import DensificationConfig, Densifier


def make_densifier(gaussians: Gaussians, config: DensificationConfig) -> Densifier:
    """The rows of a set, under an optimiser that has taken a step."""
    rows = GaussianParams(
        {
            "means": gaussians.means.clone(),
            "quats": gaussians.quats.clone(),
            "scales": gaussians.scales.log(),
            "opacities": gaussians.opacities.logit(),
            "sh0": gaussians.sh.clone(),
        }
    )
    built = Densifier(config, rows, 1.0, torch.Generator().manual_seed(0))
    built.optimizers = {name: torch.optim.Adam([value], 0.0) for name, value in rows.items()}
    for name, value in rows.items():
        value.grad = torch.ones_like(value)
        built.optimizers[name].step()
    return built


def image_of(densifier: Densifier) -> torch.Tensor:
    """What its Gaussians show."""
    rows = densifier.parameters
    gaussians = Gaussians(
        rows["means"], rows["quats"], rows["scales"].exp(), rows["opacities"].sigmoid(), rows["sh0"]
    )
    return render(gaussians, make_view(2)).rgb.detach()
