"""`moegs fuse`: one set of Gaussians of a mixture at an instant, as a PLY file for any viewer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.utils.rich_utils import CONSOLE

from moegs_ns.cameras import single_views, view_from_cameras
from moegs_ns.cli.report import load_pipeline
from moegs_ns.gaussian_files import write_ply
from moegs_ns.metrics import psnr, quantize
from moegs_ns.models.checkpoints import open_run
from moegs_ns.models.evaluation import target_image
from moegs_ns.models.pipeline import MoegsPipeline
from moegs_ns.models.router_model import RouterModel
from moegs_ns.models.stored_shares import keep_shares
from moegs_ns.ops.fuse import fuse, fused_image
from moegs_ns.ops.responsibilities import Responsibilities, responsibilities
from moegs_ns.volume_mixture import refuse_shading


@dataclass
class Fuse:
    """Fuse a mixture into one set of Gaussians at an instant: all experts' together, opacities
    times the responsibilities that the gates give them. Any viewer of 3D Gaussians opens the file.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """config.yml or folder of the run of a mixture."""
    output: Path
    """PLY file to write."""
    time: float = 0.0
    """Instant in [0, 1] over the clip."""
    max_views: int | None = None
    """Training images to measure responsibilities on, spread evenly; None for all of them, or for
    what the run keeps."""
    keep: bool = False
    """Keep the responsibilities in the run's checkpoint: later calls need not measure them, and the
    viewer, ns-render and ns-eval show the fused set as an output."""
    measure: bool = False
    """Also render the fused set in all held-out views and print its PSNR."""

    def main(self) -> None:
        """Measure, fuse, write, print.

        Raises:
            FileNotFoundError: there is no such run.
            ValueError: it is no run of a mixture with gates per pixel, an expert decodes colours
                per pixel, or a number is out of range.
        """
        self._check()
        run = open_run(self.run)
        pipeline = load_pipeline(run)
        model = mixture_model(pipeline, self.run)
        shares = kept_or_measured(pipeline, self.max_views)
        if self.keep:
            keep_shares(run, shares)
        time = torch.tensor(self.time, device=pipeline.device)
        with torch.no_grad():
            fused = fuse(model.mixture, shares, time)
        count = write_ply(fused, self.output)
        CONSOLE.print(
            f"{self.output}: {count:,} of {len(fused):,} Gaussians at time {self.time:g}; the "
            "others are too transparent to be seen."
        )
        if self.measure:
            CONSOLE.print(f"Held-out views of the fused set: {fused_psnr(pipeline, shares):.2f} dB")

    def _check(self) -> None:
        if not 0.0 <= self.time <= 1.0:
            raise ValueError(
                f"--time expects an instant in [0, 1] over the clip, got {self.time:g}."
            )
        if self.max_views is not None and self.max_views < 1:
            raise ValueError(
                f"--max-views expects a number of training images of at least 1, got "
                f"{self.max_views}."
            )
        if self.output.suffix.lower() != ".ply":
            raise ValueError(f"--output expects the name of a .ply file, got {self.output}.")


def mixture_model(pipeline: MoegsPipeline, path: Path) -> RouterModel:
    """The model of a run that is one of a mixture, all of whose experts can be fused."""
    model = pipeline.model
    if not isinstance(model, RouterModel):
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
    assert isinstance(model, RouterModel), type(model)
    # Said before the views are gone through, which takes a while.
    refuse_shading(model.mixture.experts, "Fusion makes one set of Gaussians of all experts")
    if model.shares.values and max_views is None:
        return model.shares.values
    return measured(pipeline, max_views).shares


def measured(pipeline: MoegsPipeline, max_views: int | None = None) -> Responsibilities:
    """Responsibilities of a mixture's Gaussians over the training views of its run."""
    model = pipeline.model
    assert isinstance(model, RouterModel), type(model)
    cameras = pipeline.datamanager.train_dataset.cameras
    return responsibilities(model.mixture, single_views(cameras, model.device, max_views))


def fused_psnr(pipeline: MoegsPipeline, shares: list[torch.Tensor]) -> float:
    """Mean PSNR of the fused set over the held-out views, each at its own instant."""
    model = pipeline.model
    assert isinstance(model, RouterModel), type(model)
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
    assert isinstance(model, RouterModel), type(model)
    return fused_image(model.mixture, shares, view_from_cameras(camera).to(model.device))
