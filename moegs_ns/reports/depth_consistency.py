"""Multi-view depth consistency (Eq. 16) of everything that a run can draw."""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from moegs_ns.cameras import View, view_from_cameras
from moegs_ns.data.frames.dataset import FrameDataset
from moegs_ns.engine.pipeline import MoegsPipeline
from moegs_ns.evaluation.depth import DEPTHS, Depth, expert_depth, fused_depth, mixture_depth
from moegs_ns.evaluation.metrics import DepthConsistency, multiview_depth_consistency
from moegs_ns.evaluation.tables import Row
from moegs_ns.experts.base import Expert
from moegs_ns.models.mixture_model import MixtureModel
from moegs_ns.reports.fusion import kept_or_measured

Drawing = Callable[[View, Depth], Float[Tensor, "C H W 1"]]
"""Depth maps in all cameras of a view, by a notion of depth."""


def depth_rows(
    pipeline: MoegsPipeline, num_frames: int, num_cameras: int, fuse_views: int | None = None
) -> list[Row]:
    """Consistency of every expert, the mixture and its fused set, by expected and median depth.

    Held-out cameras are compared where several of them show one instant, else training cameras.
    Responsibilities of the fused set are those that the run keeps, or are measured on `fuse_views`
    training images (None for all); where there is no fused set its row says why.
    """
    views, cameras = shared_views(pipeline, num_frames, num_cameras)
    drawings: dict[str, Drawing] = {
        name: partial(expert_depth, expert)
        for name, expert in experts_of(pipeline, "expert").items()
    }
    why_not_fused = ""
    if isinstance(pipeline.model, MixtureModel):
        mixture = pipeline.model.mixture
        drawings["mixture"] = partial(mixture_depth, mixture)
        try:
            shares = kept_or_measured(pipeline, fuse_views) if views else []
            drawings["fused"] = partial(fused_depth, mixture, shares)
        except ValueError as error:
            why_not_fused = str(error)
    extent = float(pipeline.datamanager.train_dataset.metadata["scene"].extent)
    rows = []
    for name, draw in drawings.items():
        for depth in DEPTHS:
            found = [multiview_depth_consistency(draw(view, depth), view) for view in views]
            rows.append(depth_row(name, depth, found, extent, cameras))
    if why_not_fused:
        rows += [depth_row("fused", d, [], extent, cameras, why_not_fused) for d in DEPTHS]
    return rows


def shared_views(
    pipeline: MoegsPipeline, num_frames: int, num_cameras: int
) -> tuple[list[View], str]:
    """Views of several cameras at one instant each, spread evenly, and of which kind they are."""
    datamanager = pipeline.datamanager
    held_out = several_per_frame(datamanager.eval_dataset)
    dataset = datamanager.eval_dataset if held_out else datamanager.train_dataset
    frames = held_out or several_per_frame(dataset)
    views = []
    for place in spread(len(frames), num_frames):
        rows = frames[place]
        rows = torch.tensor([rows[k] for k in spread(len(rows), num_cameras)])
        views.append(view_from_cameras(dataset.cameras[rows]).to(pipeline.device))
    return views, "held-out" if held_out else "training"


def several_per_frame(dataset: FrameDataset) -> list[list[int]]:
    """Rows of the images of each frame that several cameras show."""
    rows: dict[int, list[int]] = {}
    for row, frame in enumerate(dataset.frame_table.frame_ids.tolist()):
        rows.setdefault(frame, []).append(row)
    return [rows[frame] for frame in sorted(rows) if len(rows[frame]) > 1]


def depth_row(
    name: str,
    depth: Depth,
    found: list[DepthConsistency],
    extent: float,
    cameras: str,
    reason: str = "",
) -> Row:
    """Mean over instants; lengths in world units and in extents of the scene."""
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
        "compared_share": sum(one.share for one in found) / max(1, len(found)),
        "cameras": cameras,
        "reason": reason,
    }


def experts_of(pipeline: MoegsPipeline, method: str) -> dict[str, Expert]:
    """The experts of a run by name; the one that it trained if it is no mixture."""
    model = pipeline.model
    if isinstance(model, MixtureModel):
        return dict(zip(model.config.expert_names, model.mixture.experts, strict=True))
    return {method.removeprefix("moegs-"): model.expert}


def spread(length: int, count: int) -> list[int]:
    """At most `count` numbers below `length`, evenly spread, ends included."""
    return torch.linspace(0, length - 1, min(length, count)).round().long().tolist()
