"""A trained mixture that is opened beside the model that learns from it."""

from typing import Any

import torch
from nerfstudio.data.scene_box import SceneBox
from torch import Tensor

from moegs_ns.runs.checkpoint import Run, check_same_scene, stored_scene, without_prefix
from moegs_ns.runs.compact import RECIPE
from moegs_ns.scene import SceneInfo


def open_mixture(run: Run, scene: SceneInfo, role: str) -> Any:
    """The frozen model of a run with its weights; `role` says what it is for.

    Raises:
        ValueError: it was trained on another scene or time range.
    """
    state = run.model_state()
    check_scene_of_state(state, scene, run, role)
    # Building modules draws random numbers that are the training's.
    with torch.random.fork_rng(devices=[]):
        model = run.config.pipeline.model.setup(
            scene_box=SceneBox(torch.zeros(2, 3)), num_train_data=0, metadata={"scene": scene}
        )
    # A compact run has no state of the training, which is not needed here.
    model.load_state_dict(model.recipe.state_dict(prefix=RECIPE) | state)
    return model.eval().requires_grad_(False)


def check_scene_of_state(state: dict[str, Tensor], scene: SceneInfo, run: Run, role: str) -> None:
    """Raise ValueError unless a mixture's state is that of this scene and these frames."""
    described = _outermost_description(state)
    assert described is not None
    stored = stored_scene(without_prefix(state, described.removesuffix("num_frames")))
    check_same_scene(stored, scene, run, role=role)


def check_number_of_frames(state: dict[str, Any], scene: SceneInfo) -> None:
    """Raise ValueError if the data have other frames than the model of this state was trained on:
    its times would be those of other instants."""
    described = _outermost_description(state)
    count = None if described is None else state[described]
    if isinstance(count, Tensor) and count.numel() == 1 and int(count) != scene.num_frames:
        raise ValueError(
            f"Expected the {int(count)} frames that the run was trained on, but its data have "
            f"{scene.num_frames}; restore the recordings, or the --data and --frames of its "
            "training."
        )


def _outermost_description(state: dict[str, Any]) -> str | None:
    """Name of the number of frames; of the outermost, should an expert be made of others."""
    names = (name for name in state if name.endswith(".num_frames"))
    return min(names, key=lambda name: name.count("."), default=None)
