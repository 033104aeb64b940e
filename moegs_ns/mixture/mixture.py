"""The mixture of experts: the method of the paper in one short function, `Mixture.render`."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import cast

import torch
from jaxtyping import Float, Int
from nerfstudio.data.scene_box import OrientedBox
from torch import Tensor, nn

from moegs_ns.cameras import View
from moegs_ns.experts.base import Expert, within
from moegs_ns.gaussians import Gaussians
from moegs_ns.mixture.fused_blend import SWITCH, fused_blend, kernels
from moegs_ns.routers import Router, VolumeAwarePixelRouter
from moegs_ns.splatting import (
    ExpertRenderOutputs,
    ProjectedGaussians,
    project,
    rasterize,
)

MIN_ACCUMULATION = 1e-6
"""Accumulated opacity below which a pixel shows nothing, and so belongs to all experts alike."""


EXPERT_COLORS = (
    (0.0, 0.447, 0.698), (0.902, 0.624, 0.0), (0.0, 0.62, 0.451), (0.8, 0.475, 0.655),
    (0.835, 0.369, 0.0), (0.337, 0.706, 0.914), (0.941, 0.894, 0.259), (0.5, 0.5, 0.5),
)  # fmt: skip
"""Colours of experts and their gates, in order; those of further ones begin again. Told apart with
any kind of colour vision (Okabe and Ito, Color Universal Design), but for the grey at the end."""


@dataclass(frozen=True)
class GateConfig:
    """How far gates may follow single pixels; by default as far as the router says."""

    uniform: float = 0.0
    """Fraction of equal gates in the gates; 0.25 keeps a quarter of the plain average."""
    blur: float = 0.0
    """Standard deviation of the Gaussian that the logits are blurred by, as a fraction of the
    image's height: gates are then those of regions."""

    def check(self, temperature: float) -> None:
        """Raise ValueError for values, or a temperature, out of range."""
        if not (math.isfinite(temperature) and temperature > 0.0):
            raise ValueError(
                "--pipeline.model.temperature expects a number above 0, which divides the logits "
                f"of the gates, got {temperature:g}; 1 is the default."
            )
        if not 0.0 <= self.uniform < 1.0:
            raise ValueError(
                "--pipeline.model.gates.uniform expects a fraction from 0 to below 1, got "
                f"{self.uniform:g}."
            )
        if not 0.0 <= self.blur < math.inf:
            raise ValueError(
                "--pipeline.model.gates.blur expects a fraction of the image's height of at least "
                f"0, got {self.blur:g}; 0.02 is a fiftieth."
            )


ROUTER_GATES = GateConfig()
"""Gates exactly as the router says (Eq. 8)."""


def blend(
    images: Float[Tensor, "E H W 3"],
    logits: Float[Tensor, "E H W 1"],
    temperature: float,
    config: GateConfig = ROUTER_GATES,
) -> tuple[Float[Tensor, "H W 3"], Float[Tensor, "E H W 1"]]:
    """Mix the experts' images by gates from their logits (Eq. 8); also returns the gates."""
    gates = gates_from(logits, temperature, config)
    return (gates * images).sum(dim=0), gates


def gates_from(
    logits: Float[Tensor, "E H W 1"], temperature: float, config: GateConfig = ROUTER_GATES
) -> Float[Tensor, "E H W 1"]:
    """Softmax over the experts' logits, divided by the temperature first (Eq. 8); smoothed, and
    mixed with equal gates, where that is asked."""
    gates = torch.softmax(smoothed(logits, config) / temperature, dim=0)
    if config.uniform > 0.0:
        gates = (1.0 - config.uniform) * gates + config.uniform / len(gates)
    return gates


def smoothed(logits: Float[Tensor, "E H W 1"], config: GateConfig) -> Float[Tensor, "E H W 1"]:
    """Logits, blurred where that is asked."""
    return blurred(logits[..., 0], config.blur * logits.shape[1])[..., None]


