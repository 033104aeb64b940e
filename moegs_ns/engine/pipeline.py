"""nerfstudio's pipeline with our samplers, figures when they are logged, and strict loading."""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from nerfstudio.pipelines.base_pipeline import VanillaPipeline, VanillaPipelineConfig
from torch import Tensor

from moegs_ns.data.datamanager import MoegsDataManager, MoegsDataManagerConfig
from moegs_ns.engine.viewer import RenderThreads, TrainingCameras
from moegs_ns.models.base import GaussianModelConfig
from moegs_ns.models.expert_model import ExpertModel
from moegs_ns.models.mixture_model import MixtureModel
from moegs_ns.runs.checkpoint import Run, load_checkpoint, model_state
from moegs_ns.runs.compact import RECIPE, is_compact


@dataclass
class MoegsPipelineConfig(VanillaPipelineConfig):
    """Datamanager and model."""

    _target: type = field(default_factory=lambda: MoegsPipeline)
    datamanager: MoegsDataManagerConfig = field(default_factory=MoegsDataManagerConfig)
    """Where training images come from."""
    model: GaussianModelConfig = field(default_factory=GaussianModelConfig)
    """What is trained."""


class MoegsPipeline(VanillaPipeline):
    """Lets the recipe choose the training images; loads checkpoints completely or not at all."""

    datamanager: MoegsDataManager
    steps_per_log: int = 1
    """Steps between two computations of the figures that are logged."""

    @property
    def model(self) -> ExpertModel | MixtureModel:
        """The model that is trained."""
        model = self._model
        assert isinstance(model, ExpertModel | MixtureModel), type(model)
        return model

    def __init__(
        self,
        config: MoegsPipelineConfig,
        device: str,
        test_mode: Literal["test", "val", "inference"] = "val",
        **kwargs: Any,
    ) -> None:
        super().__init__(config, device, test_mode, **kwargs)
        # nerfstudio's viewer finds its controls among the pipeline's attributes.
        self.training_cameras = TrainingCameras(self.datamanager.train_dataset.cameras)
        self.render_threads = RenderThreads()
        if test_mode == "val":  # nerfstudio's name for training
            self.datamanager.sampler = self.model.recipe.make_sampler(self.datamanager.frame_table)
            self.model.begin_training()
            self.model.to(device)

    def train(self, mode: bool = True) -> "MoegsPipeline":
        """Skip the recursive `train()` when the mode is unchanged: nerfstudio asks every step."""
        return self if self.training == mode == self.model.training else super().train(mode)

    def get_train_loss_dict(
        self, step: int
    ) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Any]]:
        """Outputs, losses and, where somebody looks at them, figures of a step."""
        view, batch = self.datamanager.next_train_view(step)
        outputs = self.model.training_outputs(view)
        is_logged = step % self.steps_per_log == 0
        metrics = self.model.get_metrics_dict(outputs, batch) if is_logged else {}
        return outputs, self.model.get_loss_dict(outputs, batch, metrics), metrics

    def load_pipeline(self, loaded_state: dict[str, Any], step: int) -> None:
        """Load the model's state; all names and shapes but the number of Gaussians must match."""
        self.model.update_to_step(step)
        state = model_state(loaded_state)
        if is_compact(loaded_state):
            state |= self.model.recipe.state_dict(prefix=RECIPE)
        try:
            self.model.load_state_dict(state, strict=True)
        except RuntimeError as error:
            raise ValueError(
                "The checkpoint does not fit the method, its options or the data set's frames; "
                f"open it with the run's own config.yml and data. ({error})"
            ) from error


def load_pipeline(run: Run, test_mode: str = "test") -> MoegsPipeline:
    """The run's pipeline with its trained weights, on the GPU if there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipeline = run.config.pipeline.setup(device=device, test_mode=test_mode)
    pipeline.eval()
    pipeline.load_pipeline(load_checkpoint(run.checkpoint_path)["pipeline"], step=0)
    return pipeline
