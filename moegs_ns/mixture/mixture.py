"""The mixture of experts: the story of the paper in one short function."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Int
from nerfstudio.data.scene_box import OrientedBox
from torch import Tensor, nn

from moegs_ns.cameras import UNKNOWN_ID, View
from moegs_ns.experts.base import Expert
from moegs_ns.experts.projector import Instant, Instants
from moegs_ns.gaussians import Gaussians
from moegs_ns.routers import Router
from moegs_ns.splatting import (
    ExpertRenderOutputs,
    ProjectedGaussians,
    RenderOutput,
    composite,
    project,
    rasterize,
)

SMALLEST_COVER = 1e-6
"""Cover below which a pixel shows nothing, and so belongs to all experts alike."""


def blend(
    images: Float[Tensor, "E H W 3"], logits: Float[Tensor, "E H W 1"], temperature: float
) -> tuple[Float[Tensor, "H W 3"], Float[Tensor, "E H W 1"]]:
    """Mix the experts' images by a softmax over their logits (Eq. 8); also returns the gates.

    TrainingJob, evaluation, rendering and the viewer all blend here.
    """
    gates = gates_from(logits, temperature)
    return (gates * images).sum(dim=0), gates


def gates_from(logits: Float[Tensor, "E H W 1"], temperature: float) -> Float[Tensor, "E H W 1"]:
    """Softmax over the experts' logits, divided by the temperature first."""
    return torch.softmax(logits / temperature, dim=0)


def finish_image(
    expert: Expert, splat: RenderOutput, view: View, background: Float[Tensor, "3"]
) -> Float[Tensor, "C H W 3"]:
    """An expert's final image: its shading of the splatted channels, laid over a background."""
    rgb, member = splat.rgb, expert.member_at(view.times[0])
    if member.has_shading:
        rgb = member.shade(rgb, splat.gaussian_features, *view.rays())
    return composite(rgb, splat.alpha, background)


def training_camera(view: View) -> Tensor | None:
    """The physical camera of a view of one known camera, for experts that treat cameras apart."""
    if len(view) != 1 or bool(view.camera_ids[0] == UNKNOWN_ID):
        return None
    return view.camera_ids[0]


def within(gaussians: Gaussians, box: OrientedBox | None) -> Gaussians:
    """The Gaussians whose centres lie in nerfstudio's oriented crop box; all without a box."""
    return gaussians if box is None else gaussians.select(box.within(gaussians.means).reshape(-1))


