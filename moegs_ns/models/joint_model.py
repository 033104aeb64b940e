"""The nerfstudio model of a mixture whose experts are trained together with its router."""

from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes
from nerfstudio.engine.trainer import TrainerConfig
from torch import Tensor
from torch.nn import Parameter

from moegs_ns.cameras import View
from moegs_ns.launch.plan import parse
from moegs_ns.mixture.joint.recipe import JointRecipe, prefix
from moegs_ns.mixture.pruning_schedule import PruneConfig
from moegs_ns.models.base import (
    GaussianModel,
    GaussianModelConfig,
    around_steps,
    initial_points,
    scene_of,
)
from moegs_ns.models.camera_corrections import UNCORRECTED, ExpertCorrections
from moegs_ns.models.expert_model import ExpertModelConfig
from moegs_ns.models.expert_sources import (
    expert_source,
    method_config,
    options_by_method,
    unique_names,
)
from moegs_ns.models.mixture_model import MixtureModel, MixtureModelConfig
from moegs_ns.models.resume import LONGEST, resume_mixture
from moegs_ns.models.stacking import StackingConfig
from moegs_ns.routers import VolumeRouterConfig
from moegs_ns.runs.stored_responsibilities import StoredResponsibilities
from moegs_ns.seeds import run_seed
from moegs_ns.training.honest import HonestGatesConfig
from moegs_ns.training.losses import TrainingRender, mask_of, masked, target_image


@dataclass
class JointModelConfig(MixtureModelConfig):
    """A mixture of experts that are trained together with the router (MoE-GS, appendix B.1)."""

    _target: type = field(default_factory=lambda: JointModel)
    experts: Annotated[tuple[Path, ...], tyro.conf.arg(aliases=["--experts"])] = ()
    """Names of the methods to train together, separated by spaces, such as stg or 4dgaussians. The
    training takes the steps of the longest one, or --max-num-iterations if that is not 0. Put
    another option between this list and the name of the dataparser, as in
    `--experts stg 4dgaussians --data D n3v-data`."""
    expert_options: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--expert-options"])] = ()
    """Options of the models and optimisers of single experts, each 'NAME: options' as on the
    command line, for example 'stg: --pipeline.model.recipe.densification.max-gaussians 50000'."""
    expert_budget: tyro.conf.Suppress[float] = 1.0
    """Unused, since all share one budget."""
    mixture_run: tyro.conf.Suppress[Path | None] = None
    """Unused: a finished run is pruned by `moegs-router --router`."""
    prune: tyro.conf.Suppress[PruneConfig] = field(default=PruneConfig())
    """Unused likewise."""
    honest: tyro.conf.Suppress[HonestGatesConfig] = field(default=HonestGatesConfig())
    """Unused, since experts and router see the same images."""
    stacking: tyro.conf.Suppress[StackingConfig] = field(default=StackingConfig("none"))
    """Unused: copies are made of trained experts."""

    def check(self, config: TrainerConfig) -> None:
        """Check the options, and copy in what decides the training of the experts: their models,
        their optimisers under names of their own, and the number of steps unless one is given."""
        GaussianModelConfig.check(self, config)
        earlier = resume_mixture(config, JointModelConfig, "a joint training")
        if earlier is not None:
            self.expert_options = earlier.pipeline.model.expert_options
            config.optimizers = earlier.optimizers | config.optimizers
            if config.max_num_iterations == LONGEST:
                config.max_num_iterations = earlier.max_num_iterations
        self.check_options(config)
        if self.expert_models:
            return
        if isinstance(self.router, VolumeRouterConfig):
            raise ValueError(
                "Joint training expects a router that blends the experts' images, but the Volume "
                "Router renders all Gaussians as one set; train it over trained experts "
                "(moegs-volume-router)."
            )
        methods = self.method_configs()
        self.expert_names = unique_names([method.method_name for method in methods])
        self.expert_models = tuple(method.pipeline.model for method in methods)
        for name, method in zip(self.expert_names, methods, strict=True):
            check_trains_jointly(name, method.pipeline.model)
            own = {prefix(name) + group: value for group, value in method.optimizers.items()}
            config.optimizers = config.optimizers | own
        if config.max_num_iterations == LONGEST:
            config.max_num_iterations = max(method.max_num_iterations for method in methods)

    def method_configs(self) -> list[Any]:
        """The configurations of the methods to train together, with the options of each.

        Raises:
            ValueError: there are none, a name is no method, or options are for no expert.
        """
        if not self.experts:
            raise ValueError(
                "moegs-joint expects the methods to train together, got none; add --experts stg "
                "4dgaussians before --data."
            )
        sources = [expert_source(str(name)) for name in self.experts]
        methods = [source.method for source in sources]
        windows = next((source.method for source in sources if len(source.methods) > 1), None)
        if windows is not None:
            raise ValueError(
                f"moegs-joint expects one method for each expert, got the windows {windows}; train "
                "them by themselves, with moegs-router."
            )
        if "" in methods:
            raise ValueError(
                "moegs-joint expects methods to train together in --experts, but "
                f"{self.experts[methods.index('')]} is a trained run; name its method, or mix "
                "trained runs with moegs-router."
            )
        own = options_by_method(self.expert_options, [str(name) for name in self.experts])
        return [
            parse([method, *own[method]]) if method in own else deepcopy(method_config(method))
            for method in methods
        ]