def blended_depth(
    gates: Float[Tensor, "E H W 1"], rendered: ExpertRenderOutputs
) -> tuple[Float[Tensor, "H W 1"], Float[Tensor, "H W 1"]]:
    """Depth and opacity of one camera's experts by their gates; the former in world units."""
    weights = gates * rendered.alpha[:, 0]
    accumulation = weights.sum(0)
    # Where an expert shows nothing it has no depth either, not one of 0.
    depth = (weights * rendered.depth[:, 0]).sum(0) / accumulation.clamp(min=MIN_ACCUMULATION)
    return depth, accumulation


def blurred(maps: Float[Tensor, "*s H W"], sigma: float) -> Float[Tensor, "*s H W"]:
    """Means under a Gaussian of a standard deviation in pixels, over what lies in the image."""
    if sigma <= 0.0:
        return maps
    rows, columns = (_window(size, sigma, maps.device).to(maps.dtype) for size in maps.shape[-2:])
    return rows @ maps @ columns.T


@lru_cache(maxsize=16)
def _window(size: int, sigma: float, device: torch.device) -> Float[Tensor, "S S"]:
    """A Gaussian's weights of all positions along an axis for each of them; rows sum to 1."""
    at = torch.arange(size, dtype=torch.float32, device=device)
    return torch.softmax(-0.5 * ((at[:, None] - at) / sigma).square(), dim=1)


def expert_colors(count: int) -> list[tuple[float, float, float]]:
    """The colour of each expert."""
    return [EXPERT_COLORS[k % len(EXPERT_COLORS)] for k in range(count)]


def blended_colors(gates: Float[Tensor, "E H W 1"]) -> Float[Tensor, "H W 3"]:
    """The experts' colours mixed by their gates."""
    colors = torch.tensor(expert_colors(len(gates)), device=gates.device)
    return (gates * colors[:, None, None]).sum(0)


def largest_colors(values: Float[Tensor, "E H W"]) -> Float[Tensor, "H W 3"]:
    """At each pixel the colour of the expert with the largest value, such as a gate."""
    return torch.tensor(expert_colors(len(values)), device=values.device)[values.argmax(0)]


@dataclass(frozen=True, eq=False)
class ExpertsAlone:
    """What each expert of a mixture shows by itself."""

    images: Float[Tensor, "E H W 3"]
    """Final images."""
    rendered: ExpertRenderOutputs
    """What was rasterised of them, and the router's features."""


@dataclass(frozen=True, eq=False)
class MixtureRender:
    """Everything that rendering a mixture for one camera yields."""

    rgb: Float[Tensor, "H W 3"]
    gates: Float[Tensor, "E H W 1"]
    """Weight of each expert; they sum to 1 at every pixel."""
    depth: Float[Tensor, "H W 1"]
    """Along the optical axis in world units, the mean over the experts by gate and opacity; 0 where
    nothing is hit."""
    accumulation: Float[Tensor, "H W 1"]
    """Accumulated opacity."""
    draw_alone: Callable[[], ExpertsAlone]
    """Draws the experts alone where that is not done yet; before the mixture is rendered again,
    which may overwrite their Gaussians."""

    @property
    def images(self) -> Float[Tensor, "E H W 3"]:
        """Final images of the experts alone."""
        return self.draw_alone().images

    @property
    def rendered(self) -> ExpertRenderOutputs:
        """What was rasterised of the experts alone, and the router's features."""
        return self.draw_alone().rendered

    @property
    def argmax_gate(self) -> Float[Tensor, "H W 3"]:
        """The colour of the expert with the largest gate at each pixel."""
        return largest_colors(self.gates[..., 0])


