"""What nerfstudio's trainer and pipeline here ask of every model and of its configuration."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import torch
import tyro
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.models.base_model import Model, ModelConfig
from torch import Tensor

from moegs_ns.cameras import View, view_from_cameras
from moegs_ns.models.viewing import (
    Crop,
    cropped_to,
    in_viewer,
    no_tracing,
    pictures_within_range,
    view_at_time,
    viewer_kept_alive,
)
from moegs_ns.scene import FrameTable, InitialPoints, SceneInfo
from moegs_ns.training.samplers import Sampler


@dataclass
class GaussianModelConfig(ModelConfig):
    """Options of every model; hides those that nerfstudio's models of rays read, and ours never."""

    enable_collider: tyro.conf.Suppress[bool] = False
    """Hidden, since Gaussians have their own near plane."""
    collider_params: tyro.conf.Suppress[dict[str, float] | None] = None
    """Hidden likewise."""
    loss_coefficients: tyro.conf.Suppress[dict[str, float]] = field(default_factory=dict)
    """Hidden, since recipes weigh their losses."""
    eval_num_rays_per_chunk: tyro.conf.Suppress[int] = 4096
    """Hidden, since images are rendered whole; nerfstudio's commands may set it."""
    prompt: tyro.conf.Suppress[str | None] = None
    """Hidden, since nothing is made from text."""
    mixes_experts: ClassVar[bool] = False
    """Whether several experts are mixed."""
    budget: Annotated[float, tyro.conf.arg(aliases=["--budget"])] = 1.0
    """Fraction of the published steps to train for; scales every schedule."""

    def check(self, config: TrainerConfig) -> None:
        """Complete and check the options, before anything is printed or written.

        Reads at most the configurations of other runs. Does nothing the second time.

        Raises:
            OSError: a run that is named does not exist.
            ValueError: an option is out of range, or options contradict each other.
        """
        if not 0 < self.budget < math.inf:
            raise ValueError(
                f"--budget expects a fraction of the full recipe above 0, got {self.budget}."
            )

    def prepare(self, config: TrainerConfig) -> None:
        """Train what this training needs; called once the config is written. See `check`.

        Raises:
            RuntimeError: another training failed.
        """


def is_mixture(config: Any) -> bool:
    """Whether a model's configuration, which need not be one of ours, is that of a mixture."""
    return isinstance(config, GaussianModelConfig) and config.mixes_experts


class GaussianModel(Model):
    """A model that trains Gaussians or what mixes them."""

    recipe: Any
    """How it is trained."""
    draw_live: Callable[[View, Crop | None], dict[str, Tensor]] | None = None
    """What the viewer shows instead of all outputs, in its own threads alone."""

    def training_outputs(self, view: View) -> dict[str, Any]:
        """Images of a training view and what the losses need beside them."""
        raise NotImplementedError

    def view_outputs(self, view: View, crop: Crop | None = None) -> dict[str, Tensor]:
        """Named images of one camera, of a part of the scene if one is asked for."""
        raise NotImplementedError

    def get_outputs(self, ray_bundle: Cameras) -> dict[str, Any]:  # type: ignore[override]
        """Outputs of a batch of cameras when training, every image of one camera otherwise."""
        if self.training:
            return self.training_outputs(view_from_cameras(ray_bundle))
        return self.get_outputs_for_camera(ray_bundle)

    @torch.no_grad()
    def get_outputs_for_camera(
        self, camera: Cameras, obb_box: OrientedBox | None = None
    ) -> dict[str, Tensor]:
        """Outputs of one camera, cropped to a box at the camera's time; colours lie in [0, 1].

        Raises:
            ValueError: the camera is no pinhole camera or has no time; see `view_at_time`.
        """
        with viewer_kept_alive():
            view = view_at_time(camera, scene_of(self.kwargs).num_frames).to(self.device)
        draw = self.draw_live if in_viewer() else None
        with no_tracing(), viewer_kept_alive():
            crop = cropped_to(obb_box, self.device)
            return pictures_within_range((draw or self.view_outputs)(view, crop))

    finish_starts: int | None = None
    """First step on all images, of an expert that leaves some out until then."""

    def make_sampler(self, table: FrameTable) -> Sampler:
        """The sampler that chooses the training images; the recipe keeps and saves it."""
        return self.recipe.make_sampler(table)

    def begin_training(self) -> None:
        """Load what the training starts from; the pipeline moves it to the device then."""

    def begin_evaluation(self, images: Iterable[tuple[View, Float[Tensor, "H W 3"]]]) -> None:
        """Prepare for figures of held-out views, of which `images` are training views and their
        ground truth; read them only if they are needed."""

    def training_record(self, earlier: dict[str, Any]) -> dict[str, Any]:
        """What the run's training.json says of the model: here where its points came from.

        Args:
            earlier: the record of the run that was resumed; empty for a new one.
        """
        origin = (self.kwargs.get("metadata") or {}).get("points3D_origin")
        return {"initial_points": earlier.get("initial_points", origin)}

    def size_report(self) -> str:
        """How many Gaussians there are and which option bounds them; for lack of memory."""
        raise NotImplementedError


def around_steps(
    before: Callable[[int], None], after: Callable[[int], None]
) -> list[TrainingCallback]:
    """nerfstudio's callbacks of what happens before and after every step, given its number."""
    locations = TrainingCallbackLocation
    return [
        TrainingCallback([locations.BEFORE_TRAIN_ITERATION], before),
        TrainingCallback([locations.AFTER_TRAIN_ITERATION], after),
    ]


def scene_of(kwargs: dict[str, Any]) -> SceneInfo:
    """The scene that the datamanager described.

    Raises:
        ValueError: another datamanager was used.
    """
    scene = (kwargs.get("metadata") or {}).get("scene")
    if scene is None:
        raise ValueError(
            "The model expected a description of the scene from MoegsDataManager, but the "
            "datamanager in use gives none; train with one of the moegs methods as configured."
        )
    return scene


def initial_points(kwargs: dict[str, Any]) -> InitialPoints | None:
    """The seed points of nerfstudio's pipeline, whose colours count to 255."""
    seed_points = kwargs.get("seed_points")
    if seed_points is None:
        return None
    xyz, rgb = seed_points
    metadata = kwargs["metadata"]
    frames, velocities = metadata.get("points3D_frames"), metadata.get("points3D_velocities")
    moving = metadata.get("points3D_moving_frames")
    times = None
    if moving is not None:
        last = max(1, scene_of(kwargs).num_frames - 1)
        times = torch.where(moving >= 0, moving.float() / last, torch.nan)
    return InitialPoints(
        xyz=xyz.float(),
        rgb=rgb.float() / 255.0,
        frames=None if frames is None else torch.as_tensor(frames),
        times=times,
        velocities=None if velocities is None else velocities.float(),
    )
