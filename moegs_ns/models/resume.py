"""Resuming a training, from the command to the record that it leaves.

1. The options that the command leaves open are those of the run in --load-dir: `resume_expert`
   and `resume_mixture`, called by the models' `check` before anything is written.
2. Its checkpoint is found and looked at before nerfstudio loads it: `check_resumed_checkpoint`. It
   must be of the same scene and clip: `check_resumed_scene`.
3. The training stops at the same total of steps as an uninterrupted one: `remaining_steps`.
4. Its time, which the checkpoint holds, and its origin go on in the record of the new run.
5. In a folder that holds a run nothing else is trained: engine/run_folder.py.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Any

from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.plugins.registry import discover_methods

from moegs_ns.models.trained_mixture import check_scene_of_state
from moegs_ns.runs.checkpoint import (
    CONFIG_NAME,
    MODEL_PREFIX,
    Run,
    find_config,
    load_checkpoint,
    newest_checkpoint,
    read_config,
    step_of,
    training_record,
    without_prefix,
)
from moegs_ns.runs.compact import is_compact
from moegs_ns.scene import SceneInfo

LONGEST = 0
"""Number of steps in a joint method's config that stands for the most that any expert has."""


def resumed_folder(config: TrainerConfig) -> Path | None:
    """The folder of the run that a training goes on from; None for a new training."""
    if config.load_dir is not None:
        return Path(config.load_dir).parent
    return None if config.load_checkpoint is None else Path(config.load_checkpoint).parent.parent


def resumed_record(config: TrainerConfig) -> dict[str, Any]:
    """The record of the run that a training goes on from; empty for a new training."""
    folder = resumed_folder(config)
    return {} if folder is None else training_record(folder)


def resume_expert(config: TrainerConfig) -> None:
    """A resumed expert keeps its teacher, unless the command names another, and the images that it
    leaves out until its finish."""
    model: Any = config.pipeline.model
    folder = resumed_folder(config)
    if folder is None or not (folder / CONFIG_NAME).is_file():
        return
    earlier = read_config(folder / CONFIG_NAME).pipeline.model
    if model.distillation.teacher is None:
        model.distillation = getattr(earlier, "distillation", model.distillation)
    model.honest = getattr(earlier, "honest", model.honest)


def resume_mixture(config: TrainerConfig, kind: type, wanted: str, remedy: str = "") -> Any:
    """A resumed mixture keeps its experts and, where the command leaves them open, its options.

    Returns the earlier run's config; None where the command resumes nothing or names experts.

    Raises:
        ValueError: the model of the run to resume is not of the `kind` that is trained; the
            message says what is `wanted`, and the `remedy` for another run.
    """
    model: Any = config.pipeline.model
    folder = resumed_folder(config)
    if folder is None or model.experts or model.mixture_run is not None:
        return None
    earlier = read_config(find_config(folder))
    before = earlier.pipeline.model
    if not isinstance(before, kind):
        raise ValueError(
            f"Expected the run of {wanted} to resume, but {folder} is that of "
            f"'{earlier.method_name}'; resume it with that method{remedy}."
        )
    pruned = () if before.mixture_run is None else ("mixture_run", "prune")
    for name in ("experts", "expert_models", "expert_names", *pruned):
        setattr(model, name, getattr(before, name))
    model.honest = getattr(before, "honest", model.honest)
    model.stacking = getattr(before, "stacking", model.stacking)
    take_over(config, earlier)
    return earlier


def take_over(config: TrainerConfig, earlier: TrainerConfig) -> None:
    """Go on as an earlier run of a mixture was trained: its router, temperature, gates, recipe and
    rates stand wherever the command leaves the method's own."""
    method: Any = discover_methods()[0][config.method_name or ""]
    model, default, before = (each.pipeline.model for each in (config, method, earlier))
    for name in ("router", "temperature", "gates", "recipe"):
        if getattr(model, name) == getattr(default, name):
            setattr(model, name, getattr(before, name, getattr(default, name)))
    config.optimizers = {
        group: earlier.optimizers.get(group, settings)
        if settings == method.optimizers.get(group)
        else settings
        for group, settings in config.optimizers.items()
    }


def check_resumed_checkpoint(config: TrainerConfig) -> dict[str, Any] | None:
    """Find the checkpoint to go on from, name it to nerfstudio, and look into it.

    Returns:
        Its content, whose tensors stay in the file until they are used; None for a new training.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, that of something else, or that of a compact run.
    """
    path = config.load_checkpoint
    if config.load_dir is not None:
        folder = Path(config.load_dir)
        if config.load_step is None:
            # nerfstudio reads a step from the name of every file in the folder.
            config.load_step = step_of(newest_checkpoint(folder))
        path = folder / f"step-{config.load_step:09d}.ckpt"
    if path is None:
        return None
    # Mapped, not read: the state of the optimisers is large.
    content = load_checkpoint(path, is_mapped=True)
    if is_compact(content["pipeline"]):
        raise ValueError(
            f"Expected a run whose training can go on, but {path} is that of a compact one, which "
            "has no state of the optimisers; resume the run that it was exported from."
        )
    missing = [name for name in ("step", "optimizers", "scalers") if name not in content]
    if missing:
        raise ValueError(
            f"Expected a checkpoint that a training can go on from, but {path} has no "
            f"'{missing[0]}'; name one that ns-train wrote."
        )
    return content


def check_resumed_scene(config: TrainerConfig, content: dict[str, Any], scene: SceneInfo) -> None:
    """Raise ValueError unless the checkpoint to go on from was trained on this scene and clip."""
    folder = resumed_folder(config)
    assert folder is not None
    is_known = (folder / CONFIG_NAME).is_file()
    earlier = read_config(folder / CONFIG_NAME) if is_known else config
    run = Run(folder / CONFIG_NAME if is_known else folder, earlier, folder)
    state = without_prefix(content["pipeline"], MODEL_PREFIX)
    # One of another kind is refused where its names are looked at.
    if any(name.endswith(".num_frames") for name in state):
        check_scene_of_state(state, scene, run, role="a run to go on with")


def remaining_steps(total: int, start: int) -> int:
    """`max_num_iterations` as this nerfstudio reads it, for a training that ends at `total` steps.

    Versions until 1.1.5 train so many further steps, later ones until that step.
    """
    numbers = tuple(int(part) for part in version("nerfstudio").split(".")[:3] if part.isdigit())
    return total if numbers > (1, 1, 5) else max(0, total - start)
