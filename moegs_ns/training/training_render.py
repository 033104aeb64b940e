"""What recipes see of a training step."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from moegs_ns.cameras import View
from moegs_ns.splatting import RenderOutput


@dataclass(frozen=True, eq=False)
class TrainingRender:
    """One time of a training step: what was rendered, and what it should look like."""

    render: RenderOutput
    view: View
    image: Float[Tensor, "C H W 3"]
    """Shaded and laid over the background."""
    target: Float[Tensor, "C H W 3"]
    indices: Int[Tensor, "C"]
    """Rows of the frame table."""
