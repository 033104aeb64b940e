"""The Gaussians of a run at one time: an expert's own, or the fused set of a mixture."""

import math
from pathlib import Path
from statistics import fmean

import torch
from jaxtyping import Float

from moegs_ns.cameras import single_views
from moegs_ns.engine.trainer import MoegsPipeline
from moegs_ns.evaluation.image_metrics import psnr, quantize
from moegs_ns.gaussians import Gaussians
from moegs_ns.mixture.fuse import FUSION, fuse, fused_image
from moegs_ns.mixture.responsibilities import Responsibilities, responsibilities
from moegs_ns.mixture.volume_mixture import refuse_shading
from moegs_ns.models.mixture_model import MixtureModel
from moegs_ns.progress import track
from moegs_ns.reports.held_out import held_out
from moegs_ns.training.losses import mask_of


def mixture_model(pipeline: MoegsPipeline, path: Path | None = None) -> MixtureModel:
    """The model of a run that must be that of a mixture.

    Raises:
        ValueError: it is that of a single expert.
    """
    if not isinstance(pipeline.model, MixtureModel):
        raise ValueError(
            f"Expected the run of a mixture to fuse, but {path or 'this one'} is that of a single "
            "expert; name a run of moegs-router."
        )
    return pipeline.model


def stored_or_measured(
    pipeline: MoegsPipeline, max_views: int | None
) -> list[Float[torch.Tensor, "_"]]:
    """Responsibilities stored in a mixture's run; measured without them or if `max_views` is set.

    Raises:
        ValueError: the mixture cannot be fused.
    """
    model = mixture_model(pipeline)
    # Before the training views are rendered, which takes a while.
    refuse_shading(model.mixture.experts, FUSION)
    if model.responsibilities.values and max_views is None:
        return model.responsibilities.values
    return measured(pipeline, max_views).values


def measured(pipeline: MoegsPipeline, max_views: int | None = None) -> Responsibilities:
    """Responsibilities of a mixture's Gaussians over the training views of its run."""
    model = mixture_model(pipeline)
    cameras = pipeline.datamanager.train_dataset.cameras
    count = len(cameras) if max_views is None else min(max_views, len(cameras))
    views = track(
        single_views(cameras, model.device, max_views), "Measuring responsibilities", count
    )
    return responsibilities(model.mixture, views, model.corrections.views)


@torch.no_grad()
def gaussians_at(
    pipeline: MoegsPipeline, time: float, responsibilities: list[Float[torch.Tensor, "_"]]
) -> Gaussians:
    """One set of Gaussians at a time: of an expert as it is, of a mixture the fused ones.

    Raises:
        ValueError: an expert decodes colours per pixel.
    """
    model, moment = pipeline.model, torch.tensor(time, device=pipeline.device)
    if isinstance(model, MixtureModel):
        return fuse(model.mixture, responsibilities, moment)
    refuse_shading([model.expert], "A PLY file holds the colours of Gaussians")
    return model.expert.at(moment)


def fused_psnr(pipeline: MoegsPipeline, responsibilities: list[Float[torch.Tensor, "_"]]) -> float:
    """Mean PSNR of the fused set over the held-out views, each at its own time."""
    pipeline.datamanager.check_held_out()
    mixture, scores = mixture_model(pipeline).mixture, []
    for index in track(range(len(pipeline.datamanager.eval_dataset)), "Scoring the fused set"):
        view, target, batch = held_out(pipeline, index)
        mask = mask_of(batch, target.device)
        image = quantize(fused_image(mixture, responsibilities, view))
        if mask is None or bool(mask.any()):
            scores.append(float(psnr(image, target, mask)))
    return fmean(scores or [math.nan])
