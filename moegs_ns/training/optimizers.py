"""Adam and RAdam that step all parameters of a group in one launch on a GPU.

Scenes are trained for tens of thousands of short steps, in which what is launched costs more than
what is computed.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

LARGE = 1e8
"""Beside this the root of a second moment vanishes."""


class FusedAdam(torch.optim.Adam):
    """torch's Adam, fused on a GPU; loads states that were saved on another kind of device."""

    def __init__(self, params: list[Parameter], **options: Any) -> None:
        params = list(params)
        is_fused = all(parameter.is_cuda for parameter in params)
        super().__init__(params, fused=is_fused, foreach=False, **options)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:  # type: ignore[override]
        """See torch, whose own way to its kernel takes the host several times as long."""
        is_plain = closure is None and all(is_plain_fused(group) for group in self.param_groups)
        if not is_plain:
            return super().step(closure)
        for group in self.param_groups:
            self._step_group(group)
        return None

    def _step_group(self, group: dict[str, Any]) -> None:
        parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
        if not parameters:
            return
        states = [self._state_of(parameter) for parameter in parameters]
        steps, first, second = (
            [state[name] for state in states] for name in ("step", "exp_avg", "exp_avg_sq")
        )
        torch._foreach_add_(steps, 1)  # pyright: ignore[reportPrivateImportUsage]
        torch._fused_adam_(  # pyright: ignore[reportPrivateImportUsage]
            parameters, [parameter.grad for parameter in parameters], first, second, [], steps,
            lr=group["lr"], beta1=group["betas"][0], beta2=group["betas"][1], eps=group["eps"],
            weight_decay=group["weight_decay"], amsgrad=False, maximize=False,
            grad_scale=None, found_inf=None,
        )  # fmt: skip

    def _state_of(self, parameter: Parameter) -> dict[str, Tensor]:
        """Moments and number of steps, zero at first, under torch's names."""
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        return state

    def zero_grad(self, set_to_none: bool = True) -> None:
        """See torch."""
        if not set_to_none:
            super().zero_grad(set_to_none)
            return
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See torch; how to step is decided by where the parameters are now."""
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


def is_plain_fused(group: dict[str, Any]) -> bool:
    """Whether a group is stepped by the fused kernel without any of torch's variants."""
    return bool(group["fused"]) and not group["amsgrad"] and not group["maximize"]


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
    """Let optimisers train one parameter in the place of another, whose state goes on.

    `rows` makes the state of the new parameter from that of the old one, as far as that has the
    parameter's shape. Giving the old parameter other rows instead would not do: as long as anything
    holds the last step's graph, torch expects gradients of the old shape.
    """
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["params"] = [new if each is old else each for each in group["params"]]
        if old in optimizer.state:
            optimizer.state[new] = {
                name: rows(value) if value.shape == old.shape else value
                for name, value in optimizer.state.pop(old).items()
            }
