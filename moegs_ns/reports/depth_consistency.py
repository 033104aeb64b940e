"""Multi-view depth consistency (Eq. 16) of everything that a run can render."""

from collections.abc import Callable
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
    expert_depth,
    fused_depth,
    mixture_depth,
    multiview_depth_consistency,
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
    rows = []
    for name, render in track(renderers.items(), "Comparing depth maps", len(renderers)):
        for depth in DEPTHS:
            found = [multiview_depth_consistency(render(view, depth), view) for view in views]
            rows.append(depth_row(name, depth, found, extent, cameras))
    if why_not_fused:
        rows += [depth_row("fused", d, [], extent, cameras, why_not_fused) for d in DEPTHS]
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


def depth_row(
    name: str,
    depth: Depth,
    found: list[DepthConsistency],
    extent: float,
    cameras: str,
    reason: str = "",
) -> Row:
    """Mean over times; lengths in world units and in extents of the scene."""
    errors = torch.tensor([float(one.error) for one in found if one.num_pairs]).double()
    mean = float(errors.mean())
    if not len(errors):
        reason = reason or "no two cameras see a solid surface in common"
    return {
        "name": name,
        "depth": depth.name,
        "mdc_world": mean,
        "mdc_extents": mean / extent,
        "mdc_std_world": float(errors.std()) if len(errors) > 1 else 0.0,
        "instants": len(errors),
        "pairs": sum(one.num_pairs for one in found),
        "compared_share": sum(one.fraction for one in found) / max(1, len(found)),
        "cameras": cameras,
        "reason": reason,
    }
