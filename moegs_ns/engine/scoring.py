"""Figures of every image that a data loader gives, as nerfstudio's commands ask for them."""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.pipelines.base_pipeline import VanillaPipeline
from torchvision.utils import save_image

from moegs_ns.data.datamanager import MoegsDataManager
from moegs_ns.evaluation.averages import averages
from moegs_ns.models.base import GaussianModel
from moegs_ns.progress import track

FITTED_IMAGES = 40
"""Training images that baselines are fitted on before an evaluation."""


def score_images(
    model: GaussianModel,
    images: Iterable[tuple[Cameras, dict[str, Any]]],
    prefix: str,
    folder: Path | None,
) -> list[dict[str, float]]:
    """The figures of each image, with pixels and images per second of rendering it; a figure that
    an image does not have is missing.

    Into `folder`, if there is one, go the images that the model shows, as PREFIX_NAME_NUMBER.png.
    """
    if folder is not None:
        folder.mkdir(exist_ok=True, parents=True)
    found = []
    for index, (camera, batch) in enumerate(track(images, "Evaluating all images")):
        started = time.perf_counter()
        outputs = model.get_outputs_for_camera(camera)
        if model.device.type == "cuda":
            torch.cuda.synchronize(model.device)
        seconds = time.perf_counter() - started
        figures, pictures = model.get_image_metrics_and_images(outputs, batch)
        if folder is not None:
            for name, picture in pictures.items():
                path = folder / f"{prefix}_{name}_{index:04d}.png"
                save_image(picture.permute(2, 0, 1).cpu(), path)
        pixels = int(camera.height.reshape(-1)[0]) * int(camera.width.reshape(-1)[0])
        found.append(figures | {"num_rays_per_sec": pixels / seconds, "fps": 1.0 / seconds})
    return found


class ScoredPipeline(VanillaPipeline):
    """A pipeline whose figures are means over the images that have them."""

    datamanager: MoegsDataManager
    image_figures: Sequence[dict[str, float]] = ()
    """Those of every image of the last evaluation, in the order of the evaluation images."""

    @property
    def model(self) -> GaussianModel:
        """The model that is scored."""
        assert isinstance(self._model, GaussianModel), type(self._model)
        return self._model

    def get_average_eval_image_metrics(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """nerfstudio's means over all evaluation images, after what they are compared with is
        fitted on training images.

        Raises:
            ValueError: nothing is held out.
        """
        self.datamanager.check_held_out()
        images = self.datamanager.some_training_images(FITTED_IMAGES)
        # The bar appears only if the model reads the images.
        count = min(FITTED_IMAGES, len(self.datamanager.train_dataset))
        self.model.begin_evaluation(track(images, "Fitting constant weights", count))
        return super().get_average_eval_image_metrics(*args, **kwargs)

    @torch.no_grad()
    def get_average_image_metrics(
        self,
        data_loader: Iterable[tuple[Cameras, dict[str, Any]]],
        image_prefix: str,
        step: int | None = None,
        output_path: Path | None = None,
        get_std: bool = False,
    ) -> dict[str, float]:
        """See nerfstudio, whose means expect every image to have every figure and which begins to
        train afterwards, and `averages`."""
        # A model in training draws other gates, so a loaded run must not come back as one.
        was_training = self.training
        self.eval()
        figures = score_images(self.model, data_loader, image_prefix, output_path)
        self.train(was_training)
        self.image_figures = figures
        return averages(figures, with_spread=get_std)
