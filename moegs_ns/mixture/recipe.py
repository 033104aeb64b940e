"""Training of the router (MoE-GS, appendix B.1): frozen experts, one view per step."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from nerfstudio.configs.base_config import InstantiateConfig
from torch import Tensor, nn

from moegs_ns.scene import FrameTable
from moegs_ns.training.losses import SSIM_LAMBDA, Supervision
from moegs_ns.training.samplers import Sampler, ShuffledSampler


@dataclass
class RouterRecipeConfig(InstantiateConfig):
    """How the router is trained."""

    _target: type = field(default_factory=lambda: RouterRecipe)
    ssim_lambda: float = SSIM_LAMBDA
    """Weight of the D-SSIM term of the loss."""
    weight_gate_change: float = 0.0
    """Weight of the mean change of the gates from one frame to the next in the same camera. Above 0
    every step also renders the neighbouring frame."""


class RouterRecipe(nn.Module):
    """All training images in shuffled passes, the standard loss on the mixture's image."""

    def __init__(self, config: RouterRecipeConfig, seed: int) -> None:
        super().__init__()
        self.config = config
        self.generator = torch.Generator().manual_seed(seed)
        self.sampler: Sampler | None = None
        self.supervision = Supervision()

    def make_sampler(self, table: FrameTable) -> Sampler:
        """The sampler of training images, which this recipe keeps and saves."""
        self.sampler = ShuffledSampler(table, 1, self.generator.initial_seed())
        return self.sampler

    def loss_terms(
        self,
        image: Float[Tensor, "H W 3"],
        target: Float[Tensor, "H W 3"],
        gates: Sequence[Float[Tensor, "E H W 1"]] = (),
    ) -> dict[str, Tensor]:
        """Named losses of a step; their sum is minimised.

        `gates` are those of the image and, where their change is penalised, one frame apart.
        """
        errors = self.supervision.plain_errors(image[None], target[None], self.config.ssim_lambda)
        losses = {"photometric": errors.loss}
        if len(gates) == 2:
            change = (gates[0] - gates[1]).abs().mean()
            losses["gate_change"] = self.config.weight_gate_change * change
        return losses

    def get_extra_state(self) -> dict[str, Any]:
        """State for an exact resume."""
        return {"sampler": {} if self.sampler is None else self.sampler.state_dict()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore `get_extra_state`."""
        if self.sampler is not None and state["sampler"]:
            self.sampler.load_state_dict(state["sampler"])
