"""The nerfstudio model of a mixture whose experts are trained together with its router."""

from typing import Any

from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes
from torch import Tensor
from torch.nn import Parameter

from moegs_ns.cameras import View
from moegs_ns.mixture.joint.recipe import JointRecipe
from moegs_ns.models.base import GaussianModel, around_steps, initial_points, scene_of
from moegs_ns.models.camera_corrections import UNCORRECTED, ExpertCorrections
from moegs_ns.models.joint_config import JointModelConfig
from moegs_ns.models.mixture_model import MixtureModel
from moegs_ns.runs.stored_responsibilities import StoredResponsibilities
from moegs_ns.seeds import run_seed
from moegs_ns.training.losses import TrainingRender, target_image


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
        self.shares = StoredResponsibilities()
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
        self.shares.values = []  # They are those of the gates as they were before.
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
        projected = [
            recipe.to_rasterize(one)
            for recipe, one in zip(
                self.recipe.experts.values(),
                self.mixture.project(view, camera=view.training_camera),
                strict=True,
            )
        ]
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
        target = target_image(batch, self.device)
        self._parts = [
            TrainingRender(output, view, image, target, batch["image_idx"])
            for output, view, image in outputs["parts"]
        ]
        image, gates = outputs["rgb"][0], outputs["gates"]
        return self.recipe.loss_terms(self.step, self._parts, image, gates)

    def size_report(self) -> str:
        return (
            f"{self.mixture.num_gaussians:,} Gaussians in {len(self.mixture.experts)} experts; "
            "train fewer experts together, or lower their caps (--expert-options 'NAME: "
            "--pipeline.model.recipe.densification.max-gaussians COUNT')"
        )
