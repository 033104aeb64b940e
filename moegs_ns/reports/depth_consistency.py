"""Multi-view depth consistency (Eq. 16) of everything that a run can render."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from moegs_ns.cameras import View, view_from_cameras
from moegs_ns.data.frames.dataset import FrameDataset
from moegs_ns.engine.trainer import MoegsPipeline
from moegs_ns.evaluation.depth import (
    DEPTHS,
    Depth,
    DepthConsistency,
    common_pixels,
    consistency_of,
    expert_depth,
    fused_depth,
    mixture_depth,
    pair_errors,
)
from moegs_ns.evaluation.tables import Row
from moegs_ns.models.mixture_model import MixtureModel
from moegs_ns.progress import track
from moegs_ns.reports.analysis import experts_of
from moegs_ns.reports.fusion import stored_or_measured
from moegs_ns.reports.held_out import evenly_spaced

DepthRenderer = Callable[[View, Depth], Float[Tensor, "C H W 1"]]
"""Depth maps in all cameras of a view, by a definition of depth."""


def depth_rows(
    pipeline: MoegsPipeline, num_frames: int, num_cameras: int, fuse_views: int | None = None
) -> list[Row]:
    """Consistency of every expert, the mixture and its fused set, by expected and median depth.

    `mdc_world` and what follows it are over the pixels that all of them can be compared in, so that
    they rank; `mdc_own_world` is each over its own pixels.
    Held-out cameras are compared if several of them share a time, else training cameras.
    Responsibilities of the fused set are the run's stored ones, or are measured on `fuse_views`
    training images (None for all); a mixture that cannot be fused says why in the rows of that set.
    """
    views, cameras = shared_views(pipeline, num_frames, num_cameras)
    renderers: dict[str, DepthRenderer] = {
        name: partial(expert_depth, expert)
        for name, expert in experts_of(pipeline, "expert").items()
    }
    why_not_fused = ""
    if isinstance(pipeline.model, MixtureModel):
        mixture = pipeline.model.mixture
        renderers["mixture"] = partial(mixture_depth, mixture)
        try:
            values = stored_or_measured(pipeline, fuse_views) if views else []
            renderers["fused"] = partial(fused_depth, mixture, values)
        except ValueError as error:
            why_not_fused = str(error)
    extent = float(pipeline.datamanager.train_dataset.metadata["scene"].extent)
    found = {(name, depth.name): Found() for name in renderers for depth in DEPTHS}
    pairs = list(itertools.product(views, DEPTHS))
    for view, depth in track(pairs, "Comparing depth maps"):
        maps = {name: render(view, depth) for name, render in renderers.items()}
        errors = {name: pair_errors(depths, view) for name, depths in maps.items()}
        common = common_pixels(list(errors.values()))
        for name, depths in maps.items():
            one = found[name, depth.name]
            one.common.append(consistency_of(errors[name], depths, common))
            one.own.append(consistency_of(errors[name], depths))
    rows = [depth_row(*names, each, extent, cameras) for names, each in found.items()]
    if why_not_fused:
        rows += [
            depth_row("fused", depth.name, Found(), extent, cameras, why_not_fused)
            for depth in DEPTHS
        ]
    return rows


def shared_views(
    pipeline: MoegsPipeline, num_frames: int, num_cameras: int
) -> tuple[list[View], str]:
    """Views of several cameras at evenly spaced times, and whether they are held out."""
    datamanager = pipeline.datamanager
    held_out = several_per_frame(datamanager.eval_dataset)
    dataset = datamanager.eval_dataset if held_out else datamanager.train_dataset
    frames = held_out or several_per_frame(dataset)
    views = []
    for frame in evenly_spaced(len(frames), num_frames):
        images = frames[frame]
        chosen = torch.tensor([images[k] for k in evenly_spaced(len(images), num_cameras)])
        views.append(view_from_cameras(dataset.cameras[chosen]).to(pipeline.device))
    return views, "held-out" if held_out else "training"


def several_per_frame(dataset: FrameDataset) -> list[list[int]]:
    """Indices of the images of each frame that several cameras show."""
    images: dict[int, list[int]] = {}
    for index, frame in enumerate(dataset.frame_table.frame_ids.tolist()):
        images.setdefault(frame, []).append(index)
    return [images[frame] for frame in sorted(images) if len(images[frame]) > 1]


@dataclass(frozen=True)
class Found:
    """Consistency of one set of Gaussians at every time."""

    common: list[DepthConsistency] = field(default_factory=list)
    """Over the pixels in which all sets can be compared."""
    own: list[DepthConsistency] = field(default_factory=list)
    """Over all pixels in which it can be compared itself."""


def depth_row(
    name: str, depth: str, found: Found, extent: float, cameras: str, reason: str = ""
) -> Row:
    """Mean over times; lengths in world units and in extents of the scene."""
    errors, own = (errors_of(each) for each in (found.common, found.own))
    mean = float(errors.mean())
    if not len(errors):
        reason = reason or "no two cameras see a solid surface in common"
    return {
        "name": name,
        "depth": depth,
        "mdc_world": mean,
        "mdc_extents": mean / extent,
        "mdc_std_world": float(errors.std()) if len(errors) > 1 else 0.0,
        "instants": len(errors),
        "pairs": sum(one.num_pairs for one in found.common),
        "compared_share": share_of(found.common),
        "mdc_own_world": float(own.mean()),
        "own_share": share_of(found.own),
        "cameras": cameras,
        "reason": reason,
    }


def errors_of(found: Sequence[DepthConsistency]) -> Float[Tensor, "T"]:
    """Errors at the times at which anything was compared."""
    return torch.tensor([float(one.error) for one in found if one.num_pairs]).double()


def share_of(found: Sequence[DepthConsistency]) -> float:
    """Mean over times of the part of the solid pixels of all pairs that was compared."""
    return sum(one.fraction for one in found) / max(1, len(found))
