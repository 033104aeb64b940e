"""Adam and RAdam with one fused kernel launch per group on a GPU, and schedules of their rates.

Steps of schedules are those of the full budget: scaled when they are read, never written back.

Small scenes are bound by the host and by kernel launches, and nerfstudio has one optimiser per
parameter group. Sixteen of torch's `Adam(fused=True)` take the host 1.1 ms to step and 0.23 ms to
clear gradients; these take 0.7 ms and 6 µs (H200, torch 2.11).
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from nerfstudio.engine.schedulers import Scheduler, SchedulerConfig
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

LARGE = 1e8
"""An eps beside which the root of a second moment vanishes."""


class FusedAdam(torch.optim.Adam):
    """torch's Adam, fused on a GPU; loads states that were saved on another kind of device."""

    def __init__(
        self,
        params: Iterable[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        params = list(params)
        is_fused = all(parameter.is_cuda for parameter in params)
        super().__init__(params, lr, betas, eps, weight_decay, fused=is_fused, foreach=False)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:  # type: ignore[override]
        """torch's step; once its state exists, its kernel is called directly."""
        trained = [[p for p in g["params"] if p.grad is not None] for g in self.param_groups]
        is_new = not all(self.state.get(p) for parameters in trained for p in parameters)
        if closure is not None or is_new or not self.defaults["fused"]:
            return super().step(closure)
        for group, parameters in zip(self.param_groups, trained, strict=True):
            if not parameters:
                continue
            steps, first, second = (
                [self.state[p][name] for p in parameters]
                for name in ("step", "exp_avg", "exp_avg_sq")
            )
            torch._foreach_add_(steps, 1)  # pyright: ignore[reportPrivateImportUsage]
            torch._fused_adam_(  # pyright: ignore[reportPrivateImportUsage]
                parameters, [p.grad for p in parameters], first, second, [], steps,
                lr=group["lr"], beta1=group["betas"][0], beta2=group["betas"][1], eps=group["eps"],
                weight_decay=group["weight_decay"], amsgrad=False, maximize=False,
            )  # fmt: skip
        return None

    def zero_grad(self, set_to_none: bool = True) -> None:
        """See torch, which also asks its profiler at every call."""
        if not set_to_none:
            super().zero_grad(set_to_none)
            return
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See torch; whether to fuse is decided by where the parameters are now."""
        own = {name: self.defaults[name] for name in ("fused", "foreach")}
        groups = [{**group, **own} for group in state_dict["param_groups"]]
        super().load_state_dict({**state_dict, "param_groups": groups})


class FusedRAdam(FusedAdam):
    """RAdam (Liu et al., ICLR 2020) by Adam's kernel: rate and eps carry the rectification.

    Equal to torch.optim.RAdam: its eps is added before the second moment's bias is corrected, and
    its first steps, in which the variance of the second moment is unbounded, are plain momentum.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:  # type: ignore[override]
        """See torch; all parameters of a group are stepped together or not at all."""
        published = [(group["lr"], group["eps"]) for group in self.param_groups]
        for group in self.param_groups:
            is_new = not any(self.state.get(parameter) for parameter in group["params"])
            group["steps"] = 1 if is_new else group.get("steps", 0) + 1
            factor, eps = rectification(group["steps"], group["betas"][1], group["eps"])
            group["lr"], group["eps"] = group["lr"] * factor, eps
        try:
            return super().step(closure)
        finally:
            for group, (lr, eps) in zip(self.param_groups, published, strict=True):
                group["lr"], group["eps"] = lr, eps


def rectification(step: int, beta2: float, eps: float) -> tuple[float, float]:
    """Factor of the rate and eps with which Adam's step number `step` (from 1) is RAdam's."""
    largest = 2.0 / (1.0 - beta2) - 1.0
    correction = 1.0 - beta2**step
    length = largest - 2.0 * step * beta2**step / correction
    if length <= 5.0:
        return LARGE, LARGE
    numerator = (length - 4.0) * (length - 2.0) * largest
    denominator = (largest - 4.0) * (largest - 2.0) * length
    return math.sqrt(numerator / denominator), eps / math.sqrt(correction)


def replace_parameter(
    optimizers: Iterable[Optimizer],
    old: Parameter,
    new: Parameter,
    rows: Callable[[Tensor], Tensor] = lambda values: values,
) -> None:
    """Let optimisers train `new` in place of `old`, with the state that `rows` makes of the old.

    `rows` is applied to state of the parameter's shape. Resizing the old parameter instead would
    fail: while anything holds the last step's graph, torch expects gradients of the old shape.
    """
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["params"] = [new if each is old else each for each in group["params"]]
        if old in optimizer.state:
            optimizer.state[new] = {
                name: rows(value) if value.shape == old.shape else value
                for name, value in optimizer.state.pop(old).items()
            }


# ---- schedules ----


def scaled_steps(steps: int, budget: float) -> int:
    """`steps` of the published recipe at a fraction `budget` of it; at least 1."""
    return max(1, round(steps * budget))


def is_due(step: int, every: int, start: int, stop: int) -> bool:
    """Whether something that happens every `every` steps in (start, stop] happens at `step`.

    `step` counts finished steps, so the first step of a run is 1.
    """
    return start < step <= stop and step % every == 0


@dataclass
class LogLinearSchedulerConfig(SchedulerConfig):
    """Learning rate that falls on a straight line in the logarithm, and may start anew once.

    Ratios are plain Python floats, so that checkpoints load with every release of torch.
    """

    _target: type = field(default_factory=lambda: LogLinearScheduler)
    final_ratio: float = 0.01
    """Learning rate at `max_steps` as a fraction of the first one."""
    max_steps: int = 30000
    """Steps of the decay; the rate stays constant afterwards."""
    restart_step: int = 0
    """Step at which the decay starts again from the first rate; 0 means never."""

    def scaled(self, budget: float) -> "LogLinearSchedulerConfig":
        """The schedule of a run that gets a fraction `budget` of the steps."""
        restart = scaled_steps(self.restart_step, budget) if self.restart_step else 0
        return replace(self, max_steps=scaled_steps(self.max_steps, budget), restart_step=restart)

    def ratio(self, step: int) -> float:
        """Learning rate at `step` over the first one."""
        since = step - self.restart_step if step >= self.restart_step else step
        return float(self.final_ratio ** min(1.0, since / self.max_steps))


class LogLinearScheduler(Scheduler):
    """Makes a torch scheduler of `LogLinearSchedulerConfig`."""

    config: LogLinearSchedulerConfig

    def get_scheduler(self, optimizer: Optimizer, lr_init: float) -> LRScheduler:
        """See nerfstudio; `lr_init` is already the optimiser's base rate."""
        # A lambda, of which torch writes nothing into checkpoints.
        return PlainLambdaLR(optimizer, lambda step: self.config.ratio(step))  # noqa: PLW0108


class PlainLambdaLR(LambdaLR):
    """torch's LambdaLR without its checks of how it is used, which take longer than the rate."""

    def step(self, epoch: int | None = None) -> None:
        if epoch is not None or self.last_epoch < 0:
            super().step(epoch)
            return
        self._step_count += 1
        self.last_epoch += 1
        self._last_lr = [
            base * ratio(self.last_epoch)
            for base, ratio in zip(self.base_lrs, self.lr_lambdas, strict=True)
        ]
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate


def multiply_learning_rate(
    optimizer: Optimizer, scheduler: LRScheduler | None, factor: float
) -> None:
    """Scale the rate that an optimiser has now and every rate that its scheduler will give."""
    for group in optimizer.param_groups:
        group["lr"] = float(group["lr"]) * factor
        if "initial_lr" in group:
            group["initial_lr"] = float(group["initial_lr"]) * factor
    if scheduler is not None:
        scheduler.base_lrs = [float(rate) * factor for rate in scheduler.base_lrs]
