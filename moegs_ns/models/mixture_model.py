"""The nerfstudio model of a mixture, its options, and the router that is trained."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, cast

import torch
import tyro
from jaxtyping import Float
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor
from torch.nn import Parameter

from moegs_ns.cameras import View, one_frame_apart
from moegs_ns.evaluation.baselines import FUSED, fit_constant_weights, mixture_metrics
from moegs_ns.evaluation.image_metrics import scalar_psnr
from moegs_ns.experts.base import Expert
from moegs_ns.mixture.fuse import fused_image
from moegs_ns.mixture.importance import CRITERIA
from moegs_ns.mixture.mixture import ROUTER_GATES, GateConfig, Mixture, MixtureRender
from moegs_ns.mixture.pruning_schedule import (
    PruneConfig,
    PruningSchedule,
    check_request,
    check_rounds,
)
from moegs_ns.mixture.recipe import RouterRecipe, RouterRecipeConfig
from moegs_ns.mixture.volume_mixture import ONE_SET, mixture_of, refuse_shading
from moegs_ns.models.base import (
    GaussianModel,
    GaussianModelConfig,
    around_steps,
    is_mixture,
    scene_of,
)
from moegs_ns.models.camera_corrections import ExpertCorrections, Learned
from moegs_ns.models.expert_loading import finish_experts, load_experts, load_mixture
from moegs_ns.models.expert_model import ExpertModelConfig
from moegs_ns.models.expert_sources import (
    ExpertSource,
    check_left_cameras_out,
    check_source_frames,
    expert_source,
    method_config,
    split_windows,
    unique_names,
)
from moegs_ns.models.gate_correction import check_copies, correct_gates
from moegs_ns.models.missing_experts import train_missing_experts
from moegs_ns.models.resume import resume_mixture, take_over
from moegs_ns.models.stacking import StackingConfig, prepare_stacking
from moegs_ns.models.viewing import Crop, named_images
from moegs_ns.routers import RouterConfig, VolumeAwarePixelRouterConfig, VolumeRouterConfig
from moegs_ns.runs.checkpoint import configured_frames, run_of, training_record
from moegs_ns.runs.stored_responsibilities import StoredResponsibilities
from moegs_ns.scene import SceneInfo
from moegs_ns.seeds import run_seed
from moegs_ns.training.honest import HonestGatesConfig
from moegs_ns.training.losses import mask_of, masked, mean_absolute_error, target_image
from moegs_ns.training.optimizers import scaled_steps

ANY_SCENE = SceneInfo(num_frames=2, fps=30.0, center=(0.0, 0.0, 0.0), extent=1.0, background=None)
"""Stands for the scene where only the kind of an expert matters."""


@dataclass
class MixtureModelConfig(GaussianModelConfig):
    """A mixture of trained experts."""

    _target: type = field(default_factory=lambda: MixtureModel)
    mixes_experts: ClassVar[bool] = True
    experts: Annotated[tuple[Path, ...], tyro.conf.arg(aliases=["--experts"])] = ()
    """What to mix, separated by spaces: the config.yml (or folder) of trained runs; A+B for runs of
    consecutive windows of the clip, each trained with --frames, as one expert; names of methods,
    such as stg or 4dgaussians, to train first what is missing, stg+stg on two windows. Put another
    option between this list and the name of the dataparser, as in
    `--experts A/config.yml B/config.yml --data D n3v-data`."""
    expert_budget: Annotated[float, tyro.conf.arg(aliases=["--expert-budget"])] = 1.0
    """Fraction of their published steps that experts named by method are trained for."""
    temperature: float = 1.0
    """Divides the logits of the gates, in training and in every use."""
    gates: GateConfig = ROUTER_GATES
    """How smooth gates are, in training and in every use."""
    router: RouterConfig = field(default_factory=VolumeAwarePixelRouterConfig)
    """Shape of the router; that of the opened mixture with --router."""
    mixture_run: Annotated[Path | None, tyro.conf.arg(aliases=["--router"])] = None
    """Trained mixture to prune, instead of experts to mix: the config.yml (or folder) of its run.
    This run starts from its experts and its router, and takes over its temperature."""
    prune: PruneConfig = field(default=PruneConfig())
    """What is removed from that mixture."""
    recipe: RouterRecipeConfig = field(default_factory=RouterRecipeConfig)
    """How the router is trained."""
    honest: HonestGatesConfig = field(default=HonestGatesConfig())
    """Which images tell the router whom to trust."""
    stacking: StackingConfig = field(default=StackingConfig())
    """Copies of the experts that tell whom to trust on unseen views."""
    expert_models: tyro.conf.Suppress[tuple[ExpertModelConfig, ...]] = ()
    """The experts' own configurations, copied in when the run starts so that it needs no other."""
    expert_names: tyro.conf.Suppress[tuple[str, ...]] = ()
    """Short names of the experts, which name the outputs."""

    def check(self, config: TrainerConfig) -> None:
        """See base; also looks at the experts, as far as their configurations tell."""
        super().check(config)
        resume_mixture(config, MixtureModelConfig, "a mixture", ", or mix it: --experts RUN")
        self.check_options(config)
        if self.expert_models:
            return
        if self.mixture_run is not None:
            take_over(config, self._embed_mixture(self.mixture_run))
            CRITERIA[self.prune.criterion].check(self.router)
        else:
            self.check_experts(config, self.sources())

    def check_options(self, config: TrainerConfig) -> None:
        """Raise ValueError if an option is out of range, whatever the experts are."""
        check_request(self.prune, self.mixture_run, has_experts=bool(self.experts))
        steps = scaled_steps(config.max_num_iterations, self.budget)
        check_rounds(self.prune, steps, self.budget)
        self.honest.check(steps)
        if not self.expert_budget > 0:
            raise ValueError(
                "--expert-budget expects a fraction of the full recipes above 0, got "
                f"{self.expert_budget}."
            )
        self.router.check()
        self.gates.check(self.temperature)
        self.stacking.check(self)
        if isinstance(self.router, VolumeRouterConfig) and self.gates != ROUTER_GATES:
            raise ValueError(f"{ONE_SET}, so --pipeline.model.gates has no gates to smooth.")

    def check_experts(self, config: TrainerConfig, sources: Sequence[ExpertSource]) -> None:
        """Raise ValueError if runs were trained on other frames than this clip's, or the Volume
        Router gets an expert that decodes colours per pixel."""
        for source in sources:
            check_source_frames(source, configured_frames(config))
            if self.is_honest:
                check_left_cameras_out(source.runs, self.honest.cameras)
        if isinstance(self.router, VolumeRouterConfig):
            models = [source.model_config() for source in sources if source.runs]
            methods = [method for source in sources for method in source.methods]
            models += [method_config(method).pipeline.model for method in methods]
            refuse_shading([model.expert.setup(scene=ANY_SCENE) for model in models], ONE_SET)

    @property
    def is_honest(self) -> bool:
        """Whether the router learns over experts as they were before their finish."""
        return self.honest.cameras != "none" and self.mixture_run is None

    def sources(self) -> list[ExpertSource]:
        """What --experts names.

        Raises:
            FileNotFoundError: a run does not exist.
            ValueError: nothing is named, or a name is neither a run nor a method.
        """
        if not self.experts:
            raise ValueError(
                "moegs-router expects the trained runs to mix, got none; add "
                "--experts A/config.yml B/config.yml before --data."
            )
        return [expert_source(str(name)) for name in self.experts]

    def prepare(self, config: TrainerConfig) -> None:
        """Train the experts that are named by method, and copy the configs of all into this one."""
        if self.expert_models:
            return
        sources = train_missing_experts(config, self.sources())
        self.stacking, self.router = prepare_stacking(config, sources)
        self.experts = tuple(source.path for source in sources)
        self.expert_models = tuple(source.model_config() for source in sources)
        self.expert_names = unique_names([source.name for source in sources])

    def _embed_mixture(self, path: Path) -> TrainerConfig:
        """Copy what describes a trained mixture into this config; the config of its run."""
        remedy = "train a moegs-router over it first"
        run = run_of(is_mixture, path, "the run of a mixture in --router", remedy)
        self.mixture_run = run.config_path.resolve()
        for name in ("expert_models", "expert_names", "router", "temperature", "gates"):
            setattr(self, name, getattr(run.config.pipeline.model, name))
        return run.config

    def expert_seconds(self) -> float | None:
        """Seconds that the experts were trained for, one after the other; those of the mixture
        that this one was pruned from; None if a record of one is missing."""
        if self.mixture_run is not None:
            return training_record(self.mixture_run).get("expert_seconds")
        runs = [run for path in self.experts for run in split_windows(str(path))]
        seconds = [training_record(run).get("seconds") for run in runs]
        known = [value for value in seconds if value is not None]
        return sum(known) if known and len(known) == len(seconds) else None


