"""The nerfstudio model of any one expert."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
from nerfstudio.engine.callbacks import (
    TrainingCallback,
    TrainingCallbackAttributes,
)
from nerfstudio.engine.trainer import TrainerConfig
from torch import Tensor
from torch.nn import Parameter

from moegs_ns.cameras import View
from moegs_ns.evaluation.image_metrics import all_metrics, scalar_psnr
from moegs_ns.experts.base import Expert, ExpertConfig, within
from moegs_ns.experts.recipe import Recipe, RecipeConfig
from moegs_ns.mixture.distill import Distillation, DistillationConfig
from moegs_ns.models.base import (
    GaussianModel,
    GaussianModelConfig,
    around_steps,
    initial_points,
    scene_of,
)
from moegs_ns.models.camera_corrections import CameraCorrections
from moegs_ns.models.resume import resume_expert
from moegs_ns.models.teacher import Teacher, prepare_distillation
from moegs_ns.models.viewing import Crop
from moegs_ns.scene import FrameTable
from moegs_ns.seeds import run_seed
from moegs_ns.splatting import rasterize, render
from moegs_ns.training.honest import HonestConfig, LeftOut, honest_rows
from moegs_ns.training.losses import (
    TrainingRender,
    mask_of,
    masked,
    mean_absolute_error,
    target_image,
)
from moegs_ns.training.samplers import Sampler


@dataclass
class ExpertModelConfig(GaussianModelConfig):
    """An expert and the recipe that trains it."""

    _target: type = field(default_factory=lambda: ExpertModel)
    expert: ExpertConfig = field(default_factory=ExpertConfig)
    """Shape of the expert."""
    recipe: RecipeConfig = field(default_factory=RecipeConfig)
    """How the expert is trained."""
    camera_optimizer: CameraOptimizerConfig = field(default_factory=CameraOptimizerConfig)
    """Learn small changes of the poses of training cameras, one per physical camera."""
    color_correction: bool = False
    """Learn how the colours of each training camera differ from the mean of all; held-out views
    show the mean."""
    time_offsets: bool = False
    """Learn by how many frames the clock of each training camera differs from the mean of all;
    held-out views show the time that they say."""
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    """A trained mixture that teaches the expert beside the training images."""
    honest: HonestConfig = field(default=HonestConfig())
    """Images that are left out until the end, so that a router can learn from them."""

    def check(self, config: TrainerConfig) -> None:
        """See base; also finds the teacher, if there is one."""
        super().check(config)
        self.honest.check()
        resume_expert(config)
        changes_views = self.time_offsets or self.camera_optimizer.mode != "off"
        prepare_distillation(self.distillation, self.expert, changes_views=changes_views)


class ExpertModel(GaussianModel):
    """Renders and trains one expert; knows nothing of its family."""

    config: ExpertModelConfig
    expert: Expert
    recipe: Recipe

    def populate_modules(self) -> None:
        """Build the expert from the scene and its initial points."""
        scene = scene_of(self.kwargs)
        self.expert = self.config.expert.setup(scene=scene, points=initial_points(self.kwargs))
        seed = run_seed()
        self.recipe = self.config.recipe.setup(
            expert=self.expert, budget=self.config.budget, seed=seed
        )
        self.corrections = CameraCorrections(
            self.config.camera_optimizer,
            self.config.color_correction,
            scene,
            has_time_offsets=self.config.time_offsets,
        )
        self.step = 0
        self._parts: list[TrainingRender] = []
        self._left_out: Int[Tensor, "n"] | None = None
        """The camera of each image that is left out until the finish; None if none is."""

    def begin_training(self) -> None:
        """Open the teacher, if there is one."""
        options = self.config.distillation
        if options.teacher is not None:
            teacher = Teacher(options, scene_of(self.kwargs))
            self.recipe.supervision = Distillation(options, teacher, self.config.budget)

    def training_record(self, earlier: dict[str, Any]) -> dict[str, Any]:
        """Where the points came from, how many Gaussians there are, what the supervision tells, the
        learned clocks, and which images were left out until which step."""
        record = super().training_record(earlier) | self.recipe.supervision.report()
        record |= self.corrections.record() | {"gaussians": self.expert.num_gaussians}
        if self._left_out is None or self.finish_starts is None:
            return record
        cameras = tuple(self._left_out.unique().tolist())
        return record | asdict(LeftOut(cameras, len(self._left_out), self.finish_starts))

    def make_sampler(self, table: FrameTable) -> Sampler:
        """See base; leaves the honest images out until the finish."""
        sampler = super().make_sampler(table)
        rows = honest_rows(table, self.config.honest.cameras)
        if bool(rows.any()):
            sampler.leave_out(rows)
            self._left_out = table.camera_ids[rows]
        return sampler

    def get_param_groups(self) -> dict[str, list[Parameter]]:
        return self.recipe.parameter_groups() | self.corrections.parameter_groups()

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        """Runs the recipe before and after every step."""
        optimizers = training_callback_attributes.optimizers
        assert optimizers is not None
        self.recipe.attach(optimizers.optimizers)
        self.recipe.scale_rates(optimizers.schedulers)
        if self._left_out is not None:
            trainer: Any = training_callback_attributes.trainer
            self.finish_starts = self.config.honest.first_step_of_finish(trainer.total_steps)
        return around_steps(self.before_step, self.after_step)

    def before_step(self, step: int) -> None:
        """Bring the expert into its state at `step`; from the finish on, draw all images."""
        self.step = step
        self.recipe.before_step(step)
        if step == self.finish_starts and self.recipe.sampler is not None:
            self.recipe.sampler.leave_out(None)

    def after_step(self, step: int) -> None:
        """Let the recipe collect statistics and change the set of Gaussians, but for the finish:
        then the set stays, since the weights of a router belong to its Gaussians."""
        parts, self._parts = self._parts, []
        if self.finish_starts is None or step < self.finish_starts:
            self.recipe.after_backward(step, parts)
            self.recipe.after_step(step)

    def training_outputs(self, view: View) -> dict[str, Any]:
        """The training images, rendered time by time."""
        background = self.recipe.background(self.step).to(self.device)
        # Group the cameras by time, and move them to where and when they are believed to be.
        has_clocks = self.corrections.has_time_offsets
        all_rows = single_rows(view) if has_clocks else rows_by_frame(view)
        view = view.to(self.device)
        views = [view] if len(all_rows) == 1 else [view.take(rows) for rows in all_rows]
        if self.corrections.is_on:
            views = [self.corrections.corrected(one) for one in views]
        # Project all times at once, then rasterise each.
        # A family's own clocks of cameras would tell the same once more.
        cameras = [None if has_clocks else one.training_camera for one in views]
        projected = self.expert.project(views, cameras)
        renders = [
            rasterize([self.recipe.to_rasterize(one)], own).only()
            for one, own in zip(projected, views, strict=True)
        ]
        for output in renders:
            output.retain_screen_gradients()
        # Shade, lay over the background, and show the colours that each camera records.
        images = [
            self.expert.finish(output, own, background)
            for output, own in zip(renders, views, strict=True)
        ]
        if self.corrections.is_on:
            images = self.corrections.correct_all_colors(images, views)
        parts = list(zip(renders, views, images, all_rows, strict=True))
        return {"rgb": in_batch_order(images, all_rows), "parts": parts}

    def view_outputs(self, view: View, crop: Crop | None = None) -> dict[str, Tensor]:
        """Named images of one camera; the only place where they are named."""
        background = self.expert.background
        if crop is None:
            output = rasterize(self.expert.project([view]), view).only()
        else:
            gaussians = within(self.expert.at(view.time), crop.box)
            output = render(gaussians, view, near=self.expert.near)
            background = background if crop.background is None else crop.background
        image = self.expert.finish(output, view, background)
        return {"rgb": image[0], "depth": output.depth[0], "accumulation": output.alpha[0]}

    def get_metrics_dict(self, outputs: dict[str, Any], batch: dict[str, Any]) -> dict[str, Any]:
        target, mask = target_image(batch, self.device), mask_of(batch, self.device)
        return {
            "psnr": scalar_psnr(outputs["rgb"], target, mask),
            "gaussian_count": self.expert.num_gaussians,
            **self.corrections.report(),
        }

    def get_loss_dict(
        self,
        outputs: dict[str, Any],
        batch: dict[str, Any],
        metrics_dict: dict[str, Any] | None = None,
    ) -> dict[str, Tensor]:
        """Losses of the recipe; of an evaluation image the plain L1."""
        target, mask = target_image(batch, self.device), mask_of(batch, self.device)
        if "parts" not in outputs:
            return {"l1": mean_absolute_error(outputs["rgb"], target, mask)}
        indices, target = batch["image_idx"], masked(target, mask)
        self._parts = []
        for output, view, image, rows in outputs["parts"]:
            own = None if mask is None else rows_of(mask, rows)
            images = masked(image, own), rows_of(target, rows)
            self._parts.append(TrainingRender(output, view, *images, indices[rows], own))
        losses = self.recipe.loss_terms(self.step, self._parts)
        return losses | self.corrections.loss_terms() if self.corrections.is_on else losses

    def get_image_metrics_and_images(
        self, outputs: dict[str, Tensor], batch: dict[str, Any]
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Quality of one rendered image, and it beside the ground truth (left)."""
        metrics = all_metrics(outputs["rgb"], batch)
        target = target_image(batch, outputs["rgb"].device)
        metrics["gaussian_count"] = float(self.expert.num_gaussians)
        return metrics, {"img": torch.cat([target, outputs["rgb"].clamp(0, 1)], dim=1)}

    def size_report(self) -> str:
        cap = self.config.recipe.densification.max_gaussians
        return (
            f"{self.expert.num_gaussians:,} Gaussians (cap {cap:,}); lower "
            "--pipeline.model.recipe.densification.max-gaussians or use smaller images"
        )


