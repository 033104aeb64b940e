"""The mixture of the Volume Router: opacities modulated in space, one joint composite (Table 4)."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from moegs_ns.cameras import View
from moegs_ns.cuda_graphs.graphed import GraphedCallable
from moegs_ns.experts.base import Expert
from moegs_ns.gaussians import Gaussians
from moegs_ns.mixture.mixture import (
    MIN_ACCUMULATION,
    ROUTER_GATES,
    ExpertsAlone,
    GateConfig,
    Mixture,
    MixtureRender,
)
from moegs_ns.routers import Router, VolumeRouter
from moegs_ns.splatting import (
    ProjectedGaussians,
    RenderOutput,
    composite,
    render,
    render_experts,
)

ONE_SET = "The Volume Router renders all experts' Gaussians as one set"
"""Why it cannot have experts that decode colours per pixel."""
LARGEST_SCORE = 30.0
"""Scores beyond this, over the temperature, change nothing more; larger ones would overflow."""


class VolumeMixture(Mixture):
    """Frozen experts whose Gaussians a router makes more or less opaque, rendered as one set.

    Every Gaussian's opacity logit is raised by its score over the temperature. All scores are 0 at
    first, so that training starts from the plain joint composite of all experts. The gates are
    each expert's part of a pixel's accumulated opacity; `images` are the experts' own, unchanged.
    """

    router: VolumeRouter
    background: Float[Tensor, "3"]

    def __init__(self, experts: Sequence[Expert], router: VolumeRouter, temperature: float) -> None:
        super().__init__(experts, router, temperature)
        refuse_shading(experts, ONE_SET)
        backgrounds = torch.stack([expert.background for expert in experts])
        self.register_buffer("background", backgrounds.mean(0), persistent=False)
        self._graphed = [GraphedCallable(expert.at, expert) for expert in experts]

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
        """See base; opacities are changed before anything is projected.

        One set is seen from one place: the view's, wherever experts believe the camera to be (each
        is drawn at its own time); and over the mean of `backgrounds`. The experts alone are drawn
        only if somebody asks.
        """
        assert len(view) == 1, f"a mixture renders one camera at a time, got {len(view)}"
        assert projected is None, "one set has one projection"
        if gaussians is None:
            views = own_views or [view] * len(self._graphed)
            triples = zip(self._graphed, self.experts, views, strict=True)
            gaussians = [at(own.time, camera, key=expert.graph_key) for at, expert, own in triples]
        parts = self.modulated(gaussians, view)
        background = self.background if backgrounds is None else torch.stack([*backgrounds]).mean(0)
        rgb, joint = joint_composite(parts, view, near=self.near, background=background)
        weights = joint.features[0].permute(2, 0, 1)[..., None] + MIN_ACCUMULATION
        gates = weights / weights.sum(0)
        own = backgrounds or [expert.background for expert in self.experts]
        draw = cache(partial(self._alone, view, gaussians, own))
        return MixtureRender(rgb, gates, joint.depth[0], joint.alpha[0], draw)

    @torch.no_grad()
    def _alone(
        self,
        view: View,
        gaussians: Sequence[Gaussians],
        backgrounds: Sequence[Float[Tensor, "3"]],
    ) -> ExpertsAlone:
        """Every expert by itself, with its own opacities."""
        rendered = render_experts(gaussians, view, near=self.near)
        return ExpertsAlone(self._images(rendered, [view] * len(rendered), backgrounds), rendered)

    def modulated(self, gaussians: Sequence[Gaussians], view: View) -> list[Gaussians]:
        """The experts' Gaussians with the opacities that the router gives them for one camera."""
        parts = []
        for k, part in enumerate(gaussians):
            features = self.router.gaussian_features(k, part.ids, view.time)
            scores = self.router(features, part.means, view.positions[0])
            parts.append(
                replace(part, opacities=modulate(part.opacities, scores, self.temperature))
            )
        return parts


def mixture_of(
    experts: Sequence[Expert],
    router: Router,
    temperature: float,
    gate_config: GateConfig = ROUTER_GATES,
) -> Mixture:
    """The mixture that a kind of router makes; that of a Volume Router has no gates to smooth.

    Raises:
        ValueError: a Volume Router is given an expert whose colours are not those of its Gaussians.
    """
    if isinstance(router, VolumeRouter):
        return VolumeMixture(experts, router, temperature)
    return Mixture(experts, router, temperature, gate_config)


def refuse_shading(experts: Sequence[Expert], why: str) -> None:
    """Raise ValueError if an expert's colours are made per pixel, after rasterisation."""
    shaded = [index for index, expert in enumerate(experts) if expert.has_shading]
    if shaded:
        kinds = ", ".join(
            f"number {index + 1} ({type(experts[index]).__name__})" for index in shaded
        )
        raise ValueError(
            f"{why}, so it expects experts whose Gaussians have colours of their own, but {kinds} "
            "decodes colours per pixel; train it with spherical harmonics "
            "(--pipeline.model.expert.color sh)."
        )


def modulate(
    opacities: Float[Tensor, "N"], scores: Float[Tensor, "N"], temperature: float
) -> Float[Tensor, "N"]:
    """Opacities whose logits are raised by score / temperature; a score of 0 changes nothing."""
    factor = torch.exp((scores / temperature).clamp(-LARGEST_SCORE, LARGEST_SCORE))
    return opacities * factor / ((1.0 - opacities) + opacities * factor)


def joint_composite(
    parts: Sequence[Gaussians], view: View, *, near: Sequence[float], background: Tensor
) -> tuple[Float[Tensor, "H W 3"], RenderOutput]:
    """All parts rendered as one set, over a background; `features` of the output are their
    accumulations.

    A part's accumulation is Σ T·alpha of its Gaussians, with the transmittance of the whole set.
    """
    culled = [cull_near(part, view, plane) for part, plane in zip(parts, near, strict=True)]
    one_hot = torch.eye(len(parts), device=background.device)
    owners = torch.cat([one_hot[k].expand(len(part), -1) for k, part in enumerate(culled)])
    joint = render(Gaussians.cat(culled), view, owners, near=min(near))
    return composite(joint.rgb, joint.alpha, background)[0], joint


def cull_near(gaussians: Gaussians, view: View, near: float) -> Gaussians:
    """The Gaussians behind the near plane of one camera."""
    axis, offset = view.viewmats[0, 2, :3], view.viewmats[0, 2, 3]
    return gaussians.select(gaussians.means @ axis + offset > near)