class Mixture(nn.Module):
    """Experts, frozen unless they are thawed, and the router that blends their images."""

    def __init__(
        self,
        experts: Sequence[Expert],
        router: Router,
        temperature: float,
        gate_config: GateConfig = ROUTER_GATES,
    ) -> None:
        super().__init__()
        self.expert_modules = nn.ModuleList(experts)
        self.router: Router = router
        self.temperature = temperature
        self.gate_config = gate_config
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
        own_views: Sequence[View] | None = None,
    ) -> list[Gaussians]:
        """Every expert's Gaussians at a time, cropped to a box if there is one; `camera` is a
        training camera whose clock is to be matched, `own_views` tell each expert's own time."""
        times = [time] * len(self.expert_modules)
        if own_views is not None:
            times = [view.time for view in own_views]
        pairs = zip(self.experts, times, strict=True)
        return [within(expert.at(own, camera), box) for expert, own in pairs]

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
        return self.finish(rasterize(projected, view, features), view, own_views, backgrounds)

    def finish(
        self,
        rendered: ExpertRenderOutputs,
        view: View,
        own_views: Sequence[View] | None = None,
        backgrounds: Sequence[Float[Tensor, "3"]] | None = None,
    ) -> MixtureRender:
        """The rest of `render`, of experts that are rasterised; arguments as there."""
        backgrounds = backgrounds or [expert.background for expert in self.experts]
        views = own_views or [view] * len(rendered)
        if self.is_fusible(view, views):
            # Steps 4 to 6 in one kernel or two; the experts' images only if somebody asks for them.
            return self._fused(rendered, view, backgrounds, views)
        # 4. Shade each expert's image and lay it over its background.
        images = self._images(rendered, views, backgrounds)
        # 5. Evaluate the logits of the gates from the rasterised features (Eq. 7).
        logits = self.logits(rendered.features[:, 0], view)
        # 6. Blend the images by the gates (Eq. 8), and likewise opacity and depth.
        rgb, gates = blend(images, logits, self.temperature, self.gate_config)
        depth, accumulation = blended_depth(gates, rendered)
        alone = ExpertsAlone(images, rendered)
        return MixtureRender(rgb, gates, depth, accumulation, lambda: alone)

    def is_fusible(self, view: View, own_views: Sequence[View]) -> bool:
        """Whether steps 4 to 6 of a mixture are what `fused_blend` computes; on a CPU they are not,
        unless a test asks for Triton's interpreter."""
        switch, cameras = os.environ.get(SWITCH), (view, *own_views)
        has_correction = self.router.fitted_correction is not None
        return (
            (switch != "0" if view.viewmats.is_cuda else switch == "1")
            and self.router.has_pointwise_phi
            # Blurred and corrected logits have no gradients there.
            and not (torch.is_grad_enabled() and (self.gate_config.blur > 0.0 or has_correction))
            and not any(each.member_at(view.times[0]).has_shading for each in self.experts)
            and not (torch.is_grad_enabled() and any(v.viewmats.requires_grad for v in cameras))
            and kernels() is not None
        )

    def _fused(
        self,
        rendered: ExpertRenderOutputs,
        view: View,
        backgrounds: Sequence[Float[Tensor, "3"]],
        own_views: Sequence[View],
    ) -> MixtureRender:
        """Steps 4 to 6 of `render` in one kernel, or in two around blurred logits."""
        router, gates = cast(VolumeAwarePixelRouter, self.router), self.gate_config
        blended = fused_blend(
            rendered, view, router, torch.stack(tuple(backgrounds)),
            temperature=self.temperature, uniform=gates.uniform,
            of_images=any(each.is_trained for each in rendered.projected),
            smoothed=partial(smoothed, config=gates) if gates.blur > 0.0 else None,
        )  # fmt: skip
        alone = cache(
            lambda: ExpertsAlone(self._images(rendered, own_views, backgrounds), rendered)
        )
        values = (blended.rgb, blended.gates, blended.depth, blended.accumulation)
        return MixtureRender(*values, alone)

    def _images(
        self,
        rendered: ExpertRenderOutputs,
        views: Sequence[View],
        backgrounds: Sequence[Float[Tensor, "3"]],
    ) -> Float[Tensor, "E H W 3"]:
        """The experts' final images of one camera."""
        finished = [
            expert.finish(rendered[k], views[k], backgrounds[k])[0]
            for k, expert in enumerate(self.experts)
        ]
        return torch.stack(finished)

    def logits(self, features: Float[Tensor, "E H W F"], view: View) -> Float[Tensor, "E H W 1"]:
        """Logits of the gates (Eq. 7) from one camera's rasterised features."""
        origins, directions = (rays[0] for rays in view.rays())
        return self.router(features, origins, directions, view.time)