@dataclass(frozen=True, eq=False)
class MixtureRender:
    """Everything that rendering a mixture for one camera yields."""

    rgb: Float[Tensor, "H W 3"]
    gates: Float[Tensor, "E H W 1"]
    """Share of each expert; they sum to 1 at every pixel."""
    images: Float[Tensor, "E H W 3"]
    """Final images of the experts alone."""
    depth: Float[Tensor, "H W 1"]
    """Along the optical axis in world units, the mean over the experts by gate and opacity; 0 where
    nothing is drawn."""
    accumulation: Float[Tensor, "H W 1"]
    """Opacity of what is drawn."""


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
        self.instants = [Instants(expert) for expert in experts]

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

    def gaussians(
        self,
        time: Float[Tensor, ""],
        box: OrientedBox | None = None,
        camera: Int[Tensor, ""] | None = None,
    ) -> list[Gaussians]:
        """Every expert's Gaussians at an instant, cropped to a box if there is one; `camera` is a
        training camera whose clock is to be matched."""
        return [within(expert.at(time, camera), box) for expert in self.experts]

    def forward(
        self,
        view: View,
        box: OrientedBox | None = None,
        camera: Int[Tensor, ""] | None = None,
        own_views: Sequence[View] | None = None,
    ) -> MixtureRender:
        """Render the mixture for one camera; `camera` as for `gaussians`.

        `own_views` are the same camera where each expert believes it to be, by default all as the
        view says. The router looks along the view's rays.
        """
        if box is not None:
            return self.render(self.gaussians(view.time, box, camera), view, own_views)
        sets = [
            seen
            for instants, own in zip(self.instants, self.views(view, own_views), strict=True)
            for seen in instants.seen([Instant.of(own, camera)])
        ]
        return self.finish(self.draw(sets, view), view, own_views=own_views)

    def views(self, view: View, own_views: Sequence[View] | None) -> Sequence[View]:
        """A view for each expert."""
        return [view] * len(self.instants) if own_views is None else own_views

    def render(
        self, gaussians: Sequence[Gaussians], view: View, own_views: Sequence[View] | None = None
    ) -> MixtureRender:
        """Render given Gaussians of the experts, at the view's time, for one camera."""
        assert len(view) == 1, f"a mixture renders one camera at a time, got {len(view)}"
        return self.finish(self.splat(gaussians, view, own_views), view, own_views=own_views)

    def finish(
        self,
        splats: ExpertRenderOutputs,
        view: View,
        backgrounds: Sequence[Float[Tensor, "3"]] | None = None,
        own_views: Sequence[View] | None = None,
    ) -> MixtureRender:
        """What becomes of `splat`: images of the experts, over backgrounds that may differ from
        their own, and the blend of them."""
        images = self.images(splats, self.views(view, own_views), backgrounds)
        rgb, gates = blend(images, self.logits(splats.features[:, 0], view), self.temperature)
        covers = gates * splats.alpha[:, 0]
        accumulation = covers.sum(0)
        # Where an expert shows nothing it has no depth either, not one of 0.
        depth = (covers * splats.depth[:, 0]).sum(0) / accumulation.clamp(min=SMALLEST_COVER)
        return MixtureRender(rgb, gates, images, depth, accumulation)

    def splat(
        self, gaussians: Sequence[Gaussians], view: View, own_views: Sequence[View] | None = None
    ) -> ExpertRenderOutputs:
        """All experts in one pass, with the router's features beside their colours."""
        parts = zip(gaussians, self.views(view, own_views), self.near, strict=True)
        return self.draw([project(one, own, near=near) for one, own, near in parts], view)

    def draw(self, sets: Sequence[ProjectedGaussians], view: View) -> ExpertRenderOutputs:
        """What `splat` gives, of experts that were projected before."""
        return rasterize(sets, view, self.features([one.ids for one in sets], view.time))

    def features(
        self, ids: Sequence[Int[Tensor, "_"] | None], time: Float[Tensor, ""]
    ) -> list[Float[Tensor, "_ F"]] | None:
        """What the router splats for the experts' Gaussians (Eq. 6); None if it splats nothing.

        `ids` are those of Gaussians, for each expert.
        """
        if not self.router.has_weights:
            return None
        return [self.router.gaussian_features(k, own, time) for k, own in enumerate(ids)]

    def images(
        self,
        splats: ExpertRenderOutputs,
        views: Sequence[View],
        backgrounds: Sequence[Float[Tensor, "3"]] | None = None,
    ) -> Float[Tensor, "E H W 3"]:
        """The experts' final images of one camera, by default over their own backgrounds; it has a
        view for each expert."""
        backgrounds = backgrounds or [expert.background for expert in self.experts]
        finished = [
            finish_image(expert, splats[k], views[k], backgrounds[k])[0]
            for k, expert in enumerate(self.experts)
        ]
        return torch.stack(finished)

    def logits(self, splatted: Float[Tensor, "E H W F"], view: View) -> Float[Tensor, "E H W 1"]:
        """Logits of the gates (Eq. 7) from one camera's splatted features."""
        origins, directions = (rays[0] for rays in view.rays())
        return self.router(splatted, origins, directions, view.time)

    @property
    def num_gaussians(self) -> int:
        """Gaussians of all experts together."""
        return sum(expert.num_gaussians for expert in self.experts)
