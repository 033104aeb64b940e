"""What a recipe sees of a training step, and what images the expert is trained against."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from moegs_ns.cameras import View
from moegs_ns.cuda_graphs.graphed import GraphedCallable
from moegs_ns.gaussians import cat_or_single
from moegs_ns.splatting import RenderOutput
from moegs_ns.training.losses import PhotometricErrors, photometric_errors


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


class Supervision:
    """The training images alone. `mixture.distill` adds those of a teacher."""

    def __init__(self) -> None:
        # One for each weight of D-SSIM, as recipes may alternate between several.
        self._graphed_errors: dict[float, GraphedCallable] = defaultdict(
            lambda: GraphedCallable(errors_for_samplers)
        )

    def errors(
        self, parts: Sequence[TrainingRender], ssim_lambda: float, step: int
    ) -> PhotometricErrors:
        """Loss of a step, a mean over its images, and the errors that samplers judge them by.

        Images come in the order of `parts`.
        """
        images, targets = (
            cat_or_single([getattr(part, name) for part in parts]) for name in ("image", "target")
        )
        return self.plain_errors(images, targets, ssim_lambda)

    def plain_errors(
        self,
        images: Float[Tensor, "C H W 3"],
        targets: Float[Tensor, "C H W 3"],
        ssim_lambda: float,
    ) -> PhotometricErrors:
        """`photometric_errors` as a graphed callable: consume the result before the next call."""
        return self._graphed_errors[ssim_lambda](images, targets, ssim_lambda)

    def report(self) -> dict[str, Any]:
        """What the record of the training says about it."""
        return {}

    def state(self) -> dict[str, Any]:
        """What a resumed training needs for the same report."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore `state`."""


def errors_for_samplers(
    images: Float[Tensor, "C H W 3"], targets: Float[Tensor, "C H W 3"], ssim_lambda: float
) -> PhotometricErrors:
    """`photometric_errors` whose loss alone is differentiable."""
    errors = photometric_errors(images, targets, ssim_lambda)
    return replace(errors, l1=errors.l1.detach())
