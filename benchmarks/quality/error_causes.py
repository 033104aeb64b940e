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
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import tyro
from jaxtyping import Bool, Float
from torch import Tensor

from benchmarks.tables import Table, free_memory
from moegs_ns.engine.pipeline import MoegsPipeline, load_pipeline
from moegs_ns.evaluation.image_metrics import target_image
from moegs_ns.runs.checkpoint import open_run

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
        height, width = inner.shape[:2]
        self.shifted += torch.stack(
            [
                (image[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width] - inner).square().sum()
                for dy, dx in SHIFTS
            ]
        ).double().cpu()  # fmt: skip
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

    def main(self) -> None:
        """Render, compare, write."""
        self.write_each(self.all_rows())

    def all_rows(self) -> Iterator[dict[str, Any]]:
        """Rows of every run."""
        for path in self.runs:
            run = open_run(path)
            pipeline = load_pipeline(run)
            own = {"method": run.config.method_name, "run": run.config.timestamp}
            yield from [own | row for row in self.rows(pipeline)]
            del pipeline
            free_memory()

    @torch.no_grad()
    def rows(self, pipeline: MoegsPipeline) -> Iterator[dict[str, Any]]:
        """Rows of one run: its cameras, then their mean."""
        errors: dict[int, CameraError] = {}
        manager = pipeline.datamanager
        camera_ids = manager.eval_dataset.frame_table.camera_ids
        for index, (camera, batch) in enumerate(manager.fixed_indices_eval_dataloader):
            image = pipeline.model.get_outputs_for_camera(camera)["rgb"].clamp(0, 1)
            target = target_image(batch, pipeline.device)
            of_camera = errors.setdefault(int(camera_ids[index]), CameraError())
            of_camera.add(image, target, batch["is_moving"])
        found = {camera: error.figures() for camera, error in sorted(errors.items())}
        training = self.training_figures(pipeline)
        unknown = dict.fromkeys(training)
        reason = f"{', '.join(training)}: given for all cameras together"
        for camera, figures in found.items():
            yield {"camera": camera} | rounded(figures) | unknown | {"reason": reason}
        yield {"camera": "all"} | rounded(mean_figures(found.values()) | training) | {"reason": ""}

    def training_figures(self, pipeline: MoegsPipeline) -> dict[str, float]:
        """Of training cameras, rendered without what was learned for them alone.

        Those of a run with colour correction differ from their images by their own colours, so
        that overfitting shows where colours are right.
        """
        dataset = pipeline.datamanager.train_dataset
        chosen = torch.linspace(0, len(dataset) - 1, min(self.train_views, len(dataset)))
        errors: dict[int, CameraError] = {}
        for row in chosen.round().long().tolist():
            camera = dataset.cameras[row : row + 1].to(pipeline.device)
            image = pipeline.model.get_outputs_for_camera(camera)["rgb"].clamp(0, 1)
            target = torch.from_numpy(dataset.get_numpy_image(row)).to(pipeline.device)
            target = target_image({"image": target}, pipeline.device)
            of_camera = errors.setdefault(int(dataset.frame_table.camera_ids[row]), CameraError())
            of_camera.add(image, target, torch.zeros_like(target[..., :1], dtype=torch.bool))
        mean = mean_figures([error.figures() for error in errors.values()])
        return {f"{name}_training": mean[name] for name in ("psnr", "psnr_right_colors")}


def mean_figures(figures: Collection[dict[str, float]]) -> dict[str, float]:
    """Means over cameras."""
    return {
        name: sum(each[name] for each in figures) / len(figures) for name in next(iter(figures))
    }


def rounded(figures: dict[str, float]) -> dict[str, float]:
    """Figures as a table shows them."""
    return {name: round(value, 3) for name, value in figures.items()}


if __name__ == "__main__":
    tyro.cli(ErrorCauses, description=__doc__).main()