def single_rows(view: View) -> Sequence[Int[Tensor, "_"]]:
    """Each row of a batch for itself, where each camera has a time of its own."""
    return list(torch.arange(len(view)).split(1))


def rows_by_frame(view: View) -> Sequence[Int[Tensor, "_"]]:
    """Rows of a batch grouped by integer frame, so that each group shows one time."""
    if len(view) == 1:
        return [torch.zeros(1, dtype=torch.long)]
    frames = view.frame_ids
    return [torch.nonzero(frames == frame)[:, 0] for frame in frames.unique()]


def in_batch_order(
    images: Sequence[Float[Tensor, "_ H W 3"]], rows: Sequence[Int[Tensor, "_"]]
) -> Float[Tensor, "V H W 3"]:
    """The images of all groups, without gradients, each in its row of the batch."""
    if len(images) == 1:
        return images[0].detach()
    apart = [one.detach() for image in images for one in image]
    return torch.stack([apart[index] for index in torch.cat(list(rows)).argsort().tolist()])


def rows_of(images: Shaped[Tensor, "V H W D"], rows: Int[Tensor, "C"]) -> Shaped[Tensor, "C H W D"]:
    """Some images of a batch; rows stay on the CPU, as uploading them would synchronise."""
    if len(rows) == len(images):
        return images
    return torch.stack([images[row] for row in rows.tolist()])
