"""The nerfstudio model of a mixture: frozen experts and the router that is trained."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.models.base_model import Model, ModelConfig
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor
from torch.nn import Parameter

from moegs_ns.cameras import View, view_from_cameras
from moegs_ns.experts.base import Expert
from moegs_ns.fields import VolumeAwarePixelRouterConfig
from moegs_ns.mixture import Mixture, MixtureRender
from moegs_ns.models.checkpoints import open_run, stored_scene, without_prefix
from moegs_ns.models.evaluation import image_metrics, scalar_psnr, target_image
from moegs_ns.models.expert_model import ExpertModelConfig, scene_of
from moegs_ns.recipes.router import RouterRecipe, RouterRecipeConfig
from moegs_ns.scene import SceneInfo

EXPERT_COLORS = (
    (0.12, 0.47, 0.71), (1.0, 0.5, 0.05), (0.17, 0.63, 0.17), (0.84, 0.15, 0.16),
    (0.58, 0.4, 0.74), (0.55, 0.34, 0.29), (0.89, 0.47, 0.76), (0.5, 0.5, 0.5),
)  # fmt: skip
"""Colours of the map of winning experts, in the order of the experts."""
SCENE_TOLERANCE = 1e-3
"""Largest difference, in units of the scene's extent, between two descriptions of one scene."""


@dataclass
class RouterModelConfig(ModelConfig):
    """A mixture of trained experts."""

    _target: type = field(default_factory=lambda: RouterModel)
    experts: Annotated[tuple[Path, ...], tyro.conf.arg(aliases=["--experts"])] = ()
    """Trained runs to mix: the config.yml (or folder) of each, separated by spaces. Put another
    option between this list and the name of the dataparser, as in
    `--experts A/config.yml B/config.yml --data D n3v-data`."""
    budget: Annotated[float, tyro.conf.arg(aliases=["--budget"])] = 1.0
    """Share of the steps to train for; scales every schedule."""
    temperature: float = 1.0
    """Divides the logits of the gates, in training and in every use."""
    router: VolumeAwarePixelRouterConfig = field(default_factory=VolumeAwarePixelRouterConfig)
    """Shape of the router."""
    recipe: RouterRecipeConfig = field(default_factory=RouterRecipeConfig)
    """How the router is trained."""
    expert_models: tyro.conf.Suppress[tuple[ExpertModelConfig, ...]] = ()
    """The experts' own configurations, copied in when the run starts so that it needs no other."""
    expert_names: tyro.conf.Suppress[tuple[str, ...]] = ()
    """Short names of the experts, which name the outputs."""

    def embed_experts(self) -> None:
        """Copy the experts' configurations into this one; does nothing the second time.

        Raises:
            FileNotFoundError: a run does not exist.
            ValueError: none were named, or one is not that of a single expert.
        """
        if self.expert_models:
            return
        if not self.experts:
            raise ValueError(
                "moegs-router expects the trained runs to mix, got none; add "
                "--experts A/config.yml B/config.yml before --data."
            )
        runs = [open_run(path) for path in self.experts]
        for run in runs:
            if not isinstance(run.config.pipeline.model, ExpertModelConfig):
                raise ValueError(
                    f"Expected runs of single experts in --experts, but {run.config_path} is a "
                    f"run of '{run.config.method_name}'; name runs of moegs-stg, "
                    "moegs-4dgaussians or another expert."
                )
        self.experts = tuple(run.config_path.resolve() for run in runs)
        self.expert_models = tuple(run.config.pipeline.model for run in runs)
        self.expert_names = unique_names([run.config.method_name for run in runs])


def unique_names(methods: list[str]) -> tuple[str, ...]:
    """Method names without the common prefix; repeated ones are numbered."""
    short = [method.removeprefix("moegs-").replace("-", "_") for method in methods]
    names = []
    for place, name in enumerate(short):
        number = short[: place + 1].count(name)
        names.append(name if number == 1 else f"{name}_{number}")
    return tuple(names)


