"""Ways to draw a frame: as it is drawn, its parts, and what it is compared with."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from moegs_ns.cameras import View
from moegs_ns.cuda_graphs import graphed
from moegs_ns.experts.base import Expert
from moegs_ns.mixture import fused_blend
from moegs_ns.mixture.mixture import Mixture
from moegs_ns.mixture.volume_mixture import ONE_SET, VolumeMixture
from moegs_ns.splatting import ExpertRenderOutputs, ProjectedGaussians, RenderOutput, rasterize
from moegs_ns.splatting.rendering import backend_for, merge_projections

FRAME = "whole frame"
NO_GPU = "there is no CUDA device"
NO_GRAPHS = {graphed.SWITCH: "0"}
NO_KERNEL = {fused_blend.SWITCH: "0"}


@dataclass(frozen=True)
class Way:
    """One way to draw the frames of something."""

    name: str
    draw: Callable[[Any], Float[Tensor, "H W D"]]
    """Draws what `prepare` made of a view."""
    module: nn.Module
    """What is drawn: its Gaussians and megabytes."""
    prepare: Callable[[View], Any] = lambda view: view
    """What is not timed."""
    switches: Mapping[str, str] = field(default_factory=dict)
    """Environment variables while it draws."""
    is_whole: bool = True
    """Whether what it draws is the image of the whole frame."""
    offloads: bool = False
    """Whether the experts lie in host memory in the meantime."""
    missing: str = ""
    """Why it cannot be measured here; empty if it can."""

    def render(self, view: View) -> Float[Tensor, "H W D"]:
        """Prepare and draw one frame."""
        with environment(self.switches):
            return self.draw(self.prepare(view))


@dataclass(frozen=True)
class OneExpert:
    """An expert and its name."""

    name: str
    expert: Expert

    def copied(self, way: Way, view: View) -> Way:
        """A way on memory of its own."""
        return named(OneExpert(self.name, deepcopy(self.expert)).ways(view), way.name)

    def project(self, view: View) -> tuple[ProjectedGaussians, View]:
        """What the raster alone begins with."""
        return self.expert.project([view])[0], view

    def raster(self, projected: tuple[ProjectedGaussians, View]) -> Float[Tensor, "H W 3"]:
        """Sorted and rasterised Gaussians, without shading and background."""
        return rasterize([projected[0]], projected[1]).only().rgb[0]

    def frame(self, view: View) -> Float[Tensor, "H W 3"]:
        """The final image."""
        output = rasterize(self.expert.project([view]), view).only()
        return self.expert.finish(output, view, self.expert.background)[0]

    def ways(self, view: View) -> list[Way]:
        """The frame, its raster alone, and the frame without CUDA graphs."""
        own, gpu = self.expert, "" if view.viewmats.is_cuda else NO_GPU
        missing = gpu or ("" if own.graph_key is not None else "this expert is never captured")
        return [
            Way(FRAME, self.frame, own),
            Way("raster alone", self.raster, own, self.project, is_whole=False),
            Way("no CUDA graphs", self.frame, own, switches=NO_GRAPHS, missing=missing),
        ]


@dataclass(frozen=True)
class WholeMixture:
    """A mixture and the names of its experts."""

    names: Sequence[str]
    mixture: Mixture
    host_copies: "OffloadedExperts | None" = None
    """Copies of the experts in host memory, once they are made."""

    def copied(self, way: Way, view: View) -> Way:
        """A way on memory of its own, which holds what this way needs and no more."""
        if isinstance(way.module, Expert):
            return replace(way, draw=OneExpert(way.name, deepcopy(way.module)).frame)
        on_host = self.offloaded if way.offloads else None
        copy = WholeMixture(self.names, deepcopy(self.mixture), on_host)
        if way.offloads:
            for k, expert in enumerate(copy.mixture.experts):
                none = torch.zeros(expert.num_gaussians, dtype=torch.bool)
                copy.mixture.expert_modules[k] = expert.select(none.to(expert.background.device))
        return named(copy.ways(view), way.name)

    def frame(self, view: View) -> Float[Tensor, "H W 3"]:
        """All experts in one pass."""
        return self.mixture.render(view).rgb

    def project(self, view: View) -> tuple[list[ProjectedGaussians], View]:
        """What the raster alone begins with."""
        return self.mixture.project(view), view

    def raster(self, projected: tuple[list[ProjectedGaussians], View]) -> Float[Tensor, "H W D"]:
        """All experts, with the router's channels, sorted and rasterised in one pass."""
        sets, view = projected
        return rasterize(sets, view, self.features(sets, view)).rgb[0, 0]

    def features(
        self, sets: Sequence[ProjectedGaussians], view: View
    ) -> list[Float[Tensor, "_ _"]] | None:
        """The router's features of each expert; None if its Gaussians have none."""
        if not self.mixture.router.has_weights:
            return None
        pairs = enumerate(sets)
        return [self.mixture.router.gaussian_features(k, one.ids, view.time) for k, one in pairs]

    def drawn_alone(self, k: int, expert: Expert, view: View) -> RenderOutput:
        """One expert and its router's channels in a pass of their own."""
        projected = expert.project([view])[0]
        if not self.mixture.router.has_weights:
            return rasterize([projected], view).only()
        features = self.mixture.router.gaussian_features(k, projected.ids, view.time)
        return rasterize([projected], view, [features]).only()

    def separate_passes(self, view: View) -> Float[Tensor, "H W 3"]:
        """A pass for each expert, then the blend."""
        parts = [self.drawn_alone(k, one, view) for k, one in enumerate(self.mixture.experts)]
        return self.mixture.finish(side_by_side(parts), view).rgb

    def released_way(self, view: View) -> Float[Tensor, "H W 3"]:
        """Two passes for each expert, one for colours and one for the router's channels, then the
        blend. Both begin with the same projection, which the release computes twice."""
        parts = []
        for k, expert in enumerate(self.mixture.experts):
            projected = expert.project([view])[0]
            output = rasterize([projected], view).only()
            features = self.mixture.router.gaussian_features(k, projected.ids, view.time)
            weights = channels_alone(projected, features, view)
            parts.append(replace(output, features=weights))
        return self.mixture.finish(side_by_side(parts), view).rgb

    @cached_property
    def offloaded(self) -> "OffloadedExperts":
        """Copies of the experts in host memory."""
        return self.host_copies or OffloadedExperts(self.mixture.experts)

    def with_offload(self, view: View) -> Float[Tensor, "H W 3"]:
        """A pass for each expert, which is on the GPU for that time only (MoE-GS, appendix B.4)."""
        parts = []
        for k in range(len(self.mixture.experts)):
            with self.offloaded.on(view.viewmats.device, k) as expert:
                parts.append(self.drawn_alone(k, expert, view))
        return self.mixture.finish(side_by_side(parts), view).rgb

    def ways(self, view: View) -> list[Way]:
        """The frame, its raster alone, the experts alone, and everything to compare with."""
        own, gpu = self.mixture, "" if view.viewmats.is_cuda else NO_GPU
        one_set = ONE_SET if isinstance(own, VolumeMixture) else ""
        weightless = "" if own.router.has_weights else "this router has no weights of Gaussians"
        captured = any(expert.graph_key is not None for expert in own.experts)
        graphs = "" if captured else "none of these experts is ever captured"
        kernel = "" if own.is_fusible(view, [view]) else "the kernel is not used for these gates"
        alone = [OneExpert(*pair) for pair in zip(self.names, own.experts, strict=True)]
        return [
            Way(FRAME, self.frame, own),
            Way("raster alone", self.raster, own, self.project, is_whole=False, missing=one_set),
            *(Way(f"{e.name} alone", e.frame, e.expert, is_whole=False) for e in alone),
            Way("separate passes", self.separate_passes, own, missing=one_set),
            Way("released way", self.released_way, own, missing=one_set or weightless),
            Way("no CUDA graphs", self.frame, own, switches=NO_GRAPHS, missing=gpu or graphs),
            Way("no fused kernel", self.frame, own, switches=NO_KERNEL, missing=gpu or kernel),
            Way("experts offloaded to the host", self.with_offload, own, switches=NO_GRAPHS,
                offloads=True, missing=gpu or one_set),
        ]  # fmt: skip


