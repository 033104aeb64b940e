"""Runs of consecutive windows of a clip, opened as the one expert that they make."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, fields
from typing import Any

import torch

from moegs_ns.engine.trainer import MoegsPipeline
from moegs_ns.models.base import scene_of
from moegs_ns.models.camera_corrections import UNCORRECTED, CameraCorrections
from moegs_ns.models.expert_loading import load_expert
from moegs_ns.models.expert_model import ExpertModel, ExpertModelConfig
from moegs_ns.models.expert_sources import JOINT, ExpertSource, trained_frames
from moegs_ns.runs.checkpoint import Run


@dataclass
class JoinedModelConfig(ExpertModelConfig):
    """An expert made of windows, which are trained already."""

    _target: type = field(default_factory=lambda: JoinedModel)


class JoinedModel(ExpertModel):
    """Renders an expert that has no recipe, since its windows had one each.

    Held-out views are never corrected, so that what windows learned of cameras is left out.
    """

    config: JoinedModelConfig

    def populate_modules(self) -> None:
        """Build the expert without Gaussians; see `load_windows`."""
        scene = scene_of(self.kwargs)
        self.expert = self.config.expert.setup(scene=scene)
        self.corrections = CameraCorrections(UNCORRECTED.poses, UNCORRECTED.has_colors, scene)
        self.step = 0


def joined_run(runs: Sequence[Run]) -> Run:
    """What the runs of windows, in order of time, are as one: a run whose path is no file's.

    Raises:
        ValueError: they cannot be one expert, or hold out different cameras.
    """
    held_out = {tuple(run.config.pipeline.datamanager.val_cameras): run for run in runs}
    if len(held_out) > 1:
        named = "; ".join(
            f"{run.config_path}: {' '.join(map(str, cameras)) or 'none'}"
            for cameras, run in held_out.items()
        )
        raise ValueError(
            "Expected windows of one expert with the same --val-cameras, since one of them would "
            f"be scored on images that another was trained on, got {named}; train them alike."
        )
    source = ExpertSource(tuple(runs))
    config = deepcopy(runs[0].config)
    config.method_name = JOINT.join(run.config.method_name for run in runs)
    config.pipeline.model = joined_model(source.model_config())
    clip = (trained_frames(runs[0])[0], trained_frames(runs[-1])[1])
    config.pipeline.datamanager.dataparser.frames = clip
    recipes = {getattr(run.config, "recipe", "defaults") for run in runs}
    config.recipe = recipes.pop() if len(recipes) == 1 else "defaults"
    return Run(source.path, config, runs[0].checkpoint_path)


def joined_model(model: ExpertModelConfig) -> JoinedModelConfig:
    """The configuration of the model that shows an expert made of windows."""
    own: dict[str, Any] = {one.name: getattr(model, one.name) for one in fields(ExpertModelConfig)}
    own["_target"] = JoinedModel
    return JoinedModelConfig(**own)


def load_windows(joined: Run, runs: Sequence[Run]) -> MoegsPipeline:
    """The pipeline of `joined_run(runs)` with the weights of all windows, on the GPU if there is
    one.

    Raises:
        ValueError: windows are of different scenes or cameras.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipeline: Any = joined.config.pipeline.setup(device=device, test_mode="test")
    pipeline.eval()
    load_expert(pipeline.model.expert, runs, [run.model_state() for run in runs])
    pipeline.model.to(device)
    return pipeline
