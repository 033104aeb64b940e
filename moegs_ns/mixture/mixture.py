"""The mixture of experts: the method of the paper in one short function, `Mixture.render`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Int
from nerfstudio.data.scene_box import OrientedBox
from torch import Tensor, nn

from moegs_ns.cameras import View
from moegs_ns.experts.base import Expert, within
from moegs_ns.gaussians import Gaussians
from moegs_ns.routers import Router
from moegs_ns.splatting import (
    ExpertRenderOutputs,
    ProjectedGaussians,
    project,
    rasterize,
)

MIN_ACCUMULATION = 1e-6
"""Accumulated opacity below which a pixel shows nothing, and so belongs to all experts alike."""

EXPERT_COLORS = (
    (0.12, 0.47, 0.71), (1.0, 0.5, 0.05), (0.17, 0.63, 0.17), (0.84, 0.15, 0.16),
    (0.58, 0.4, 0.74), (0.55, 0.34, 0.29), (0.89, 0.47, 0.76), (0.5, 0.5, 0.5),
)  # fmt: skip
"""Colours of the argmax-gate map, in the order of the experts."""


def blend(
    images: Float[Tensor, "E H W 3"], logits: Float[Tensor, "E H W 1"], temperature: float
) -> tuple[Float[Tensor, "H W 3"], Float[Tensor, "E H W 1"]]:
    """Mix the experts' images by a softmax over their logits (Eq. 8); also returns the gates."""
    gates = gates_from(logits, temperature)
    return (gates * images).sum(dim=0), gates


def gates_from(logits: Float[Tensor, "E H W 1"], temperature: float) -> Float[Tensor, "E H W 1"]:
    """Softmax over the experts' logits, divided by the temperature first (Eq. 8)."""
    return torch.softmax(logits / temperature, dim=0)


@dataclass(frozen=True, eq=False)
class MixtureRender:
    """Everything that rendering a mixture for one camera yields."""

    rgb: Float[Tensor, "H W 3"]
    gates: Float[Tensor, "E H W 1"]
    """Weight of each expert; they sum to 1 at every pixel."""
    images: Float[Tensor, "E H W 3"]
    """Final images of the experts alone."""
    depth: Float[Tensor, "H W 1"]
    """Along the optical axis in world units, the mean over the experts by gate and opacity; 0 where
    nothing is hit."""
    accumulation: Float[Tensor, "H W 1"]
    """Accumulated opacity."""
    rendered: ExpertRenderOutputs
    """What was rasterised of the experts, and the router's features."""

    @property
    def argmax_gate(self) -> Float[Tensor, "H W 3"]:
        """The colour of the expert with the largest gate at each pixel."""
        colors = torch.tensor(EXPERT_COLORS, device=self.gates.device)
        return colors[self.gates[..., 0].argmax(0) % len(colors)]


