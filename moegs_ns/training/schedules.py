"""Schedules: steps at full budget, scaled when they are read and never written back."""

from dataclasses import dataclass, field, replace

from nerfstudio.engine.schedulers import Scheduler, SchedulerConfig
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler


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
        return PlainLambdaLR(optimizer, self.config.ratio)


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


def clear_moments(optimizer: Optimizer) -> None:
    """Forget the running averages, as a newly made optimiser would."""
    optimizer.state.clear()
