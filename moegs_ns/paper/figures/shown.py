"""Held-out images, and what several models make of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from moegs_ns.engine.trainer import MoegsPipeline, load_pipeline
from moegs_ns.evaluation.baselines import squared_error
from moegs_ns.evaluation.image_metrics import psnr, quantize
from moegs_ns.evaluation.tables import Row
from moegs_ns.experts.names import readable
from moegs_ns.models.expert_sources import unique_names
from moegs_ns.models.mixture_model import MixtureModel
from moegs_ns.paper.figures.figure import MIXTURE, SceneRuns
from moegs_ns.runs.checkpoint import open_run
from moegs_ns.training.losses import mask_of, masked, target_image


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def pixels(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        return (
            slice(self.top, self.top + self.height),
            slice(self.left, self.left + self.width),
        )


@dataclass(frozen=True, eq=False)
class Shown:
    """A held-out image and what each model makes of it, as 8-bit values in [0, 1]; pixels that do
    not count are black in all."""

    scene: str
    camera: int
    frame: int
    names: tuple[str, ...]
    """Of the models, M."""
    truth: Float[Tensor, "H W 3"]
    images: Float[Tensor, "M H W 3"]
    is_moving: Bool[Tensor, "H W"]
    is_counted: Bool[Tensor, "H W"]
    gates: Float[Tensor, "E H W"] | None = None
    """Of the mixture among the models, if it has gates."""

    @property
    def title(self) -> str:
        """Which image it is."""
        return image_title(self.scene, self.camera, self.frame)

    @property
    def whole(self) -> Box:
        """The whole image."""
        return Box(0, 0, *self.truth.shape[:2])

    @property
    def errors(self) -> Float[Tensor, "M H W"]:
        """Squared, summed over colours; 0 at pixels that do not count."""
        return squared_error(self.images, self.truth)

    def psnr(self, box: Box | None = None) -> list[float]:
        """Of each model in dB, over the pixels of a box that count; NaN without any."""
        rows, columns = (box or self.whole).pixels
        counted = self.is_counted[rows, columns, None]
        return [
            float(psnr(i[rows, columns], self.truth[rows, columns], counted)) for i in self.images
        ]

    def row(self, model: int, region: str, value: float) -> Row:
        """Where and what a model's PSNR is, for the table of a figure."""
        reason = ""
        if not math.isfinite(value):
            reason = "psnr: there is no error" if value > 0 else "psnr: no pixel counts"
        place = {"scene": self.scene, "camera": self.camera, "frame": self.frame}
        return place | {
            "panel": self.names[model],
            "region": region,
            "psnr": value,
            "reason": reason,
        }


def image_title(scene: str, camera: int, frame: int) -> str:
    """What an image is called on figures."""
    return f"{scene}, camera {camera}, frame {frame}"


@dataclass(frozen=True, eq=False)
class Source:
    """A model's output that is shown under a name."""

    name: str
    pipeline: MoegsPipeline
    output: str = "rgb"


@dataclass(frozen=True, eq=False)
class SceneImages:
    """The held-out images of a scene, as several models show them."""

    scene: str
    sources: tuple[Source, ...]

    def __post_init__(self) -> None:
        first, *others = self.sources
        first.pipeline.datamanager.check_held_out()
        for other in others:
            if _held_out(other.pipeline) != _held_out(first.pipeline):
                raise ValueError(
                    f"Expected runs of scene {self.scene} that hold out the same images, but those "
                    f"of {first.name} and {other.name} hold out other ones; train them with the "
                    "same options of the scene."
                )

    def __len__(self) -> int:
        return len(self._first.datamanager.eval_dataset)

    @property
    def _first(self) -> MoegsPipeline:
        return self.sources[0].pipeline

    @property
    def cameras(self) -> list[int]:
        """Of each image."""
        return self._first.datamanager.eval_dataset.frame_table.camera_ids.tolist()

    @property
    def frames(self) -> list[int]:
        """Of each image."""
        return self._first.datamanager.eval_dataset.frame_table.frame_ids.tolist()

    @torch.no_grad()
    def shown(self, index: int) -> Shown:
        """One of the images, rendered by all models; on the CPU."""
        camera, batch = self._first.datamanager.eval_item(index)
        pipelines = {id(source.pipeline): source.pipeline for source in self.sources}
        outputs = {
            key: pipeline.model.get_outputs_for_camera(camera)
            for key, pipeline in pipelines.items()
        }
        truth = target_image(batch, self._first.device)
        mask = mask_of(batch, truth.device)
        counted = torch.ones_like(batch["is_moving"]) if mask is None else mask
        images = torch.stack([outputs[id(each.pipeline)][each.output] for each in self.sources])
        return Shown(
            scene=self.scene,
            camera=self.cameras[index],
            frame=self.frames[index],
            names=tuple(source.name for source in self.sources),
            truth=masked(truth, mask).cpu(),
            images=masked(quantize(images), mask).cpu(),
            is_moving=(batch["is_moving"] & counted)[..., 0].cpu(),
            is_counted=counted[..., 0].cpu(),
            gates=_gates([outputs[key] for key in pipelines]),
        )


def expert_images(scene: SceneRuns) -> SceneImages:
    """The held-out images of a scene by each of its experts alone."""
    runs = [open_run(path) for path in scene.experts]
    names = unique_names([run.config.method_name for run in runs])
    sources = [
        Source(readable(name), load_pipeline(run)) for name, run in zip(names, runs, strict=True)
    ]
    return SceneImages(scene.name, tuple(sources))


def mixture_images(scene: SceneRuns) -> SceneImages:
    """The held-out images of a scene by each expert of its mixture, and by the mixture."""
    pipeline, model = scene_mixture(scene)
    names = model.config.expert_names
    experts = [Source(readable(name), pipeline, f"rgb_{name}") for name in names]
    return SceneImages(scene.name, (*experts, Source(MIXTURE, pipeline)))


def scene_mixture(scene: SceneRuns) -> tuple[MoegsPipeline, MixtureModel]:
    """The mixture of a scene.

    Raises:
        FileNotFoundError: there is no such run.
        ValueError: it is that of a single expert.
    """
    pipeline = load_pipeline(open_run(scene.mixture))
    if not isinstance(pipeline.model, MixtureModel):
        raise ValueError(
            f"Expected the run of a mixture of scene {scene.name}, but {scene.mixture} is that of "
            "a single expert; name a run of moegs-router."
        )
    return pipeline, pipeline.model


def run_images(scene: str, runs: Mapping[str, Path]) -> SceneImages:
    """The held-out images of a scene by several runs, under their names."""
    sources = (Source(name, load_pipeline(open_run(path))) for name, path in runs.items())
    return SceneImages(scene, tuple(sources))


def _held_out(pipeline: MoegsPipeline) -> Sequence[list[int]]:
    dataset = pipeline.datamanager.eval_dataset
    table, cameras = dataset.frame_table, dataset.cameras
    sizes = (cameras.width, cameras.height)
    return [
        table.camera_ids.tolist(),
        table.frame_ids.tolist(),
        *(size.flatten().tolist() for size in sizes),
    ]


def _gates(outputs: Sequence[dict[str, Tensor]]) -> Float[Tensor, "E H W"] | None:
    """Those of the only mixture whose outputs are among these."""
    found = [[each for name, each in one.items() if name.startswith("gate_")] for one in outputs]
    gates = [each for each in found if each]
    return torch.stack(gates[0])[..., 0].cpu() if len(gates) == 1 else None