class Mixture(nn.Module):
    """Experts, frozen unless they are thawed, and the router that blends their images."""

    def __init__(self, experts: Sequence[Expert], router: Router, temperature: float) -> None:
        super().__init__()
        self.expert_modules = nn.ModuleList(experts)
        self.router: Router = router
        self.temperature = temperature
        self.is_thawed = False
        """Whether the experts are trained together with the router."""
        for expert in experts:
            expert.requires_grad_(False)
            expert.eval()

    def thaw(self) -> None:
        """Let the experts be trained together with the router (MoE-GS, appendix B.1)."""
        self.is_thawed = True
        self.expert_modules.requires_grad_(True)

    def train(self, mode: bool = True) -> "Mixture":
        """Put the router in training mode; frozen experts stay as they were trained."""
        super().train(mode)
        if not self.is_thawed:
            self.expert_modules.eval()
        return self

    @property
    def experts(self) -> list[Expert]:
        """The experts, in the order of their gates."""
        return cast(list[Expert], list(self.expert_modules))

    @property
    def near(self) -> list[float]:
        """Distances of the experts' near planes in world units."""
        return [expert.near for expert in self.experts]

    @property
    def num_gaussians(self) -> int:
        """Gaussians of all experts together."""
        return sum(expert.num_gaussians for expert in self.experts)

    def gaussians(
        self,
        time: Float[Tensor, ""],
        box: OrientedBox | None = None,
        camera: Int[Tensor, ""] | None = None,
    ) -> list[Gaussians]:
        """Every expert's Gaussians at a time, cropped to a box if there is one; `camera` is a
        training camera whose clock is to be matched."""
        return [within(expert.at(time, camera), box) for expert in self.experts]

    def project(
        self,
        view: View,
        *,
        camera: Int[Tensor, ""] | None = None,
        own_views: Sequence[View] | None = None,
        gaussians: Sequence[Gaussians] | None = None,
    ) -> list[ProjectedGaussians]:
        """Every expert's Gaussians on its image plane; arguments as in `render`."""
        views = own_views or [view] * len(self.expert_modules)
        if gaussians is None:
            pairs = zip(self.experts, views, strict=True)
            return [expert.project([own], [camera])[0] for expert, own in pairs]
        parts = zip(gaussians, views, self.near, strict=True)
        return [project(one, own, near=near) for one, own, near in parts]

    def render(
        self,
        view: View,
        *,
        camera: Int[Tensor, ""] | None = None,
        own_views: Sequence[View] | None = None,
        gaussians: Sequence[Gaussians] | None = None,
        projected: Sequence[ProjectedGaussians] | None = None,
        backgrounds: Sequence[Float[Tensor, "3"]] | None = None,
    ) -> MixtureRender:
        """Render the mixture for one camera: the one path of every image.

        `camera` is a training camera whose clock is to be matched. `own_views` are the same camera
        where each expert believes it to be, by default all as the view says; the router looks along
        the view's rays. `gaussians` replace the experts' at the view's time (cropped ones, for
        example), and `projected` replaces the projection of the experts altogether. `backgrounds`
        replace the experts' own.
        """
        assert len(view) == 1, f"a mixture renders one camera at a time, got {len(view)}"
        # 1. Project each expert; this alone is replayed as a CUDA graph.
        if projected is None:
            projected = self.project(view, camera=camera, own_views=own_views, gaussians=gaussians)
        # 2. Evaluate the router's per-Gaussian features (Eq. 6).
        features = None
        if self.router.has_weights:
            features = [
                self.router.gaussian_features(k, one.ids, view.time)
                for k, one in enumerate(projected)
            ]
        # 3. Rasterise all experts in one pass.
        rendered = rasterize(projected, view, features)
        # 4. Shade each expert's image and lay it over its background.
        images = self._images(rendered, own_views or [view] * len(rendered), backgrounds)
        # 5. Evaluate the logits of the gates from the rasterised features (Eq. 7).
        logits = self.logits(rendered.features[:, 0], view)
        # 6. Blend the images by the gates (Eq. 8), and likewise opacity and depth.
        rgb, gates = blend(images, logits, self.temperature)
        weights = gates * rendered.alpha[:, 0]
        accumulation = weights.sum(0)
        # Where an expert shows nothing it has no depth either, not one of 0.
        depth = (weights * rendered.depth[:, 0]).sum(0) / accumulation.clamp(min=MIN_ACCUMULATION)
        return MixtureRender(rgb, gates, images, depth, accumulation, rendered)

    def _images(
        self,
        rendered: ExpertRenderOutputs,
        views: Sequence[View],
        backgrounds: Sequence[Float[Tensor, "3"]] | None = None,
    ) -> Float[Tensor, "E H W 3"]:
        """The experts' final images of one camera, by default over their own backgrounds."""
        backgrounds = backgrounds or [expert.background for expert in self.experts]
        finished = [
            expert.finish(rendered[k], views[k], backgrounds[k])[0]
            for k, expert in enumerate(self.experts)
        ]
        return torch.stack(finished)

    def logits(self, features: Float[Tensor, "E H W F"], view: View) -> Float[Tensor, "E H W 1"]:
        """Logits of the gates (Eq. 7) from one camera's rasterised features."""
        origins, directions = (rays[0] for rays in view.rays())
        return self.router(features, origins, directions, view.time)
