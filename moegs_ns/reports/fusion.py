"""The fused set of a run of a mixture: its responsibilities, pictures and PSNR."""

from pathlib import Path

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras

from moegs_ns.cameras import single_views, view_from_cameras
from moegs_ns.engine.pipeline import MoegsPipeline
from moegs_ns.evaluation.image_metrics import target_image
from moegs_ns.evaluation.metrics import psnr, quantize
from moegs_ns.mixture.fuse import fused_image
from moegs_ns.mixture.responsibilities import Responsibilities, responsibilities
from moegs_ns.mixture.volume_mixture import refuse_shading
from moegs_ns.models.mixture_model import MixtureModel


def mixture_model(pipeline: MoegsPipeline, path: Path) -> MixtureModel:
    """The model of a run that is one of a mixture, all of whose experts can be fused."""
    model = pipeline.model
    if not isinstance(model, MixtureModel):
        raise ValueError(
            f"Expected the run of a mixture to fuse, but {path} is that of a single expert; name "
            "a run of moegs-router."
        )
    return model


def kept_or_measured(pipeline: MoegsPipeline, max_views: int | None) -> list[torch.Tensor]:
    """Responsibilities that the run of a mixture keeps; measured where it keeps none or where a
    number of training images is asked for.

    Raises:
        ValueError: the mixture can't be fused.
    """
    model = pipeline.model
    assert isinstance(model, MixtureModel), type(model)
    # Said before the views are gone through, which takes a while.
    refuse_shading(model.mixture.experts, "Fusion makes one set of Gaussians of all experts")
    if model.shares.values and max_views is None:
        return model.shares.values
    return measured(pipeline, max_views).shares


def measured(pipeline: MoegsPipeline, max_views: int | None = None) -> Responsibilities:
    """Responsibilities of a mixture's Gaussians over the training views of its run."""
    model = pipeline.model
    assert isinstance(model, MixtureModel), type(model)
    cameras = pipeline.datamanager.train_dataset.cameras
    return responsibilities(model.mixture, single_views(cameras, model.device, max_views))


def fused_psnr(pipeline: MoegsPipeline, shares: list[torch.Tensor]) -> float:
    """Mean PSNR of the fused set over the held-out views, each at its own instant."""
    model = pipeline.model
    assert isinstance(model, MixtureModel), type(model)
    scores = []
    for camera, batch in pipeline.datamanager.fixed_indices_eval_dataloader:
        image = quantize(fused_picture(pipeline, shares, camera))
        scores.append(float(psnr(image, target_image(batch, model.device))))
    return sum(scores) / len(scores)


def fused_picture(
    pipeline: MoegsPipeline, shares: list[torch.Tensor], camera: Cameras
) -> Float[torch.Tensor, "H W 3"]:
    """The fused set as one camera sees it at its instant."""
    model = pipeline.model
    assert isinstance(model, MixtureModel), type(model)
    return fused_image(model.mixture, shares, view_from_cameras(camera).to(model.device))