Subject = OneExpert | WholeMixture
"""What is measured."""


def named(ways: Sequence[Way], name: str) -> Way:
    """The way of a name."""
    return next(way for way in ways if way.name == name)


class OffloadedExperts:
    """Copies of experts in host memory, of which one at a time is brought to a GPU.

    The copies are pinned, as far as the host can, so that the bus is used as well as it can be.
    """

    def __init__(self, experts: Sequence[Expert]) -> None:
        self.experts = [deepcopy(expert).cpu() for expert in experts]
        if torch.cuda.is_available():
            for tensor in (tensor for each in self.experts for tensor in tensors_of(each)):
                if tensor.numel():
                    tensor.data = tensor.data.pin_memory()

    @contextmanager
    def on(self, device: torch.device, k: int) -> Iterator[Expert]:
        """Expert number `k` on a device; what is computed of it stays there."""
        tensors = tensors_of(self.experts[k])
        at_home = [tensor.data for tensor in tensors]
        for tensor in tensors:
            tensor.data = tensor.data.to(device, non_blocking=True)
        try:
            yield self.experts[k]
        finally:
            for tensor, value in zip(tensors, at_home, strict=True):
                tensor.data = value


def tensors_of(module: nn.Module) -> list[Tensor]:
    """Parameters and buffers."""
    return [*module.parameters(), *module.buffers()]


def side_by_side(parts: Sequence[RenderOutput]) -> ExpertRenderOutputs:
    """What one pass over all experts gives, from a pass for each."""
    widest = max(part.gaussian_features.shape[-1] for part in parts)
    images = {}
    for each in fields(RenderOutput):
        values = [getattr(part, each.name) for part in parts]
        if each.name == "projected":
            continue
        if each.name == "gaussian_features":
            values = [functional.pad(value, (0, widest - value.shape[-1])) for value in values]
        images[each.name] = torch.stack(values).contiguous()
    return ExpertRenderOutputs(**images, projected=[part.projected for part in parts])


def channels_alone(
    projected: ProjectedGaussians, channels: Float[Tensor, "N F"], view: View
) -> Float[Tensor, "C H W F"]:
    """Rasterised channels of the Gaussians without their colours."""
    projection, image_ids = merge_projections([projected])
    shape = (len(view), view.height, view.width)
    values = projected.of_all_cameras(channels)
    return backend_for(values.device).rasterize(projection, values, image_ids, shape)[0]


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