def check_trains_jointly(name: str, model: ExpertModelConfig) -> None:
    """Raise ValueError if an expert asks for what only a training of its own gives."""
    has_corrections = (
        model.camera_optimizer.mode != "off" or model.color_correction or model.time_offsets
    )
    wishes = {
        "corrections of cameras": has_corrections,
        "a teacher": model.distillation.teacher is not None,
        "honest cameras": model.honest.cameras != "none",
    }
    asked = next((wish for wish, is_asked in wishes.items() if is_asked), None)
    if asked is not None:
        raise ValueError(
            f"Joint training expects experts that are trained on the images as they are, but "
            f"{name} asks for {asked}; switch that off, or train the expert alone and mix it with "
            "moegs-router."
        )


class JointModel(MixtureModel):
    """Trains experts and router together; in every other use it is the mixture that they make."""

    config: JointModelConfig
    recipe: JointRecipe

    def populate_modules(self) -> None:
        """Build the experts from the scene and its initial points, and the router over them."""
        scene, points = scene_of(self.kwargs), initial_points(self.kwargs)
        configs = self.config.expert_models
        experts = [config.expert.setup(scene=scene, points=points) for config in configs]
        self.mixture = self._mixture(experts, scene)
        self.mixture.thaw()
        self.corrections = ExpertCorrections([UNCORRECTED] * len(experts), scene)
        seed = run_seed()
        recipes = [
            # Experts of one method would stay alike with one seed.
            config.recipe.setup(expert=expert, budget=self.config.budget, seed=seed + index)
            for index, (config, expert) in enumerate(zip(configs, experts, strict=True))
        ]
        named = dict(zip(self.config.expert_names, recipes, strict=True))
        self.recipe = JointRecipe(self.config.recipe.setup(seed=seed), named, self.mixture)
        self.responsibilities = StoredResponsibilities()
        self.pruning = None
        self.step = 0
        self._parts: list[TrainingRender] = []

    def begin_training(self) -> None:
        """Load nothing: the experts begin from the initial points."""

    def training_record(self, earlier: dict[str, Any]) -> dict[str, Any]:
        return GaussianModel.training_record(self, earlier)

    def get_param_groups(self) -> dict[str, list[Parameter]]:
        return self.recipe.parameter_groups()

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        self.responsibilities.values = []  # They are those of the gates as they were before.
        optimizers = training_callback_attributes.optimizers
        assert optimizers is not None
        self.recipe.attach(optimizers.optimizers, optimizers.schedulers)
        return around_steps(self.before_step, self.after_step)

    def before_step(self, step: int) -> None:
        """Bring the experts into their states at `step`."""
        self.step = step
        self.recipe.before_step(step)

    def after_step(self, step: int) -> None:
        """Let the recipes collect statistics and change the sets of Gaussians."""
        self.recipe.after_step(step, self._parts)
        self._parts = []

    def training_outputs(self, view: View) -> dict[str, Any]:
        """See base; also what every expert rendered, whose targets the batch will bring."""
        view = view.to(self.device)
        # Let every recipe add its probes between projection and rasterisation.
        sets = self.mixture.project(view, camera=view.training_camera)
        pairs = zip(self.recipe.experts.values(), sets, strict=True)
        projected = [recipe.to_rasterize(one) for recipe, one in pairs]
        backgrounds = self.recipe.backgrounds(self.step)
        render = self.mixture.render(view, projected=projected, backgrounds=backgrounds)
        # Keep the screen gradients of every expert, by which it is densified.
        parts = [
            (render.rendered[k], view, render.images[k : k + 1]) for k in range(len(projected))
        ]
        for output, _, _ in parts:
            output.retain_screen_gradients()
        gates = [render.gates, *self.gates_apart(view)]
        return {"rgb": render.rgb[None], "gates": gates, "parts": parts}

    def get_metrics_dict(self, outputs: dict[str, Any], batch: dict[str, Any]) -> dict[str, Any]:
        """See base; also the size of every expert and its mean gate."""
        metrics = super().get_metrics_dict(outputs, batch)
        if "parts" not in outputs:
            return metrics
        gates = outputs["gates"][0].detach().mean(dim=(1, 2, 3))
        for k, name in enumerate(self.config.expert_names):
            metrics[f"gate_{name}"] = gates[k]
            metrics[f"gaussian_count_{name}"] = self.mixture.experts[k].num_gaussians
        return metrics

    def get_loss_dict(
        self,
        outputs: dict[str, Any],
        batch: dict[str, Any],
        metrics_dict: dict[str, Any] | None = None,
    ) -> dict[str, Tensor]:
        """See base; also the experts' own terms."""
        if "parts" not in outputs:
            return super().get_loss_dict(outputs, batch, metrics_dict)
        mask = mask_of(batch, self.device)
        target = masked(target_image(batch, self.device), mask)
        self._parts = [
            TrainingRender(output, view, masked(image, mask), target, batch["image_idx"], mask)
            for output, view, image in outputs["parts"]
        ]
        image, gates = masked(outputs["rgb"], mask)[0], outputs["gates"]
        return self.recipe.loss_terms(self.step, self._parts, image, gates)

    def size_report(self) -> str:
        return (
            f"{self.mixture.num_gaussians:,} Gaussians in {len(self.mixture.experts)} experts; "
            "train fewer experts together, or lower their caps (--expert-options 'NAME: "
            "--pipeline.model.recipe.densification.max-gaussians COUNT')"
        )
