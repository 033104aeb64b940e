"""What the datamanager asks of a sampler; the samplers themselves are in `moegs_ns.samplers`."""

from typing import Any, Protocol

from jaxtyping import Float, Int
from torch import Tensor

from moegs_ns.samplers import SameTimeSampler, ShuffledSampler

__all__ = ["FrameSampler", "SameTimeSampler", "ShuffledSampler", "peek"]


class FrameSampler(Protocol):
    """Chooses rows of the frame table; recipes bring their own."""

    def next(self, step: int) -> Int[Tensor, "V"]:
        """Rows of the frame table to train on at this step."""
        ...

    def observe(
        self, indices: Int[Tensor, "V"], l1: Float[Tensor, "V"], ssim: Float[Tensor, "V"] | None
    ) -> None:
        """Take note of the errors of images that were just trained on."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next draws depend on, as tensors and plain types."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        ...


def peek(sampler: FrameSampler, step: int) -> Int[Tensor, "V"]:
    """What `next` will return if nothing changes until then; leaves the sampler as it was."""
    state = sampler.state_dict()
    try:
        return sampler.next(step)
    finally:
        sampler.load_state_dict(state)
