"""How much of a run's error on held-out cameras has which cause, in dB.

    python -m benchmarks.quality.error_causes --name error_causes --runs RUN RUN

For every held-out camera the error is measured as it is, and as it would be without one cause:

- colours: an affine map of the image's colours to the true ones is fitted, one for each camera;
- registration: the best of the nine shifts by at most one pixel is taken, one for each camera;
- motion: pixels that move have the mean error of those that do not;
- overfitting: the training cameras are rendered as a held-out one is, also with fitted colours.

PSNR is that of the mean squared error over all images of a camera, and then averaged over cameras;
it differs a little from the mean over images that other tables show.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import tyro
from jaxtyping import Bool, Float
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from benchmarks.tables import Table
from moegs_ns.data.frames.dataset import FrameDataset
from moegs_ns.engine.trainer import MoegsPipeline, load_pipeline
from moegs_ns.evaluation.tables import Row
from moegs_ns.reports.held_out import evenly_spaced
from moegs_ns.runs.checkpoint import open_run
from moegs_ns.training.losses import target_image

SHIFTS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))


@dataclass
class CameraError:
    """Sums of squared errors over the images of one camera, in units of the image range."""

    squared: float = 0.0
    pixels: int = 0
    still_squared: float = 0.0
    still_pixels: int = 0
    shifted: Tensor = field(default_factory=lambda: torch.zeros(len(SHIFTS), dtype=torch.float64))
    normal: Tensor = field(default_factory=lambda: torch.zeros(4, 4, dtype=torch.float64))
    product: Tensor = field(default_factory=lambda: torch.zeros(4, 3, dtype=torch.float64))
    true_squared: float = 0.0

    def add(
        self,
        image: Float[Tensor, "H W 3"],
        target: Float[Tensor, "H W 3"],
        is_moving: Bool[Tensor, "H W 1"],
    ) -> None:
        """Take note of one image."""
        squared = (image - target).square().sum(-1).double()
        self.squared += float(squared.sum())
        self.pixels += squared.numel()
        self.still_squared += float(squared[~is_moving[..., 0]].sum())
        self.still_pixels += int((~is_moving).sum())
        inner = target[1:-1, 1:-1]
        # All windows of the image, shift by shift.
        windows = image.unfold(0, len(inner), 1).unfold(1, inner.shape[1], 1).flatten(0, 1)
        shifted = [(window.permute(1, 2, 0) - inner).square().sum() for window in windows]
        self.shifted += torch.stack(shifted).double().cpu()
        known = torch.cat([image, torch.ones_like(image[..., :1])], dim=-1).reshape(-1, 4).double()
        wanted = target.reshape(-1, 3).double()
        self.normal += (known.T @ known).cpu()
        self.product += (known.T @ wanted).cpu()
        self.true_squared += float(wanted.square().sum())

    def figures(self) -> dict[str, float]:
        """PSNR as it is, and without each cause."""
        whole = self.squared / self.pixels / 3
        fit = torch.linalg.lstsq(self.normal, self.product).solution
        fitted = self.true_squared - float((fit * self.product).sum())
        middle = float(self.shifted[SHIFTS.index((0, 0))])
        return {
            "psnr": decibels(whole),
            "psnr_right_colors": decibels(fitted / self.pixels / 3),
            "psnr_registered": decibels(whole * float(self.shifted.min()) / middle),
            "psnr_still": decibels(self.still_squared / max(1, self.still_pixels) / 3),
        }


def decibels(mean_squared: float) -> float:
    """PSNR of images in [0, 1]."""
    return -10.0 * math.log10(max(mean_squared, 1e-12))


@dataclass(frozen=True, kw_only=True)
class ErrorCauses(Table):
    """One row for each run and held-out camera, and one for all cameras of a run."""

    runs: tuple[Path, ...]
    """config.yml or folder of each run."""
    name: str = "error_causes"
    train_views: int = 100
    """Training images, spread evenly, for the PSNR of training cameras."""

    def rows(self) -> Iterator[Row]:
        for path in self.runs:
            run = open_run(path)
            pipeline = load_pipeline(run)
            own = {"method": run.config.method_name, "run": run.config.timestamp}
            yield from [own | row for row in self.run_rows(pipeline)]
            del pipeline
            torch.cuda.empty_cache()

    @torch.no_grad()
    def run_rows(self, pipeline: MoegsPipeline) -> Iterator[Row]:
        """Rows of one run: its cameras, then their mean beside that of training cameras.

        Training cameras are rendered without what was learned for them alone. Those of a run with
        colour correction differ from their images by their own colours, so that overfitting shows
        where colours are right.
        """
        manager, train = pipeline.datamanager, pipeline.datamanager.train_dataset

        def train_item(index: int) -> tuple[Cameras, dict[str, Any]]:
            image = torch.from_numpy(train.get_numpy_image(index))
            return train.cameras[index : index + 1].to(pipeline.device), {"image": image}

        indices = range(len(manager.eval_dataset))
        found = figures_by_camera(pipeline, manager.eval_dataset, manager.eval_item, indices)
        indices = evenly_spaced(len(train), self.train_views)
        mean = mean_figures(figures_by_camera(pipeline, train, train_item, indices).values())
        training = {f"{name}_training": mean[name] for name in ("psnr", "psnr_right_colors")}
        unknown, reason = dict.fromkeys(training), "given for all cameras together"
        for camera, figures in found.items():
            row = {"camera": camera} | mean_figures([figures]) | unknown
            yield row | {"reason": f"{', '.join(training)}: {reason}"}
        yield {"camera": "all"} | mean_figures(found.values()) | training | {"reason": ""}


def figures_by_camera(
    pipeline: MoegsPipeline,
    dataset: FrameDataset,
    item: Callable[[int], tuple[Cameras, dict[str, Any]]],
    indices: Sequence[int],
) -> dict[int, dict[str, float]]:
    """Figures of every camera of some images; nothing moves where a batch does not tell."""
    errors: defaultdict[int, CameraError] = defaultdict(CameraError)
    for index in indices:
        camera, batch = item(index)
        if "mask" in batch or dataset.masks is not None:
            raise ValueError("This table knows no masks; name runs of data without them.")
        image = pipeline.model.get_outputs_for_camera(camera)["rgb"].clamp(0, 1)
        target = target_image(batch, pipeline.device)
        still = torch.zeros_like(target[..., :1], dtype=torch.bool)
        error = errors[int(dataset.frame_table.camera_ids[index])]
        error.add(image, target, batch.get("is_moving", still))
    return {camera: error.figures() for camera, error in sorted(errors.items())}


def mean_figures(figures: Collection[dict[str, float]]) -> dict[str, float]:
    """Means over cameras."""
    names = next(iter(figures))
    return {name: round(fmean(each[name] for each in figures), 3) for name in names}


if __name__ == "__main__":
    tyro.cli(ErrorCauses, description=__doc__).main()