class MixtureModel(GaussianModel):
    """Renders a mixture and trains its router."""

    config: MixtureModelConfig
    mixture: Mixture
    recipe: RouterRecipe
    constant_weights: Float[Tensor, "E"] | None = None
    """Of the best blend with constant weights; None until an evaluation begins."""
    stacking_record: dict[str, Any] | None = None
    """How gates were corrected; None until then."""
    shows_experts_alone: bool = True
    """Whether each expert's own image is among the outputs."""

    def populate_modules(self) -> None:
        """Build experts without Gaussians; weights come from their runs or from a checkpoint."""
        scene = scene_of(self.kwargs)
        experts = [config.expert.setup(scene=scene) for config in self.config.expert_models]
        self.mixture = self._mixture(experts, scene)
        models = self.config.expert_models
        learned = [Learned(m.camera_optimizer, m.color_correction, m.time_offsets) for m in models]
        self.corrections = ExpertCorrections(learned, scene)
        seed = run_seed()
        self.recipe = self.config.recipe.setup(seed=seed)
        self.responsibilities = StoredResponsibilities()
        self.pruning: PruningSchedule | None = None
        if self.config.prune.is_asked:
            self.pruning = PruningSchedule(self.config.prune, budget=self.config.budget, seed=seed)

    def _mixture(self, experts: list[Expert], scene: SceneInfo) -> Mixture:
        if not experts:
            raise ValueError("A mixture expects at least one expert, got none; name --experts.")
        counts = [expert.num_gaussians for expert in experts]
        router = self.config.router.setup(scene=scene, counts=counts)
        return mixture_of(experts, router, self.config.temperature, self.config.gates)

    def begin_training(self) -> None:
        """Take the weights of the experts from their runs.

        Runs that are gone are skipped: a resumed run has the weights in its own checkpoint.

        Raises:
            ValueError: an expert was trained on another scene or time range.
        """
        if self.config.mixture_run is not None:
            load_mixture(self.mixture, self.corrections, self.config.mixture_run)
            return
        experts, paths = self.mixture.experts, self.config.experts
        if not load_experts(experts, self.corrections, paths, before_finish=self.config.is_honest):
            return
        # Built again, as the router has weights for each Gaussian, whose number is known only now.
        self.mixture = self._mixture(experts, scene_of(self.kwargs))

    def training_record(self, earlier: dict[str, Any]) -> dict[str, Any]:
        """Seconds of the experts, also if their runs are gone by now."""
        seconds = self.config.expert_seconds()
        return {
            "expert_seconds": earlier.get("expert_seconds") if seconds is None else seconds,
            "honest_gates": self.config.is_honest,
            "stacking": self.stacking_record or earlier.get("stacking"),
        }

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        """Prunes before the steps at which the schedule asks for it, finishes the experts, and
        corrects the gates after the last step."""
        self.responsibilities.values = []  # They are those of the gates as they were before.
        attributes, schedule = training_callback_attributes, self.pruning
        assert attributes.optimizers is not None and attributes.pipeline is not None
        optimizers = attributes.optimizers.optimizers
        datamanager: Any = attributes.pipeline.datamanager
        config, images = self.config, datamanager.train_dataset
        trainer = cast(Any, attributes.trainer)
        if config.stacking.run is not None:
            check_copies(self, datamanager)

        def prune_if_due(step: int) -> None:
            if schedule is not None and schedule.is_due(step):
                self.mixture = schedule.run_round(
                    self.mixture, images.cameras, optimizers, self.corrections.views
                )
                CONSOLE.print(schedule.describe(config.expert_names))

        def finish_if_due(step: int) -> None:
            if config.is_honest and config.honest.finishes_after(step, trainer.total_steps):
                finish_experts(self.mixture.experts, config.experts)
            if config.stacking.run is not None and step == trainer.total_steps - 1:
                self.stacking_record = correct_gates(self, datamanager)

        return around_steps(prune_if_due, finish_if_due)

    def get_param_groups(self) -> dict[str, list[Parameter]]:
        """The router's groups; the experts are frozen and in none."""
        return self.mixture.router.parameter_groups()

    def training_outputs(self, view: View) -> dict[str, Any]:
        """The mixture's image of a training view, and the gates that the recipe looks at."""
        view = view.to(self.device)
        render = self._recorded(view)
        return {"rgb": render.rgb[None], "gates": [render.gates, *self.gates_apart(view)]}

    def gates_apart(self, view: View) -> list[Float[Tensor, "E H W 1"]]:
        """The gates one frame apart, if the recipe looks at their change."""
        if self.config.recipe.weight_gate_change == 0.0:
            return []
        num_frames = scene_of(self.kwargs).num_frames
        if num_frames == 1:
            return []
        other = one_frame_apart(view, num_frames)
        # Not graphed: a replay would overwrite what the backward pass of the first render reads.
        own_views = self.corrections.views(other)
        camera = view.training_camera
        gaussians = self.mixture.gaussians(other.time, camera=camera, own_views=own_views)
        return [self.mixture.render(other, own_views=own_views, gaussians=gaussians).gates]

    @torch.no_grad()
    def begin_evaluation(self, images: Iterable[tuple[View, Float[Tensor, "H W 3"]]]) -> None:
        """See base; fits the constant weights that the mixture is compared with."""
        renders = ((self._render_training(view), view, target) for view, target in images)
        self.constant_weights = fit_constant_weights(
            (self.corrections.recorded(render.images, view), target)
            for render, view, target in renders
        )

    def view_outputs(self, view: View, crop: Crop | None = None) -> dict[str, Tensor]:
        """Named images of one camera."""
        gaussians = backgrounds = None
        if crop is not None:
            gaussians = self.mixture.gaussians(view.time, crop.box)
            if crop.background is not None:
                backgrounds = [crop.background] * len(gaussians)
        render = self.mixture.render(view, gaussians=gaussians, backgrounds=backgrounds)
        outputs = self._named(render)
        if self.responsibilities.values and crop is None:
            outputs[FUSED] = fused_image(self.mixture, self.responsibilities.values, view)
        return outputs

    def recorded_outputs(self, view: View) -> dict[str, Tensor]:
        """Named images of a training camera, the mixture's as that camera would record it."""
        return self._named(self._recorded(view))

    def _recorded(self, view: View) -> MixtureRender:
        """The mixture with a training camera's time, pose and colours."""
        render = self._render_training(view)
        if not self.corrections.is_on:
            return render
        return replace(render, rgb=self.corrections.recolored(render, view))

    def _render_training(self, view: View) -> MixtureRender:
        """The mixture with a training camera's time and pose, in the experts' own colours."""
        own_views = self.corrections.views(view) if self.corrections.is_on else None
        return self.mixture.render(view, camera=view.training_camera, own_views=own_views)

    def _named(self, render: MixtureRender) -> dict[str, Tensor]:
        names, alone = self.config.expert_names, self.shows_experts_alone
        return named_images(render, names, experts_alone=alone)

    def get_metrics_dict(self, outputs: dict[str, Any], batch: dict[str, Any]) -> dict[str, Any]:
        target, mask = target_image(batch, self.device), mask_of(batch, self.device)
        return {"psnr": scalar_psnr(outputs["rgb"], target, mask)}

    def get_loss_dict(
        self,
        outputs: dict[str, Any],
        batch: dict[str, Any],
        metrics_dict: dict[str, Any] | None = None,
    ) -> dict[str, Tensor]:
        """Losses of the recipe; of an evaluation image the plain L1."""
        target, mask = target_image(batch, self.device), mask_of(batch, self.device)
        if not self.training:
            return {"l1": mean_absolute_error(outputs["rgb"], target, mask)}
        rgb, target = (masked(image, mask)[0] for image in (outputs["rgb"], target))
        return self.recipe.loss_terms(rgb, target, outputs["gates"])

    def get_image_metrics_and_images(
        self, outputs: dict[str, Tensor], batch: dict[str, Any]
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Quality of the mixture, of each expert and of blends and bounds to compare with, mean
        gates, and images of all."""
        metrics, images = mixture_metrics(
            outputs, batch, self.config.expert_names, self.constant_weights
        )
        return metrics | {"gaussian_count": float(self.mixture.num_gaussians)}, images

    def size_report(self) -> str:
        return (
            f"{self.mixture.num_gaussians:,} Gaussians in {len(self.mixture.experts)} experts; "
            "mix fewer experts, or experts trained with a lower "
            "--pipeline.model.recipe.densification.max-gaussians"
        )
