"""What the player page needs of a mixture to compute its gates at every pixel."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from moegs_ns.mixture.mixture import Mixture
from moegs_ns.reports.clip_frames import ClipSet, FusedClip, MixtureClip
from moegs_ns.routers import MIN_OPACITY, PixelRouter, Router, VolumeAwarePixelRouter

MOST_WEIGHTS = 4096
"""Weights of Φ that the page's shader has room for, as it is one sum after the other."""


@dataclass(frozen=True, eq=False)
class GatedClip(MixtureClip):
    """A mixture over the whole clip: the experts apart, and what gates are computed from.
    Browsers that cannot draw experts apart show the fused set, by its responsibilities."""

    @property
    def what(self) -> str:
        """See base."""
        return f"the mixture of {' and '.join(self.names)}"

    @property
    def shares(self) -> list[Float[Tensor, "_"]]:
        """See base."""
        return self.responsibilities

    @property
    @torch.no_grad()
    def gate_features(self) -> list[Float[Tensor, "_ F"]]:
        """The router's weights and behind them the evidence, if logits are corrected by it."""
        router = self.mixture.router
        if not router.has_weights:
            return super().gate_features
        # At time 1 the features are the weights themselves; the page multiplies by the time, which
        # it may do after compositing.
        end = self.moment(self.scene.first_frame).new_ones(())
        count = len(router.initial_weights)
        tables = [router.gaussian_features(k, None, end) for k in range(len(self.experts))]
        # What lies between is ones, which accumulate to the opacity; the page has that already.
        return [torch.cat([table[:, :count], table[:, count + 1 :]], dim=1) for table in tables]


def gated(clip: FusedClip) -> GatedClip:
    """The mixture of a fused set, which must be one that a page can express."""
    return GatedClip(clip.experts, clip.names, clip.mixture, clip.responsibilities)


def not_expressed(mixture: Mixture) -> str | None:
    """Why a page cannot compute the gates of a mixture; None if it can."""
    router = mixture.router
    if mixture.gate_config.blur > 0.0:
        return "logits of the gates are blurred, and a page computes gates of single pixels"
    if isinstance(router, VolumeAwarePixelRouter):
        size = router.config.kernel_size
        if router.config.refine and size > 1:
            return f"Φ has kernels of {size}x{size}, and a page computes gates of single pixels"
    elif not isinstance(router, PixelRouter):
        return f"a page has no gates of a {type(router).__name__}"
    count = sum(parameter.numel() for parameter in router.phi.parameters())
    if count > MOST_WEIGHTS:
        return f"Φ has {count:,} weights, and a page's shader takes at most {MOST_WEIGHTS:,}"
    if not all(bool(torch.isfinite(value).all()) for value in router.state_dict().values()):
        return "its router has weights that are no finite numbers"
    return None


def gates_header(clip: ClipSet) -> dict[str, Any] | None:
    """The router as the page's shader computes it (`player/gates_shader.js`); None without gates.

    A logit is the feature w, if there is one, plus what Φ makes of its inputs.
    """
    if not isinstance(clip, GatedClip):
        return None
    mixture, router = clip.mixture, clip.mixture.router
    weights = list(router.initial_weights)
    correction = router.fitted_correction
    linear = None
    if correction is not None:
        linear = {
            "bias": correction.bias.tolist(),
            "slopes": correction.slopes.tolist(),
            "minOpacity": MIN_OPACITY,
        }
    return {
        "weights": weights,
        "inputs": [*weights[1:], "ray"] if weights else ["ray", "time"],
        "phi": phi_layers(router),
        "center": router.scene_center.tolist(),
        "extent": float(router.scene_extent),
        "firstFrame": clip.scene.first_frame,
        "lastFrame": clip.scene.first_frame + max(1, clip.scene.num_frames - 1),
        "temperature": mixture.temperature,
        "uniform": mixture.gate_config.uniform,
        "correction": linear,
        "backgrounds": [expert.background.tolist() for expert in clip.experts],
    }


def phi_layers(router: Router) -> list[dict[str, Any]]:
    """Φ's linear layers: a row of weights for each output, and the outputs' biases; between layers
    lies ReLU. Without layers there is no Φ."""
    modules = list(router.phi)
    between = modules[1::2]
    linear = [each for each in modules[::2] if isinstance(each, (nn.Conv2d, nn.Linear))]
    assert len(linear) == len(modules[::2]), modules
    assert all(isinstance(each, nn.ReLU) for each in between), between
    return [
        {
            "rows": layer.weight.flatten(1).tolist(),
            "bias": [0.0] * len(layer.weight) if layer.bias is None else layer.bias.tolist(),
        }
        for layer in linear
    ]
