"""Resuming a training, from the command to the record that it leaves.

1. The options that the command leaves open are those of the run in --load-dir: `resume_expert`
   and `resume_mixture`, called by the models' `check` before anything is written.
2. Its checkpoint is found and looked at before nerfstudio loads it: `check_resumed_checkpoint`.
3. The training stops at the same total of steps as an uninterrupted one: `remaining_steps`.
4. Its time and origin go on in the record of the new run: `MoegsTrainer._after_train`.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Any

from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.plugins.registry import discover_methods

from moegs_ns.runs.checkpoint import (
    CONFIG_NAME,
    find_config,
    load_checkpoint,
    newest_checkpoint,
    read_config,
    step_of,
)
from moegs_ns.runs.compact import is_compact

LONGEST = 0
"""Number of steps in a joint method's config that stands for the most that any expert has."""


def resume_expert(config: TrainerConfig) -> None:
    """A resumed expert keeps its teacher, unless the command names another, and the images that it
    leaves out until its finish."""
    model: Any = config.pipeline.model
    path = None if config.load_dir is None else Path(config.load_dir).parent / CONFIG_NAME
    if path is None or not path.is_file():
        return
    earlier = read_config(path).pipeline.model
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
    if config.load_dir is None or model.experts or model.mixture_run is not None:
        return None
    earlier = read_config(find_config(Path(config.load_dir).parent))
    before = earlier.pipeline.model
    if not isinstance(before, kind):
        raise ValueError(
            f"Expected the run of {wanted} in --load-dir, but {config.load_dir} is that of "
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


def check_resumed_checkpoint(config: TrainerConfig) -> None:
    """Find the checkpoint to go on from, name it to nerfstudio, and look into it.

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
        return
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


def remaining_steps(total: int, start: int) -> int:
    """`max_num_iterations` as this nerfstudio reads it, for a training that ends at `total` steps.

    Versions until 1.1.5 train so many further steps, later ones until that step.
    """
    numbers = tuple(int(part) for part in version("nerfstudio").split(".")[:3] if part.isdigit())
    return total if numbers > (1, 1, 5) else max(0, total - start)