class RouterModel(Model):
    """Renders a mixture and trains its router."""

    config: RouterModelConfig
    mixture: Mixture
    recipe: RouterRecipe

    def populate_modules(self) -> None:
        """Build experts without Gaussians; weights come from their runs or from a checkpoint."""
        scene = scene_of(self.kwargs)
        experts = [config.expert.setup(scene=scene) for config in self.config.expert_models]
        self.mixture = self._mixture(experts, scene)
        # nerfstudio seeds torch with --machine.seed before anything is built.
        self.recipe = self.config.recipe.setup(seed=torch.initial_seed() % 2**31)

    def _mixture(self, experts: list[Expert], scene: SceneInfo) -> Mixture:
        if not experts:
            raise ValueError("A mixture expects at least one expert, got none; name --experts.")
        counts = [expert.num_gaussians for expert in experts]
        router = self.config.router.setup(scene=scene, counts=counts)
        return Mixture(experts, router, self.config.temperature)

    def load_experts(self) -> None:
        """Take the weights of the experts from their runs, before training.

        Runs that are gone are skipped: a resumed run has the weights in its own checkpoint.

        Raises:
            ValueError: an expert was trained on another scene or time range.
        """
        scene = scene_of(self.kwargs)
        experts = self.mixture.experts
        for expert, path in zip(experts, self.config.experts, strict=True):
            if not path.exists():
                CONSOLE.print(f"The expert run {path} is gone; using this run's own checkpoint.")
                return
            state = without_prefix(open_run(path).model_state(), "expert.")
            check_same_scene(stored_scene(state), scene, path)
            expert.load_state_dict(state)
        self.mixture = self._mixture(experts, scene)

    def get_param_groups(self) -> dict[str, list[Parameter]]:
        """The router's groups; the experts are frozen and in none."""
        return self.mixture.router.parameter_groups()

    def get_outputs(self, ray_bundle: Cameras) -> dict[str, Any]:  # type: ignore[override]
        """The mixture's image when training, every named image of one camera otherwise."""
        view = view_from_cameras(ray_bundle).to(self.device)
        if not self.training:
            return self.view_outputs(view)
        return {"rgb": self.mixture(view).rgb[None]}

    def view_outputs(self, view: View, box: OrientedBox | None = None) -> dict[str, Tensor]:
        """Named images of one camera; the only place where they are named."""
        render = self.mixture(view, box)
        outputs = {
            "rgb": render.rgb,
            "depth": render.depth,
            "accumulation": render.accumulation,
            "winner": winner_map(render),
        }
        for k, name in enumerate(self.config.expert_names):
            outputs[f"rgb_{name}"] = render.images[k]
            outputs[f"gate_{name}"] = render.gates[k]
        return outputs

    @torch.no_grad()
    def get_outputs_for_camera(
        self, camera: Cameras, obb_box: OrientedBox | None = None
    ) -> dict[str, Tensor]:
        """Outputs of one camera, cropped to a box at the camera's time."""
        return self.view_outputs(view_from_cameras(camera).to(self.device), obb_box)

    def get_metrics_dict(self, outputs: dict[str, Any], batch: dict[str, Any]) -> dict[str, Any]:
        """Figures for the log of the training."""
        return {"psnr": scalar_psnr(outputs["rgb"], target_image(batch, self.device))}

    def get_loss_dict(
        self,
        outputs: dict[str, Any],
        batch: dict[str, Any],
        metrics_dict: dict[str, Any] | None = None,
    ) -> dict[str, Tensor]:
        """Losses of the recipe; of an evaluation image the plain L1."""
        target = target_image(batch, self.device)
        if not self.training:
            return {"l1": (outputs["rgb"] - target).abs().mean()}
        return self.recipe.loss_terms(outputs["rgb"][0], target[0])

    def get_image_metrics_and_images(
        self, outputs: dict[str, Tensor], batch: dict[str, Any]
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Quality of the mixture and of each expert, their mean gates, and pictures of all.

        `psnr_oracle` takes the best expert at every pixel: no gate can choose better, though a
        blend can.
        """
        metrics, target = image_metrics(outputs["rgb"], batch)
        metrics["gaussian_count"] = float(self.mixture.num_gaussians)
        images = {"img": torch.cat([target, outputs["rgb"].clamp(0, 1)], dim=1)}
        errors = []
        for name in self.config.expert_names:
            own, _ = image_metrics(outputs[f"rgb_{name}"], batch)
            metrics |= {f"{key}_{name}": value for key, value in own.items()}
            metrics[f"gate_{name}"] = float(outputs[f"gate_{name}"].mean())
            images[f"expert_{name}"] = outputs[f"rgb_{name}"].clamp(0, 1)
            images[f"gate_{name}"] = outputs[f"gate_{name}"].expand(-1, -1, 3)
            errors.append((outputs[f"rgb_{name}"].clamp(0, 1) - target).square().sum(-1))
        best = torch.stack(errors).amin(0).mean() / 3.0
        metrics["psnr_oracle"] = float(-10.0 * torch.log10(best))
        return metrics, images

    def size_report(self) -> str:
        """How many Gaussians there are and which option bounds them."""
        return (
            f"{self.mixture.num_gaussians:,} Gaussians in {len(self.mixture.experts)} experts; "
            "mix fewer experts, or experts trained with a lower "
            "--pipeline.model.recipe.densification.max-gaussians"
        )


def winner_map(render: MixtureRender) -> Float[Tensor, "H W 3"]:
    """The colour of the expert with the largest gate at each pixel."""
    colors = torch.tensor(EXPERT_COLORS, device=render.gates.device)
    return colors[render.gates[..., 0].argmax(0) % len(colors)]


def check_same_scene(stored: dict[str, Tensor], scene: SceneInfo, path: Path) -> None:
    """Raise ValueError unless an expert was trained on this scene and these frames."""
    num_frames = int(stored["num_frames"])
    if num_frames != scene.num_frames:
        raise ValueError(
            f"Expected experts of this clip of {scene.num_frames} frames, but {path} was trained "
            f"on {num_frames}; train all experts and the router on the same frames."
        )
    center = torch.tensor(scene.center)
    moved = float((stored["scene_center"] - center).norm())
    grown = abs(float(stored["scene_extent"]) - scene.extent)
    if max(moved, grown) > SCENE_TOLERANCE * scene.extent:
        raise ValueError(
            f"Expected experts of this scene (cameras within {scene.extent:.4g} of their middle), "
            f"but {path} was trained on another (within {float(stored['scene_extent']):.4g}, "
            f"{moved:.4g} away); use the same data and training cameras for all."
        )
