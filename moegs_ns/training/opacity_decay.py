"""Opacities that fall a little in every step in which a Gaussian is seen (4C4D, CVPR 2026): what
the images do not keep up vanishes, without resets that hide everything at once."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import softplus


@dataclass
class OpacityDecayConfig:
    """By how much and from when on opacities fall; comes in place of a recipe's resets."""

    factor: float = 1.0
    """Opacity of what a step shows, after the step over before; 4C4D has 0.996 to 0.998 with four
    cameras. 1 for no decay and the resets of the recipe. Like learning rates it is that of a step,
    whatever the budget."""
    start: int = 500
    """Step of the full recipe after which opacities fall, until the end."""

    def check(self) -> None:
        """Raise ValueError for a factor that would remove everything, or be none of decay."""
        if not 0.0 < self.factor <= 1.0:
            raise ValueError(
                "--pipeline.model.recipe.opacity-decay.factor expects a number above 0 and at most "
                f"1, got {self.factor}; 1 is for none."
            )


@torch.no_grad()
def decay_opacities(logits: Float[Tensor, "N"], is_seen: Bool[Tensor, "N"], factor: float) -> None:
    """Multiply the opacities of the marked Gaussians by a factor below 1, in place."""
    # The logit of factor * sigmoid(x), which stays finite wherever x is.
    fallen = logits + math.log(factor) - softplus(logits + math.log1p(-factor))
    logits.copy_(torch.where(is_seen, fallen, logits))
