"""What decides how a method trains, read from its configuration."""

from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from nerfstudio.configs.method_configs import all_methods

DECISIVE = ("expert.", "recipe.", "router.", "prune.", "gates.", "temperature")
"""What the names of settings of a model begin with that decide how it trains."""


@dataclass(frozen=True)
class Rate:
    """The optimiser of a parameter group, its learning rate and how that falls."""

    optimizer: str
    lr: float
    eps: float
    final_ratio: float = 1.0
    """Learning rate at the end of the decay over the first one; 1 where it is constant."""
    decay_steps: int = 0
    restart_step: int = 0
    weight_decay: float = 0.0
    max_norm: float | None = None


def flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """Every field of nested dataclasses by its dotted name."""
    found = {}
    for field in fields(config):
        value = getattr(config, field.name)
        is_nested = is_dataclass(value)
        found |= (
            flat(value, f"{prefix}{field.name}.") if is_nested else {prefix + field.name: value}
        )
    return found


def settings(method: str) -> dict[str, Any]:
    """All that decides how a method trains."""
    config = all_methods[method]
    found = flat(config.pipeline.model)
    for name, group in config.optimizers.items():
        found |= {f"{name}.{key}": value for key, value in flat(group["optimizer"]).items()}
        found[f"{name}.optimizer"] = group["optimizer"]._target
        if group["scheduler"] is not None:
            found |= {f"{name}.{key}": value for key, value in flat(group["scheduler"]).items()}
    found["max_num_iterations"] = config.max_num_iterations
    found["num_random_points"] = config.pipeline.datamanager.num_random_points
    return found


def decisive_settings(method: str) -> dict[str, Any]:
    """Settings of expert, recipe and router by their dotted names, without the classes; steps;
    and a `Rate` for each parameter group, as `rate.GROUP`."""
    found = {
        name: value
        for name, value in settings(method).items()
        if name.startswith(DECISIVE) and not name.endswith("_target")
    }
    for name, group in all_methods[method].optimizers.items():
        found[f"rate.{name}"] = rate_of(group)
    config = all_methods[method]
    found["steps"] = config.max_num_iterations
    found["num_random_points"] = config.pipeline.datamanager.num_random_points
    return found


def rate_of(group: dict[str, Any]) -> Rate:
    """How nerfstudio is told to train a parameter group."""
    optimizer, schedule = group["optimizer"], group["scheduler"]
    falls = () if schedule is None else (schedule.final_ratio, schedule.max_steps)
    return Rate(
        optimizer._target.__name__,
        optimizer.lr,
        optimizer.eps,
        *falls,
        restart_step=0 if schedule is None else schedule.restart_step,
        weight_decay=optimizer.weight_decay,
        max_norm=optimizer.max_norm,
    )
