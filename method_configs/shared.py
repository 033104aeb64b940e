"""What the methods' configurations have in common."""

from typing import Any

from nerfstudio.configs.base_config import LoggingConfig, ViewerConfig
from nerfstudio.data.dataparsers.dnerf_dataparser import DNeRFDataParserConfig
from nerfstudio.engine.optimizers import AdamOptimizerConfig, RAdamOptimizerConfig
from nerfstudio.plugins.types import MethodSpecification

from moegs_ns.data.datamanager import MoegsDataManagerConfig
from moegs_ns.data.dataparsers.n3v import N3VDataParserConfig
from moegs_ns.data.dataparsers.technicolor import TechnicolorDataParserConfig
from moegs_ns.engine.trainer import MoegsPipelineConfig, MoegsTrainerConfig
from moegs_ns.experts.base import ExpertConfig
from moegs_ns.experts.recipe import RecipeConfig
from moegs_ns.launch.nerfstudio_commands import LOCAL_HOST, prepare_nerfstudio_commands
from moegs_ns.models.base import GaussianModelConfig
from moegs_ns.models.expert_model import ExpertModelConfig
from moegs_ns.training.optimizers import FusedAdam, FusedRAdam, LogLinearSchedulerConfig

# Here, since nerfstudio's commands import this file before they read or raise anything.
prepare_nerfstudio_commands()

ADAM_EPS = 1e-15
"""Of the Gaussian splatting literature; gradients of single Gaussians are tiny."""
N3V_PIXELS = 1352 * 1014
"""Of an image of N3V at half its size, for which most thresholds were published."""


def adam(lr: float, schedule: LogLinearSchedulerConfig | None = None) -> dict[str, Any]:
    """One parameter group under Adam."""
    optimizer = AdamOptimizerConfig(_target=FusedAdam, lr=lr, eps=ADAM_EPS)
    return {"optimizer": optimizer, "scheduler": schedule}


def radam(lr: float, schedule: LogLinearSchedulerConfig | None = None) -> dict[str, Any]:
    """One parameter group under RAdam."""
    optimizer = RAdamOptimizerConfig(_target=FusedRAdam, lr=lr)
    return {"optimizer": optimizer, "scheduler": schedule}


def gaussian_optimizers(
    position_schedule: LogLinearSchedulerConfig, scales_lr: float = 5e-3
) -> dict[str, Any]:
    """Groups that every family has; position rates are per unit of the scene's extent."""
    return {
        "means": adam(1.6e-4, position_schedule),
        "quats": adam(1e-3),
        "scales": adam(scales_lr),
        "opacities": adam(0.05),
        "sh0": adam(2.5e-3),
        "shN": adam(2.5e-3 / 20),
        "camera_opt": adam(1e-4, LogLinearSchedulerConfig(final_ratio=0.01, max_steps=30000)),
        "color_correction": adam(1e-3),
        "camera_clock": adam(3e-3),  # Frames.
    }


def expert_method(
    name: str,
    description: str,
    expert: ExpertConfig,
    recipe: RecipeConfig,
    optimizers: dict[str, Any],
    steps: int,
    datamanager: MoegsDataManagerConfig | None = None,
) -> MethodSpecification:
    """A method that trains one expert."""
    model = ExpertModelConfig(expert=expert, recipe=recipe)
    config = trainer_config(name, model, optimizers, steps, datamanager)
    return MethodSpecification(config, description)


def published(method: MethodSpecification) -> MethodSpecification:
    """The method, marked as one that has the numbers published for a data set."""
    config = method.config
    assert isinstance(config, MoegsTrainerConfig), type(config)
    config.recipe = "published"
    return method


def dnerf() -> MoegsDataManagerConfig:
    """D-NeRF's layout; its scenes start from 2000 random points."""
    return MoegsDataManagerConfig(dataparser=DNeRFDataParserConfig(), num_random_points=2000)


def technicolor() -> MoegsDataManagerConfig:
    """Technicolor's layout."""
    return MoegsDataManagerConfig(dataparser=TechnicolorDataParserConfig())


def trainer_config(
    method_name: str,
    model: GaussianModelConfig,
    optimizers: dict[str, Any],
    steps: int,
    datamanager: MoegsDataManagerConfig | None = None,
) -> MoegsTrainerConfig:
    """A method, by default on the N3V layout, with an evaluation image every 1000 steps, or ten
    in a shorter training."""
    return MoegsTrainerConfig(
        method_name=method_name,
        max_num_iterations=steps,
        steps_per_save=5000,
        steps_per_eval_batch=0,
        steps_per_eval_image=1000,
        steps_per_eval_all_images=0,
        mixed_precision=False,
        pipeline=MoegsPipelineConfig(
            datamanager=datamanager or MoegsDataManagerConfig(dataparser=N3VDataParserConfig()),
            model=model,
        ),
        optimizers=optimizers,
        # Logged values are read from the GPU, which synchronises.
        logging=LoggingConfig(steps_per_log=50),
        # Frusta of one physical camera coincide at all frames, so a few images are enough.
        viewer=ViewerConfig(
            websocket_host=LOCAL_HOST, max_num_display_images=32, default_composite_depth=False
        ),
        vis="viewer",
    )
